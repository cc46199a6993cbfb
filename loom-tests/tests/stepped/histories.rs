//! Random histories of virtual threads. A history also has the schedule of their steps, so a failing one can
//! be repeated and shrunk.
//!
//! A history is a list of rounds. In a round each thread runs one or two operations, interleaved step by
//! step. After the round no operation is under way. Properties:
//! 1. after each round a request is granted exactly if no earlier conflicting request is outstanding;
//! 2. at no step do two conflicting requests hold their locks;
//! 3. a request that starts after a conflicting one has returned gets a larger token;
//! 4. after each round the statistics, the listing and the blockers of each request agree with the handles;
//! 5. after each round a lock was told of each request that has begun to wait for it since the round before;
//! 6. a lock that is being narrowed holds the new set all the time;
//! 7. at the end no request is left.

use crate::shared::{Outstanding, check, conflict, set};
use crate::steps::{step, without_steps};
use crate::{Lock, LockManager, Options, Path, PreparedSet, RequestInfo, Resource, Wanted, Work};
use generator::{Generator, Gn};
use locktopus_loom_tests::{Mutation, with};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

const THREADS: usize = 3;
/// The largest number of prepared sets that rest.
const PREPARED: usize = 4;
/// The stack of a virtual thread, in words.
const STACK: usize = 16 * 1024;

#[derive(Debug, Clone)]
enum Operation {
    Enqueue(Vec<Resource>),
    TryLock(Vec<Resource>),
    /// Takes the place of a token, which is so much larger than the last one that was returned. It may be refused.
    Restore(u64, Vec<Resource>),
    /// Releases or withdraws an outstanding request. The index is taken modulo their number.
    End(usize),
    /// Narrows a lock, by an index as above, at once or in a `Work`.
    Narrow(usize, Vec<Part>, bool),
    /// A step of a `Work`, by an index as above.
    Work(usize),
    /// Locks a prepared set, by an index as above, or a new one. Goes on after so many steps, and releases or withdraws.
    Prepared(usize, Vec<Resource>, usize),
    /// Arms an outstanding request if it holds its lock.
    Arm(usize),
    Nothing,
}

/// A part of a lock: below a resource of this index, modulo their number, and perhaps for read only.
#[derive(Debug, Clone)]
struct Part {
    index: usize,
    below: Vec<&'static str>,
    is_read: bool,
}

impl Part {
    fn of(&self, held: &[Resource]) -> Resource {
        let above = &held[self.index % held.len()];
        let segments = above.path.segments().map(|segment| segment.into_owned());
        let path: Path = segments
            .chain(self.below.iter().map(|&s| s.to_owned()))
            .collect();
        match self.is_read {
            true => Resource::read(path),
            false => Resource { path, ..*above },
        }
    }
}

#[derive(Debug, Clone)]
struct Round {
    operations: [Vec<Operation>; THREADS],
    /// The thread that goes on, modulo the number of threads under way, and its number of steps. Repeated
    /// until all threads have ended.
    schedule: Vec<(usize, usize)>,
}

fn segments(depth: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..depth)
}

fn part() -> impl Strategy<Value = Part> {
    let part = (any::<usize>(), segments(3), prop::bool::weighted(0.3));
    part.prop_map(|(index, below, is_read)| Part {
        index,
        below,
        is_read,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let path = segments(7).prop_map(Path::from);
    (path, any::<bool>()).prop_map(|(path, is_write)| {
        if is_write {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    })
}

/// Any sets, and often the same few ones, which rest and are locked again.
fn any_set() -> impl Strategy<Value = Vec<Resource>> {
    let few = vec!["w:a", "r:a", "w:a/b", "r:a/b", "w:b w:a", "w:"];
    prop_oneof![
        1 => prop::collection::vec(resource(), 1..4),
        2 => prop::sample::select(few).prop_map(set),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let set = any_set;
    prop_oneof![
        8 => set().prop_map(Operation::Enqueue),
        2 => set().prop_map(Operation::TryLock),
        2 => (1..6_u64, set()).prop_map(|(above, set)| Operation::Restore(above, set)),
        8 => any::<usize>().prop_map(Operation::End),
        4 => (any::<usize>(), prop::collection::vec(part(), 1..4), any::<bool>())
            .prop_map(|(index, parts, in_steps)| Operation::Narrow(index, parts, in_steps)),
        3 => any::<usize>().prop_map(Operation::Work),
        4 => (any::<usize>(), set(), 0..20_usize)
            .prop_map(|(index, set, steps)| Operation::Prepared(index, set, steps)),
        2 => any::<usize>().prop_map(Operation::Arm),
        1 => Just(Operation::Nothing),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let operations = || prop::collection::vec(operation(), 1..=2);
    let operations = [operations(), operations(), operations()];
    let schedule = prop::collection::vec((0..THREADS, 1_usize..25), 1..20);
    (operations, schedule).prop_map(|(operations, schedule)| Round {
        operations,
        schedule,
    })
}

/// The state that all virtual threads share.
struct World {
    locks: LockManager,
    /// The requests whose entering has ended and whose leaving has not begun.
    outstanding: Mutex<Vec<Outstanding>>,
    /// What other locks hold, by their tokens: those that are being narrowed, and those of prepared sets.
    held: Mutex<BTreeMap<u64, Vec<Resource>>>,
    works: Mutex<Vec<Work>>,
    /// The prepared sets that rest.
    prepared: Mutex<Vec<PreparedSet>>,
    /// The tokens that were returned, and the resources of their requests.
    returned: Mutex<Vec<(u64, Vec<Resource>)>>,
    /// The arms of held locks.
    arms: Mutex<Vec<Armed>>,
}

struct Armed {
    token: u64,
    wanted: Wanted,
    /// The tokens of the requests that waited for the lock after the last round.
    known: BTreeSet<u64>,
}

impl Armed {
    /// After a round: compares what it was told with the listing.
    fn check(&mut self, listed: &[RequestInfo]) {
        let told = pin!(&mut self.wanted).poll(&mut Context::from_waker(Waker::noop()));
        if !listed.iter().any(|one| one.token == self.token) {
            assert_eq!(told, Poll::Ready(false), "the lock is released");
            return;
        }
        assert_ne!(told, Poll::Ready(false), "the lock is held");
        let waits = |one: &&RequestInfo| one.waits_for == Some(self.token);
        let waiting: BTreeSet<u64> = listed.iter().filter(waits).map(|one| one.token).collect();
        assert!(
            told.is_ready() || waiting.is_subset(&self.known),
            "{} was not told of {waiting:?}, but of {:?}",
            self.token,
            self.known
        );
        self.known = waiting;
    }
}

impl World {
    /// Requests rest at their first release.
    fn new() -> World {
        World {
            locks: LockManager::with(Options::new().places(8).eager()),
            outstanding: Mutex::default(),
            held: Mutex::default(),
            works: Mutex::default(),
            prepared: Mutex::default(),
            returned: Mutex::default(),
            arms: Mutex::default(),
        }
    }

    /// Not to be kept across a step.
    fn outstanding(&self) -> MutexGuard<'_, Vec<Outstanding>> {
        self.outstanding.lock().expect("no panic")
    }

    /// Not to be kept across a step.
    fn works(&self) -> MutexGuard<'_, Vec<Work>> {
        self.works.lock().expect("no panic")
    }

    /// Not to be kept across a step.
    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Resource>>> {
        self.held.lock().expect("no panic")
    }

    /// Not to be kept across a step.
    fn prepared(&self) -> MutexGuard<'_, Vec<PreparedSet>> {
        self.prepared.lock().expect("no panic")
    }

    /// Not to be kept across a step.
    fn returned(&self) -> MutexGuard<'_, Vec<(u64, Vec<Resource>)>> {
        self.returned.lock().expect("no panic")
    }

    /// Notes the token of a request. It started when so many tokens had been returned.
    fn return_token(&self, started: usize, token: u64, set: &[Resource]) {
        let mut returned = self.returned();
        for (before, other) in &returned[..started] {
            let is_in_order = token > *before || !conflict(set, other);
            assert!(is_in_order, "{token} came after {before}");
        }
        returned.push((token, set.to_vec()));
    }

    fn lock_prepared(&self, index: usize, set: &[Resource], steps: usize) {
        let mut prepared = without_steps(|| {
            let mut prepared = self.prepared();
            let index = index % PREPARED;
            if index < prepared.len() {
                prepared.swap_remove(index)
            } else {
                let set = self.locks.prepare(set.to_vec());
                set.expect("within the limits")
            }
        });
        let set = prepared.resources().to_vec();
        let started = self.returned().len();
        let pending = prepared.enqueue().expect("open");
        let token = without_steps(|| pending.token());
        self.return_token(started, token, &set);
        for _ in 0..=steps {
            if without_steps(|| pending.is_acquired()) {
                self.held().insert(token, set.clone());
            }
            step();
        }
        self.held().remove(&token);
        drop(pending);
        without_steps(|| self.prepared().push(prepared));
    }

    /// Takes a lock out of the outstanding requests, to narrow it to these parts.
    fn begin_to_narrow(&self, index: usize, parts: &[Part]) -> Option<(Lock, Vec<Resource>)> {
        let mut outstanding = self.outstanding();
        let index = index % outstanding.len().max(1);
        outstanding.get(index).filter(|one| one.is_acquired())?;
        let Outstanding::Held(lock) = outstanding.swap_remove(index).converted() else {
            unreachable!("it was granted");
        };
        let set: Vec<Resource> = parts.iter().map(|part| part.of(lock.resources())).collect();
        self.held().insert(lock.token(), set.clone());
        Some((lock, set))
    }

    fn narrow(&self, index: usize, parts: &[Part], in_steps: bool) {
        let begun = without_steps(|| self.begin_to_narrow(index, parts));
        if let Some((mut lock, set)) = begun {
            if in_steps {
                let work = lock.narrow_in_steps(set).expect("covered");
                self.works().push(work);
            } else {
                lock.narrow(set).expect("covered");
            }
            without_steps(|| {
                self.held().remove(&lock.token());
                self.outstanding().push(lock.into());
            });
        }
    }

    fn step_of_work(&self, index: usize) {
        let work = {
            let mut works = self.works();
            let count = works.len();
            (count > 0).then(|| works.swap_remove(index % count))
        };
        if let Some(mut work) = work
            && !work.step(0)
        {
            self.works().push(work);
        }
    }

    fn run(&self, operation: &Operation) {
        let started = self.returned().len();
        let entered: Option<Outstanding> = match operation {
            Operation::Enqueue(set) => Some(self.locks.enqueue(set.clone()).expect("open").into()),
            Operation::TryLock(set) => {
                let tried = self.locks.try_lock(set.clone()).expect("open");
                tried.map(Outstanding::from)
            }
            Operation::Restore(above, set) => {
                let tokens = self.returned();
                let newest = tokens.iter().map(|(token, _)| *token).max();
                drop(tokens);
                let restored = (self.locks).restore(newest.unwrap_or(0) + above, set.clone());
                restored.ok().map(Outstanding::from)
            }
            Operation::End(index) => {
                let mut outstanding = self.outstanding();
                let count = outstanding.len();
                let ended = (count > 0).then(|| outstanding.swap_remove(index % count));
                drop(outstanding);
                drop(ended);
                None
            }
            Operation::Narrow(index, parts, in_steps) => {
                self.narrow(*index, parts, *in_steps);
                None
            }
            Operation::Work(index) => {
                self.step_of_work(*index);
                None
            }
            Operation::Prepared(index, set, steps) => {
                self.lock_prepared(*index, set, *steps);
                None
            }
            Operation::Arm(index) => {
                let mut outstanding = self.outstanding();
                let count = outstanding.len();
                let request = (count > 0).then(|| outstanding.swap_remove(index % count));
                drop(outstanding);
                let request = request.map(Outstanding::converted);
                if let Some(Outstanding::Held(lock)) = &request {
                    let armed = Armed {
                        token: lock.token(),
                        wanted: lock.wanted(),
                        known: BTreeSet::new(),
                    };
                    // Not to be kept across a step.
                    self.arms.lock().expect("no panic").push(armed);
                }
                self.outstanding().extend(request);
                None
            }
            Operation::Nothing => None,
        };
        if let Some(request) = entered {
            self.return_token(started, request.token(), request.resources());
            self.outstanding().push(request);
        }
    }

    fn check_exclusion(&self) {
        let (outstanding, others) = (self.outstanding(), self.held());
        let held: Vec<&[Resource]> = (outstanding.iter())
            .filter(|request| request.is_acquired())
            .map(Outstanding::resources)
            .chain(others.values().map(Vec::as_slice))
            .collect();
        for (index, one) in held.iter().enumerate() {
            for other in &held[..index] {
                assert!(
                    !conflict(one, other),
                    "both hold their locks: {one:?} and {other:?}"
                );
            }
        }
    }

    fn check_all(&self) {
        self.works().clear();
        let mut outstanding = self.outstanding();
        outstanding.sort_by_key(Outstanding::token);
        check(&self.locks, &outstanding);
        let listed: Vec<_> = self.locks.requests().collect();
        let mut arms = self.arms.lock().expect("no panic");
        arms.iter_mut().for_each(|armed| armed.check(&listed));
        for (index, request) in outstanding.iter().enumerate() {
            let conflicts = |one: &&Outstanding| conflict(request.resources(), one.resources());
            let earlier = outstanding[..index].iter().filter(conflicts);
            let set = request.resources().to_vec();
            let blockers = self.locks.blockers_before(request.token(), set);
            let blockers: BTreeSet<u64> = blockers.expect("a set").map(|one| one.token).collect();
            assert_eq!(blockers, earlier.map(Outstanding::token).collect());
        }
    }
}

fn run(rounds: Vec<Round>) {
    let world = Arc::new(World::new());
    for Round {
        operations,
        schedule,
    } in rounds
    {
        let start = |operations: Vec<Operation>| -> Generator<'static, (), bool> {
            let world = Arc::clone(&world);
            Gn::new_opt(STACK, move || {
                operations.iter().for_each(|operation| world.run(operation));
                true
            })
        };
        let mut under_way: Vec<_> = operations.into_iter().map(start).collect();
        for (thread, steps) in schedule.into_iter().cycle() {
            let thread = thread % under_way.len();
            // `true` at the end of the operations, `false` at a step, `None` after a panic.
            let has_ended = (0..steps).any(|_| under_way[thread].resume().expect("no panic"));
            if has_ended {
                drop(under_way.swap_remove(thread));
            }
            world.check_exclusion();
            if under_way.is_empty() {
                break;
            }
        }
        world.check_all();
    }
    world.outstanding().clear();
    world.check_all();
    world.prepared().clear();
    world.check_all();
}

fn config() -> ProptestConfig {
    let cases = env::var("PROPTEST_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(1000);
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn engine_and_oracle_agree_after_every_round(rounds in prop::collection::vec(round(), 1..=10)) {
        run(rounds);
    }
}

/// Random interleavings find only some of the mutations. The models find the others.
#[test]
fn mutations_are_noticed() {
    for mutation in [
        Mutation::NoHelping,
        Mutation::TakeBeforeSetting,
        Mutation::NoLookAfterTheFirst,
        Mutation::NoAnnouncement,
        Mutation::NoAnnouncementOfTheChain,
        Mutation::TwoFirsts,
        Mutation::TakeOnlyTheChain,
        Mutation::ResumePastTheSpan,
        Mutation::PurgeDropsNewSubscribers,
        Mutation::CountEveryGrant,
        Mutation::NarrowedFirst,
        Mutation::SameBirth,
        Mutation::RemoveBeforeNarrowed,
        Mutation::NeverGivenUp,
        Mutation::LeaveHalfNarrowed,
        Mutation::RestThoughAnnounced,
        Mutation::NoLookAfterAnnouncement,
        Mutation::NearIsNeverChecked,
        Mutation::OwnerBeforeResting,
    ] {
        let config = ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::with_cases(5000)
        };
        let histories = prop::collection::vec(round(), 1..=10);
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let found = with(mutation, || {
            TestRunner::new_with_rng(config, rng).run(&histories, |rounds| {
                run(rounds);
                Ok(())
            })
        });
        assert!(found.is_err(), "no history notices {mutation:?}");
    }
}
