//! Random histories of several virtual threads, interleaved step by step as the history says, so
//! that a failure can be repeated and made small.
//!
//! A history is a list of rounds. In a round each thread does one or two operations, all interleaved; after
//! it, when nothing is under way, everything is compared with the oracle. Properties:
//! 1. after each round a request is granted exactly when no earlier, conflicting one is outstanding;
//! 2. at no step do two conflicting requests hold their locks;
//! 3. a request that starts after another has returned gets a larger token;
//! 4. statistics and listing say the same as the handles after each round;
//! 5. at the end nothing is left.

use crate::outstanding::Outstanding;
use crate::{LockManager, Path, RequestState, Resource};
use generator::{Generator, Gn};
use locktopus_loom_tests::{Mutation, with};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

const THREADS: usize = 3;
/// Of a virtual thread, in words.
const STACK: usize = 16 * 1024;

#[derive(Debug, Clone)]
enum Operation {
    Lock(Vec<Resource>),
    TryLock(Vec<Resource>),
    /// Releases or withdraws one of the outstanding, by an index taken modulo their number.
    End(usize),
    Nothing,
}

#[derive(Debug, Clone)]
struct Round {
    operations: [Vec<Operation>; THREADS],
    /// Which thread goes on, modulo those still under way, and for how many steps; repeated if too
    /// short.
    schedule: Vec<(usize, usize)>,
}

fn resource() -> impl Strategy<Value = Resource> {
    let segment = prop::sample::select(vec!["a", "b"]);
    let path = prop::collection::vec(segment, 0..7).prop_map(Path::from);
    (path, any::<bool>()).prop_map(|(path, write)| {
        if write {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let set = || prop::collection::vec(resource(), 1..4);
    prop_oneof![
        8 => set().prop_map(Operation::Lock),
        2 => set().prop_map(Operation::TryLock),
        8 => any::<usize>().prop_map(Operation::End),
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

/// What all virtual threads see.
#[derive(Default)]
struct World {
    locks: LockManager,
    /// What is outstanding, of requests that have returned and of which no end has begun.
    outstanding: Mutex<Vec<Outstanding>>,
    /// The largest token that has been returned.
    newest: AtomicU64,
}

fn conflict(one: &Outstanding, other: &Outstanding) -> bool {
    let others = other.resources();
    one.resources()
        .iter()
        .any(|a| others.iter().any(|b| a.conflicts_with(b)))
}

impl World {
    /// Not to be kept across a step.
    fn outstanding(&self) -> MutexGuard<'_, Vec<Outstanding>> {
        self.outstanding.lock().expect("no panic")
    }

    fn run(&self, operation: &Operation) {
        let before = self.newest.load(Relaxed);
        let locked = match operation {
            Operation::Lock(set) => {
                let pending = self.locks.enqueue(set.clone()).expect("open");
                Some(Outstanding::from(pending))
            }
            Operation::TryLock(set) => {
                let tried = self.locks.try_lock(set.clone()).expect("open");
                tried.map(Outstanding::from)
            }
            Operation::End(index) => {
                let mut outstanding = self.outstanding();
                let count = outstanding.len();
                let ended = (count > 0).then(|| outstanding.swap_remove(index % count));
                drop(outstanding);
                drop(ended);
                None
            }
            Operation::Nothing => None,
        };
        if let Some(locked) = locked {
            let token = locked.token();
            assert!(token > before, "{token} came after {before}");
            self.newest.fetch_max(token, Relaxed);
            self.outstanding().push(locked);
        }
    }

    fn check_exclusion(&self) {
        let outstanding = self.outstanding();
        let held: Vec<&Outstanding> = outstanding
            .iter()
            .filter(|lock| lock.is_acquired())
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
        let mut outstanding = self.outstanding();
        outstanding.sort_by_key(Outstanding::token);
        let mut listed: Vec<_> = self.locks.requests().collect();
        listed.sort_by_key(|request| request.token);
        assert_eq!(listed.len(), outstanding.len());
        let mut acquired = 0;
        for (index, (one, info)) in outstanding.iter().zip(&listed).enumerate() {
            let blocked = outstanding[..index]
                .iter()
                .any(|other| conflict(one, other));
            assert_eq!(one.is_acquired(), !blocked, "{one:?}");
            assert_eq!(
                (one.token(), one.is_acquired()),
                (info.token, info.state == RequestState::Acquired)
            );
            assert_eq!(info.waits_for.is_some(), blocked);
            acquired += usize::from(!blocked);
        }
        let stats = self.locks.stats();
        assert_eq!(
            (stats.acquired, stats.waiting),
            (acquired, outstanding.len() - acquired)
        );
        let resources: usize = outstanding.iter().map(|lock| lock.resources().len()).sum();
        assert_eq!(stats.resources, resources);
    }
}

fn run(rounds: Vec<Round>) {
    let world = Arc::new(World::default());
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
            // True at the end of its operations, false at a step; none if it panicked.
            let ended = (0..steps).any(|_| under_way[thread].resume().expect("it goes on"));
            if ended {
                drop(under_way.swap_remove(thread));
            }
            world.check_exclusion();
            if under_way.is_empty() {
                break;
            }
        }
        world.check_all();
    }
    drop(std::mem::take(&mut *world.outstanding()));
    let stats = world.locks.stats();
    assert_eq!((stats.acquired, stats.waiting, stats.resources), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(
            std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000)
        )
    })]

    #[test]
    fn engine_and_oracle_agree_after_every_round(rounds in prop::collection::vec(round(), 1..=10)) {
        run(rounds);
    }
}

/// Random interleavings find these defects, too; the others need the models.
#[test]
fn mutations_are_noticed() {
    for mutation in [
        Mutation::NoHelping,
        Mutation::TakeBeforeSetting,
        Mutation::NoLookAfterPush,
        Mutation::NoAnnouncement,
        Mutation::ResumePastTheSpan,
        Mutation::PurgeForgetsTheNew,
        Mutation::CountEveryGrant,
    ] {
        let config = ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::with_cases(5000)
        };
        let histories = prop::collection::vec(round(), 1..=10);
        let found =
            with(mutation, || {
                TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
                    .run(&histories, |rounds| {
                        run(rounds);
                        Ok(())
                    })
            });
        assert!(found.is_err(), "no history notices {mutation:?}");
    }
}
