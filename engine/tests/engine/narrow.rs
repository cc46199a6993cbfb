//! Narrowing a lock, by named examples; and the sets for the random histories, which compare it with naive oracles.

use super::waiting::{Task, poll_with};
use super::{enqueue, granted, lock, set};
use locktopus_engine::{Lock, LockError, LockManager, NarrowError, Path, Pending, Resource, Work};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// How to make a set that another one covers: each part is below a resource of the other set, by index, and perhaps
/// for read only. A stray resource may not be covered.
#[derive(Debug, Clone)]
pub(crate) struct Narrower {
    parts: Vec<(usize, Vec<&'static str>, bool)>,
    stray: Option<Resource>,
}

pub(crate) fn narrower(stray: impl Strategy<Value = Resource>) -> impl Strategy<Value = Narrower> {
    let below = prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3);
    let part = (any::<usize>(), below, prop::bool::weighted(0.3));
    let parts = prop::collection::vec(part, 0..4);
    let stray = prop::option::weighted(0.1, stray);
    (parts, stray).prop_map(|(parts, stray)| Narrower { parts, stray })
}

impl Narrower {
    pub(crate) fn narrow(&self, held: &[Resource]) -> Vec<Resource> {
        let part = |(index, below, is_read): &(usize, Vec<&'static str>, bool)| {
            let above = &held[index % held.len()];
            let segments = above.path.segments().map(|segment| segment.into_owned());
            let path: Path = segments
                .chain(below.iter().map(|&s| s.to_owned()))
                .collect();
            match is_read {
                true => Resource::read(path),
                false => Resource { path, ..*above },
            }
        };
        self.parts
            .iter()
            .map(part)
            .chain(self.stray.clone())
            .collect()
    }
}

/// What narrowing these resources to that set must answer.
pub(crate) fn expected(held: &[Resource], set: &[Resource]) -> Result<(), NarrowError> {
    let is_covered = |new: &Resource| {
        let read = Resource::read(new.path.clone());
        let covers = |old: &Resource| {
            old.path.contains(&new.path) && (*new == read || old.conflicts_with(&read))
        };
        held.iter().any(covers)
    };
    let not_covered = set.iter().filter(|new| !is_covered(new));
    match not_covered.min_by_key(|new| (new.path.clone(), new.mode)) {
        _ if set.is_empty() => Err(NarrowError::BadSet(LockError::NoResources)),
        Some(resource) => Err(NarrowError::NotCovered {
            resource: resource.clone(),
        }),
        None => Ok(()),
    }
}

fn finish(mut work: Work) -> usize {
    (1..1_000_000).find(|_| work.step(0)).expect("it ends")
}

/// Narrows a lock before a request that waits for it, whole and in steps: whether that request is granted.
fn lets_in(held: &str, narrowed: &str, waiting: &str) -> bool {
    let [whole, in_steps] = [false, true].map(|in_steps| {
        let locks = LockManager::new();
        let mut holder = lock(&locks, held);
        let waiter = enqueue(&locks, waiting);
        assert!(!waiter.is_acquired());
        let token = holder.token();
        if in_steps {
            finish(holder.narrow_in_steps(set(narrowed)).expect("covered"));
        } else {
            holder.narrow(set(narrowed)).expect("covered");
        }
        assert_eq!(holder.token(), token);
        assert_eq!(holder.resources(), set(narrowed));
        let is_in = waiter.is_acquired();
        assert_eq!(
            enqueue(&locks, waiting).is_acquired(),
            is_in && !waiting.contains("w:")
        );
        let stats = locks.stats();
        assert_eq!(
            (stats.acquired, stats.waiting),
            (1 + usize::from(is_in), usize::from(!is_in))
        );
        assert_eq!(locks.requests().count(), 2);
        holder.release();
        assert!(waiter.is_acquired());
        drop(waiter);
        assert_eq!(locks.stats().resources, 0);
        is_in
    });
    assert_eq!(whole, in_steps);
    whole
}

#[test]
fn a_request_for_what_is_given_up_is_granted() {
    for (held, narrowed, waiting) in [
        ("w:a", "r:a", "r:a"),
        ("w:a", "r:a", "r:a/b"),
        ("w:a", "w:a/b", "w:a/c"),
        ("w:a", "w:a/b/c r:a/c", "w:a/b/d r:a/c/d"),
        ("w:", "w:a", "r:b"),
        ("w:a w:b", "w:b", "w:a"),
        ("w:a w:b", "w:a", "w:b"),
        ("r:a w:a/b", "r:a", "r:a/b"),
        ("r:a w:a/b", "w:a/b", "w:a/c"),
        ("r:a", "r:a/b", "w:a/c"),
    ] {
        assert!(
            lets_in(held, narrowed, waiting),
            "{held} to {narrowed} before {waiting}"
        );
    }
}

#[test]
fn a_request_for_what_is_kept_waits() {
    for (held, narrowed, waiting) in [
        ("w:a", "r:a", "w:a"),
        ("w:a", "r:a", "w:a/b"),
        ("w:a", "w:a/b", "w:a"),
        ("w:a", "w:a/b", "r:a/b/c"),
        ("w:", "w:a/b/c r:d", "r:a"),
        ("w:", "r:d", "w:a w:d/e"),
        ("w:a w:b", "w:b", "w:a w:b"),
        ("w:a w:b", "w:a", "r:a/x"),
        ("r:a w:a/b", "r:a", "w:a/b"),
        ("r:a", "r:a/b", "w:a/b/c"),
    ] {
        assert!(
            !lets_in(held, narrowed, waiting),
            "{held} to {narrowed} before {waiting}"
        );
    }
}

#[test]
fn narrowing_does_not_change_the_line() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let waiters = ["w:a/1", "w:a", "r:a/2", "w:a/1"].map(|text| enqueue(&locks, text));
    let is_in = || waiters.each_ref().map(Pending::is_acquired);
    holder.narrow(set("r:a/1 w:a/3")).expect("covered");
    assert_eq!(is_in(), [false; 4]);
    holder.narrow(set("w:a/3")).expect("covered");
    assert_eq!(is_in(), [true, false, false, false]);
    let infos: Vec<_> = locks.requests().collect();
    assert_eq!(infos.len(), 5);
    let waits_for = |pending: &Pending| {
        let info = infos.iter().find(|info| info.token == pending.token());
        info.expect("listed").waits_for
    };
    assert_eq!(waits_for(&waiters[1]), Some(waiters[0].token()));
    assert_eq!(waits_for(&waiters[2]), Some(waiters[1].token()));
    holder.release();
    assert_eq!(is_in(), [true, false, false, false]);
}

#[test]
fn the_error_names_the_first_resource_that_is_not_covered() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "r:a w:a/b w:d");
    for (text, resource) in [
        ("w:a", "w:a"),
        ("r:a w:a/c", "w:a/c"),
        ("w:d/1 r:c r:b", "r:b"),
        ("r:", "r:"),
        ("w:a/b r:a w:e", "w:e"),
        ("r:a/b w:a/b/c w:d r:dd", "r:dd"),
    ] {
        let error = holder.narrow(set(text)).expect_err("not covered");
        let resource = set(resource).remove(0);
        assert_eq!(error, NarrowError::NotCovered { resource });
        assert_eq!(holder.resources(), set("r:a w:a/b w:d"));
    }
    let error = holder.narrow(set("w:a/x")).expect_err("not covered");
    assert_eq!(
        error.to_string(),
        "the lock does not cover a write of [\"a\", \"x\"]; allowed are paths at or below its own, and writes only \
         where it writes"
    );
    let error = holder.narrow(set("")).expect_err("empty");
    assert_eq!(error, NarrowError::BadSet(LockError::NoResources));
    assert_eq!(error.to_string(), LockError::NoResources.to_string());
    assert!(!enqueue(&locks, "r:d").is_acquired());
    assert_eq!(locks.stats().resources, 3);
}

#[test]
fn narrowing_to_the_same_set_does_nothing() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "r:a w:a/b");
    let place = locks.requests().next().map(|info| format!("{info:?}"));
    let mut listing = locks.requests();
    listing.next();
    for text in ["r:a w:a/b", "w:a/b r:a r:a/c w:a/b/c"] {
        assert!(
            holder
                .narrow_in_steps(set(text))
                .expect("covered")
                .is_done()
        );
        holder.narrow(set(text)).expect("covered");
    }
    assert_eq!(
        locks.requests().next().map(|info| format!("{info:?}")),
        place
    );
    let mut again = locks.requests();
    again.next();
    assert_eq!(again.place(), listing.place(), "the request is the same");
}

#[test]
fn narrowing_to_the_same_set_does_not_undo_a_narrowing_in_steps() {
    for steps in 0..STEPS {
        let locks = LockManager::new();
        let (mut holder, work) = narrowing(&locks, steps);
        holder.narrow(set("w:a r:b w:c/1")).expect("covered");
        finish(work);
        assert!(enqueue(&locks, "r:b w:c/2 w:d w:e").is_acquired());
        assert!(!enqueue(&locks, "r:a").is_acquired());
        drop(holder);
        assert_eq!(locks.stats().resources, 0);
    }
}

/// The births of the first requests of a manager are small, so a hundred narrowings go below zero.
#[test]
fn a_lock_is_narrowed_hundreds_of_times() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:");
    let waiter = enqueue(&locks, "r:a/0/z");
    for i in 1..=500_usize {
        let kept = (i..=500).map(|i| Resource::write(["a".to_owned(), i.to_string()]));
        holder.narrow(kept.chain(set("w:a/0"))).expect("covered");
        assert!(!waiter.is_acquired());
        assert!(!enqueue(&locks, "r:a").is_acquired());
        let gone = [Resource::write(["a".to_owned(), (i - 1).to_string()])];
        assert_eq!(enqueue_all(&locks, gone).is_acquired(), i > 1);
        let held = [Resource::read([
            "a".to_owned(),
            i.to_string(),
            "x".to_owned(),
        ])];
        assert!(!enqueue_all(&locks, held).is_acquired());
    }
    holder.narrow(set("r:a/0")).expect("covered");
    assert!(waiter.is_acquired());
    holder.release();
    drop(waiter);
    assert_eq!(locks.stats().resources, 0);
}

fn enqueue_all(locks: &LockManager, resources: impl IntoIterator<Item = Resource>) -> Pending {
    locks.enqueue(resources).expect("open")
}

#[test]
fn a_closed_manager_drains_only_after_a_narrowed_lock() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:");
    locks.close();
    let task = Task::new();
    let mut drained = Box::pin(locks.drained());
    assert!(task.poll(drained.as_mut()).is_pending());
    for text in ["r: w:a", "r:", "r:a r:b", "r:a/b/c"] {
        holder.narrow(set(text)).expect("covered");
        assert!(task.poll(drained.as_mut()).is_pending());
        assert!(task.poll(pin!(locks.drained())).is_pending());
    }
    holder.release();
    assert!(task.poll(drained.as_mut()).is_ready());
}

/// Steps of a narrowing of five entries to three, then what remains under way.
fn narrowing(locks: &LockManager, steps: usize) -> (Lock, Work) {
    let mut holder = lock(locks, "w:a w:b w:c w:d w:e");
    let mut work = holder
        .narrow_in_steps(set("w:a r:b w:c/1"))
        .expect("covered");
    for _ in 0..steps {
        work.step(0);
    }
    (holder, work)
}

const STEPS: usize = 12;

#[test]
fn what_is_kept_is_held_at_each_step_of_a_narrowing() {
    let mut left = 0;
    for steps in 0..STEPS {
        let locks = LockManager::new();
        let (holder, work) = narrowing(&locks, steps);
        assert_eq!(holder.resources(), set("w:a r:b w:c/1"));
        for text in ["r:a", "w:b", "r:c/1", "w:"] {
            assert!(!enqueue(&locks, text).is_acquired());
        }
        let is_free =
            ["r:b", "w:c/2", "w:d", "w:e"].map(|text| enqueue(&locks, text).is_acquired());
        assert!(!work.has_left() || is_free == [true; 4]);
        left += usize::from(work.has_left());
        finish(work);
        drop(holder);
        assert_eq!(locks.stats().resources, 0);
    }
    assert!(0 < left && left < STEPS);
}

#[test]
fn a_lock_is_released_at_each_step_of_its_narrowing() {
    for steps in 0..STEPS {
        for in_steps in [false, true] {
            let locks = LockManager::new();
            let (holder, work) = narrowing(&locks, steps);
            let waiters = ["w:a", "w:e w:c"].map(|text| enqueue(&locks, text));
            if in_steps {
                finish(holder.release_in_steps());
            } else {
                holder.release();
            }
            finish(work);
            assert!(waiters.iter().all(Pending::is_acquired));
            drop(waiters);
            assert_eq!(locks.stats().resources, 0);
        }
    }
}

/// The new request has no ticket yet, so it delays no request, and the lock still has the old one.
#[test]
fn a_release_does_not_wait_for_a_narrowing_that_has_not_inserted_its_set() {
    for steps in 0..3 {
        let locks = LockManager::new();
        let (holder, work) = narrowing(&locks, steps);
        assert!(!work.has_left());
        let waiter = enqueue(&locks, "w:");
        holder.release();
        assert!(waiter.is_acquired(), "after {steps} steps");
        assert_eq!(locks.requests().count(), 1);
        finish(work);
        drop(waiter);
        assert_eq!(locks.stats().resources, 0);
    }
}

#[test]
fn a_lock_is_narrowed_again_at_each_step_of_a_narrowing() {
    for steps in 0..STEPS {
        let locks = LockManager::new();
        let (mut holder, work) = narrowing(&locks, steps);
        let waiters = ["w:a", "w:b", "w:e w:c"].map(|text| enqueue(&locks, text));
        assert!(holder.narrow(set("r:b w:d")).is_err(), "d is given up");
        holder.narrow(set("r:b/x w:c/1")).expect("covered");
        finish(work);
        assert_eq!(
            waiters.each_ref().map(Pending::is_acquired),
            [true, false, false]
        );
        assert!(!enqueue(&locks, "w:b/x").is_acquired());
        holder.release();
        assert!(waiters.iter().all(Pending::is_acquired));
        drop(waiters);
        assert_eq!(locks.stats().resources, 0);
    }
}

#[test]
fn a_dropped_work_completes_its_narrowing() {
    for steps in 0..STEPS {
        let locks = LockManager::new();
        let (holder, work) = narrowing(&locks, steps);
        let waiter = enqueue(&locks, "r:b w:c/2 w:e");
        drop(work);
        assert!(waiter.is_acquired() && !enqueue(&locks, "r:a").is_acquired());
        assert_eq!(locks.stats().resources, 6);
        drop((holder, waiter));
        assert_eq!(locks.stats().resources, 0);
    }
}

#[test]
fn a_panic_in_a_waker_finds_the_lock_narrowed() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from the waker");
        }
    }
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let (mut first, mut second) = (enqueue(&locks, "r:a/1"), enqueue(&locks, "r:a/2"));
    let panics = Waker::from(Arc::new(Panics));
    assert!(poll_with(&panics, pin!(&mut first)).is_pending());
    let task = Task::new();
    assert!(task.poll(pin!(&mut second)).is_pending());
    let narrowed = catch_unwind(AssertUnwindSafe(|| holder.narrow(set("r:a"))));
    assert!(narrowed.is_err());
    assert_eq!(holder.resources(), set("r:a"));
    assert_eq!(task.wakeups(), 1);
    drop((granted(first), granted(second)));
    assert!(!enqueue(&locks, "w:a").is_acquired() && enqueue(&locks, "r:a").is_acquired());
    holder.narrow(set("r:a/2")).expect("covered");
    lock(&locks, "w:a/1").release();
    holder.release();
    assert_eq!(locks.stats().resources, 0);
}
