//! Requests that rest and are locked again: prepared sets, and locks of the same sets again and again.

use super::waiting::{Task, block_on};
use super::{enqueue, granted, lock, set};
use locktopus_engine::{
    LockError, LockManager, Options, Path, PreparedLock, PreparedSet, Resource,
};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

/// A lock manager in which requests rest at their first release.
fn eager() -> LockManager {
    LockManager::with(Options::new().places(64).eager())
}

fn prepare(locks: &LockManager, text: &str) -> PreparedSet {
    locks.prepare(set(text)).expect("within the limits")
}

fn held(set: &mut PreparedSet) -> PreparedLock<'_> {
    set.try_lock().expect("open").expect("the set is free")
}

fn is_empty(locks: &LockManager) -> bool {
    let stats = locks.stats();
    (stats.acquired, stats.waiting, stats.resources) == (0, 0, 0) && locks.requests().count() == 0
}

#[test]
fn resting_requests_are_not_outstanding() {
    for locks in [LockManager::new(), eager()] {
        let mut prepared = prepare(&locks, "w:a r:b w:c");
        for _ in 0..10 {
            for text in ["w:x", "r:x/y", "w:a w:b"] {
                lock(&locks, text).release();
            }
            held(&mut prepared).release();
            assert!(is_empty(&locks));
            lock(&locks, "w:").release();
        }
        locks.close();
        block_on(locks.drained());
    }
}

#[test]
fn statistics_and_listing_show_a_request_that_is_locked_again() {
    let locks = eager();
    let mut prepared = prepare(&locks, "w:a r:b");
    for _ in 0..5 {
        let first = held(&mut prepared);
        let second = lock(&locks, "w:x");
        let stats = locks.stats();
        assert_eq!((stats.acquired, stats.waiting, stats.resources), (2, 0, 3));
        let tokens: Vec<_> = locks.requests().map(|request| request.token).collect();
        assert_eq!(tokens, [first.token(), second.token()]);
    }
    assert!(is_empty(&locks));
}

#[test]
fn a_request_that_is_locked_again_is_granted_in_its_turn() {
    let locks = eager();
    for (again, other) in [
        ("w:a", "w:a"),
        ("w:a", "r:a/b"),
        ("r:a/b", "w:a"),
        ("r:a", "w:a"),
        ("w:a w:b", "r:b/x"),
        ("w:", "r:x"),
        ("r:x", "w:"),
    ] {
        for _ in 0..3 {
            lock(&locks, again).release();
            let first = lock(&locks, other);
            let second = enqueue(&locks, again);
            let third = enqueue(&locks, other);
            assert!(!second.is_acquired(), "{again} waits for {other}");
            first.release();
            assert!(second.is_acquired() && !third.is_acquired());
            granted(second).release();
            granted(third).release();
        }
    }
    assert!(is_empty(&locks));
}

#[test]
fn a_prepared_set_waits_and_is_waited_for_as_any_request() {
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a/b r:c");
    let mut last = 0;
    for _ in 0..3 {
        // It rests, unless the last round has ended its request.
        held(&mut prepared).release();
        let first = held(&mut prepared);
        assert!(first.token() > last);
        let second = enqueue(&locks, "w:a");
        assert!(!second.is_acquired());
        first.release();
        assert!(second.is_acquired());
        let third = prepared.enqueue().expect("open");
        assert!(!third.is_acquired() && third.token() > second.token());
        let fourth = enqueue(&locks, "w:c");
        granted(second).release();
        assert!(third.is_acquired() && !fourth.is_acquired());
        last = third.token();
        third.withdraw();
        granted(fourth).release();
    }
    drop(prepared);
    assert!(is_empty(&locks));
}

#[test]
fn a_withdrawn_request_of_a_prepared_set_delays_no_other() {
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a");
    held(&mut prepared).release();
    let reader = lock(&locks, "r:a");
    let waiting = prepared.enqueue().expect("open");
    let later = enqueue(&locks, "r:a");
    assert!(!waiting.is_acquired() && !later.is_acquired());
    let waiting = waiting
        .wait_timeout(Duration::ZERO)
        .expect_err("the reader holds its lock");
    waiting.withdraw();
    assert!(later.is_acquired());
    assert!(prepared.try_lock().expect("open").is_none());
    drop((reader, later));
    held(&mut prepared).release();
}

#[test]
fn a_leaked_guard_keeps_its_lock_until_the_set_is_used_again() {
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a");
    for _ in 0..3 {
        mem::forget(held(&mut prepared));
        assert!(locks.try_lock(set("w:a")).expect("open").is_none());
        let waits = enqueue(&locks, "r:a");
        mem::forget(prepared.enqueue().expect("open"));
        assert!(waits.is_acquired(), "the next use has released the lock");
        let behind = enqueue(&locks, "r:a");
        assert!(!behind.is_acquired(), "the leaked request is in line");
        assert!(prepared.try_lock().expect("open").is_none());
        assert!(behind.is_acquired(), "the next use has withdrawn it");
        drop((waits, behind));
        mem::forget(held(&mut prepared));
        held(&mut prepared).release();
    }
    mem::forget(held(&mut prepared));
    drop(prepared);
    assert!(is_empty(&locks));
}

#[test]
fn a_prepared_set_is_awaited_and_its_dropped_future_withdraws() {
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a");
    let task = Task::new();
    {
        let held = lock(&locks, "w:a");
        let mut future = pin!(prepared.lock());
        assert!(task.poll(future.as_mut()).is_pending());
        held.release();
        assert_eq!(task.wakeups(), 1);
        assert!(!enqueue(&locks, "r:a").is_acquired());
        // The lock was granted and is dropped with its future.
    }
    block_on(prepared.lock()).expect("open").release();
    assert!(enqueue(&locks, "r:a").is_acquired());
    let unpolled = prepared.lock();
    assert!(enqueue(&locks, "w:a").is_acquired());
    drop(unpolled);
}

#[test]
fn a_closed_manager_refuses_prepared_sets_and_resting_requests() {
    let locks = eager();
    let mut prepared = prepare(&locks, "w:a");
    let mut never_locked = prepare(&locks, "w:b");
    held(&mut prepared).release();
    for _ in 0..3 {
        lock(&locks, "w:c").release();
    }
    let mut leaked = prepare(&locks, "w:d");
    mem::forget(held(&mut leaked));
    locks.close();
    for set in [&mut prepared, &mut never_locked, &mut leaked] {
        for _ in 0..2 {
            assert_eq!(set.blocking_lock().unwrap_err(), LockError::Closed);
            assert_eq!(set.try_lock().unwrap_err(), LockError::Closed);
        }
    }
    assert_eq!(locks.enqueue(set("w:c")).unwrap_err(), LockError::Closed);
    assert_eq!(locks.try_lock(set("w:c")).unwrap_err(), LockError::Closed);
    let mut entering = locks.enqueue_in_steps(set("w:c")).expect_err("closed");
    assert_eq!(entering, LockError::Closed);
    entering = locks.prepare(Vec::<Resource>::new()).expect_err("empty");
    assert_eq!(entering, LockError::NoResources);
    block_on(locks.drained());
    assert!(is_empty(&locks));
}

#[test]
fn a_closed_manager_refuses_at_the_call_to_enter_a_resting_request_in_steps() {
    let locks = eager();
    for _ in 0..3 {
        lock(&locks, "w:c").release();
    }
    locks.close();
    let refused = locks.enqueue_in_steps(set("w:c")).map(drop);
    assert_eq!(refused, Err(LockError::Closed));
}

#[test]
fn a_set_by_reference_is_the_same_set() {
    let locks = eager();
    let [one, two] = [Resource::write(["a"]), Resource::read(["b", "c"])];
    for _ in 0..5 {
        locks.blocking_lock([&one, &two]).expect("open").release();
        locks
            .blocking_lock(&[two.clone(), one.clone()])
            .expect("open")
            .release();
        let held = locks.enqueue([&two, &one, &two]).expect("open");
        assert_eq!(held.resources(), [one.clone(), two.clone()]);
        let future = locks.lock([&one]);
        granted(held).release();
        block_on(future).expect("open").release();
        let held = locks.try_lock([&one]).expect("open").expect("free");
        assert!(locks.try_lock([&two]).expect("open").is_some());
        held.release();
    }
}

#[test]
fn requests_rest_after_work_in_steps_too() {
    let locks = eager();
    for _ in 0..5 {
        let mut entering = locks.enqueue_in_steps(set("w:a w:b")).expect("open");
        let (pending, work) = loop {
            if let Some(entered) = entering.step(1) {
                break entered.expect("open");
            }
        };
        assert!(work.is_done() && pending.is_acquired());
        let waits = enqueue(&locks, "r:x");
        let mut work = granted(pending).release_in_steps();
        assert!(!work.has_left() && locks.stats().acquired == 2);
        while !work.step(1) {}
        assert!(locks.stats().acquired == 1 && waits.is_acquired());
        // An entering that is dropped puts the request back.
        drop(locks.enqueue_in_steps(set("w:a w:b")).expect("open"));
        drop(waits);
        let parent = lock(&locks, "w:");
        drop(locks.enqueue_in_steps(set("w:a w:b")).expect("open"));
        parent.release();
    }
    assert!(is_empty(&locks));
}

#[test]
fn a_resolved_pending_keeps_its_token_when_its_request_has_another_life() {
    let locks = eager();
    lock(&locks, "w:a").release();
    let mut pending = enqueue(&locks, "w:a");
    let held = block_on(&mut pending);
    let token = held.token();
    held.release();
    let _again = lock(&locks, "w:a");
    assert_eq!(pending.token(), token);
    assert!(pending.is_acquired());
}

#[test]
fn a_waker_that_panics_in_a_lock_again_leaves_no_request_behind() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("from the waker"));
        }
    }
    let waker = Waker::from(Arc::new(Panics));
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a");
    held(&mut prepared).release();
    let first = held(&mut prepared);
    let mut waits = enqueue(&locks, "w:a");
    let mut context = Context::from_waker(&waker);
    assert!(pin!(&mut waits).poll(&mut context).is_pending());
    let panicked = catch_unwind(AssertUnwindSafe(|| first.release()));
    assert!(panicked.is_err() && waits.is_acquired());
    drop(waits);
    held(&mut prepared).release();
    drop(prepared);
    assert!(is_empty(&locks));
}

#[test]
fn prepared_sets_of_threads_exclude_one_another() {
    const ROUNDS: usize = 2_000;
    let locks = eager();
    let mut count = 0_u64;
    let cell = std::sync::Mutex::new(&mut count);
    let round = |taken: PreparedLock<'_>| {
        // The mutex is never contended: the lock excludes the other threads.
        **cell.try_lock().expect("the lock excludes the others") += 1;
        taken.release();
    };
    thread::scope(|scope| {
        for text in ["w:a w:b", "w:a", "w:b/c w:a/d w:a"] {
            let mut prepared = prepare(&locks, text);
            let (round, locks) = (&round, &locks);
            scope.spawn(move || {
                for index in 0..ROUNDS {
                    match index % 3 {
                        0 => round(prepared.blocking_lock().expect("open")),
                        1 => drop(prepared.try_lock().expect("open").map(round)),
                        _ => lock_and_release(locks, "r:a/x"),
                    }
                }
            });
        }
    });
    assert!(is_empty(&locks));
    assert!(count >= ROUNDS as u64);
}

fn lock_and_release(locks: &LockManager, text: &str) {
    locks.blocking_lock(set(text)).expect("open").release();
}

/// The root, deep paths, paths that are not stored in place, duplicates, and paths below other ones.
#[test]
fn sets_of_any_shape_are_locked_again() {
    let long = "l".repeat(60);
    let deep: Vec<&str> = vec!["d"; 12];
    let sets = [
        vec![Resource::write(Path::root())],
        vec![Resource::read(deep.clone()), Resource::write(["a"])],
        vec![Resource::write(["a", long.as_str()]), Resource::read(["b"])],
        vec![Resource::write(["a"]), Resource::write(["a"])],
        vec![Resource::read(["a"]), Resource::write(["a", "b"])],
    ];
    for places in [0, 4] {
        let locks = LockManager::with(Options::new().places(places).eager());
        for set in &sets {
            let mut prepared = locks.prepare(set).expect("within the limits");
            for resource in set {
                for life in 0..6 {
                    // Below the resource, above it, or at it; first, or second.
                    let path: Vec<_> = resource.path.segments().collect();
                    let beside = match life % 3 {
                        0 => path.iter().map(|s| &**s).chain(["x"]).collect(),
                        1 => path.iter().map(|s| &**s).take(1).collect(),
                        _ => resource.path.clone(),
                    };
                    let other = || {
                        locks
                            .enqueue([Resource::write(beside.clone())])
                            .expect("open")
                    };
                    let first = (life > 2).then(other);
                    let held = prepared.enqueue().expect("open");
                    assert_eq!(held.is_acquired(), first.is_none());
                    let second = other();
                    drop(first);
                    assert!(held.is_acquired() && !second.is_acquired());
                    drop(held);
                    assert!(second.is_acquired());
                    drop(second);
                    drop(locks.enqueue(set).expect("open"));
                }
            }
        }
        assert!(is_empty(&locks));
    }
}

#[test]
fn skipped_and_restored_tokens_are_smaller_than_all_later_ones() {
    let locks = LockManager::new();
    let mut prepared = prepare(&locks, "w:a");
    for _ in 0..3 {
        // It has drawn tokens ahead.
        for _ in 0..100 {
            held(&mut prepared).release();
        }
        let skipped = locks.stats().last_token + 1000;
        locks.skip_to(skipped).expect("in range");
        assert!(held(&mut prepared).token() > skipped);
        for _ in 0..100 {
            held(&mut prepared).release();
        }
        let token = locks.stats().last_token + 1;
        let restored = locks.restore(token, set("r:b")).expect("in range");
        assert!(held(&mut prepared).token() > restored.token());
    }
}
