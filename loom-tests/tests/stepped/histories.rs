//! Random histories of virtual threads. A history also has the schedule of their steps, so a failing one can
//! be repeated and shrunk.
//!
//! A history is a list of rounds. In a round each thread runs one or two operations, interleaved step by
//! step. After the round no operation is under way. Properties:
//! 1. after each round a request is granted exactly if no earlier conflicting request is outstanding;
//! 2. at no step do two conflicting requests hold their locks;
//! 3. a request that starts after another one has returned gets a larger token;
//! 4. after each round the statistics, the listing and the blockers of each request agree with the handles;
//! 5. a lock that is being narrowed holds the new set all the time;
//! 6. at the end no request is left.

use crate::shared::{Outstanding, check, conflict, set};
use crate::steps::without_steps;
use crate::{Lock, LockManager, Options, Path, Resource, Work};
use generator::{Generator, Gn};
use locktopus_loom_tests::{Mutation, with};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

const THREADS: usize = 3;
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
    /// What the locks hold that are being narrowed, by their tokens.
    narrowing: Mutex<BTreeMap<u64, Vec<Resource>>>,
    works: Mutex<Vec<Work>>,
    /// The largest token that was returned.
    newest: AtomicU64,
}

impl World {
    /// Requests rest at their first release.
    fn new() -> World {
        World {
            locks: LockManager::with(Options::new().places(8).eager()),
            outstanding: Mutex::default(),
            narrowing: Mutex::default(),
            works: Mutex::default(),
            newest: AtomicU64::new(0),
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
    fn narrowing(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Resource>>> {
        self.narrowing.lock().expect("no panic")
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
        self.narrowing().insert(lock.token(), set.clone());
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
                self.narrowing().remove(&lock.token());
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
        let before = self.newest.load(Relaxed);
        let entered: Option<Outstanding> = match operation {
            Operation::Enqueue(set) => Some(self.locks.enqueue(set.clone()).expect("open").into()),
            Operation::TryLock(set) => {
                let tried = self.locks.try_lock(set.clone()).expect("open");
                tried.map(Outstanding::from)
            }
            Operation::Restore(above, set) => {
                let restored = self.locks.restore(before + above, set.clone());
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
            Operation::Nothing => None,
        };
        if let Some(request) = entered {
            let token = request.token();
            assert!(token > before, "{token} came after {before}");
            self.newest.fetch_max(token, Relaxed);
            self.outstanding().push(request);
        }
    }

    fn check_exclusion(&self) {
        let (outstanding, narrowing) = (self.outstanding(), self.narrowing());
        let held: Vec<&[Resource]> = (outstanding.iter())
            .filter(|request| request.is_acquired())
            .map(Outstanding::resources)
            .chain(narrowing.values().map(Vec::as_slice))
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
