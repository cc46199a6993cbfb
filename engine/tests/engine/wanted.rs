//! The holder of a lock learns that other requests wait for it.

use super::{enqueue, granted, lock, set};
use locktopus_engine::{LockManager, Wanted};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// What it was told and has not returned yet.
fn told(wanted: &mut Wanted) -> Option<bool> {
    match Pin::new(wanted).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(told) => Some(told),
        Poll::Pending => None,
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn each_request_that_begins_to_wait_wakes_the_task_of_the_holder() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    let mut wanted = held.wanted();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut wanted).poll(&mut context).is_pending());
    let reader = enqueue(&locks, "r:a/b");
    assert_eq!(wakes.count(), 1);
    assert_eq!(Pin::new(&mut wanted).poll(&mut context), Poll::Ready(true));
    // The next one, which is not behind the first.
    assert!(Pin::new(&mut wanted).poll(&mut context).is_pending());
    let other = enqueue(&locks, "r:a/c");
    assert_eq!(wakes.count(), 2);
    assert_eq!(told(&mut wanted), Some(true));
    assert_eq!(told(&mut wanted), None);
    assert_eq!(wakes.count(), 2);
    drop((reader, other));
}

#[test]
fn request_behind_another_one_is_told_when_that_one_is_withdrawn() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    let mut wanted = held.wanted();
    let (first, second) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    assert_eq!(told(&mut wanted), Some(true));
    assert_eq!(told(&mut wanted), None);
    first.withdraw();
    assert_eq!(told(&mut wanted), Some(true));
    drop(second);
}

#[test]
fn request_that_waits_already_is_told_at_once() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let (second, third) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    assert_eq!(told(&mut first.wanted()), Some(true));
    first.release();
    let second = granted(second);
    let mut wanted = second.wanted();
    assert_eq!(told(&mut wanted), Some(true));
    assert_eq!(told(&mut wanted), None);
    drop(third);
}

#[test]
fn withdrawn_request_is_not_told_to_a_later_arm() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    for _ in 0..3 {
        enqueue(&locks, "w:a").withdraw();
    }
    let mut wanted = held.wanted();
    assert_eq!(told(&mut wanted), None);
    let waiting = enqueue(&locks, "w:a");
    assert_eq!(told(&mut wanted), Some(true));
    drop(waiting);
}

#[test]
fn requests_that_do_not_conflict_are_not_told() {
    let locks = LockManager::new();
    let held = [lock(&locks, "r:a"), lock(&locks, "w:b")];
    let mut wanted = [held[0].wanted(), held[1].wanted()];
    let (_reader, _other) = (lock(&locks, "r:a/x"), lock(&locks, "w:c"));
    let behind_b = enqueue(&locks, "w:b/x");
    assert_eq!(told(&mut wanted[0]), None);
    assert_eq!(told(&mut wanted[1]), Some(true));
    assert!(!held[0].is_wanted() && held[1].is_wanted());
    drop(behind_b);
    assert!(!held[1].is_wanted());
}

#[test]
fn request_is_told_when_it_comes_from_another_lock() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "w:a"), lock(&locks, "w:b"));
    let mut wanted = second.wanted();
    let waiting = enqueue(&locks, "w:a w:b");
    assert_eq!(told(&mut wanted), None);
    assert!(second.is_wanted());
    first.release();
    assert_eq!(told(&mut wanted), Some(true));
    second.release();
    assert!(waiting.is_acquired());
}

#[test]
fn each_of_several_arms_is_told_until_it_is_dropped() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    let mut arms: Vec<Wanted> = (0..3).map(|_| held.wanted()).collect();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for arm in &mut arms {
        let polled = pin!(arm).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    drop(arms.pop());
    let waiting = enqueue(&locks, "w:a");
    assert_eq!(wakes.count(), 2);
    for arm in &mut arms {
        assert_eq!(told(arm), Some(true));
        assert_eq!(told(arm), None);
    }
    drop(arms);
    assert_eq!(Arc::strong_count(&wakes), 2, "dropped arms keep no waker");
    drop(waiting);
}

#[test]
fn release_ends_the_arms_of_its_lock_and_of_no_other() {
    let locks = LockManager::new();
    let (held, beside) = (lock(&locks, "w:a"), lock(&locks, "w:b"));
    let (mut wanted, mut other) = (held.wanted(), beside.wanted());
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut wanted).poll(&mut context).is_pending());
    let waiting = enqueue(&locks, "w:a");
    let mut work = held.release_in_steps();
    while !work.step(0) {}
    assert_eq!(wakes.count(), 1);
    for _ in 0..3 {
        assert_eq!(told(&mut wanted), Some(false));
    }
    assert_eq!(told(&mut other), None);
    let mut next = granted(waiting).wanted();
    assert_eq!(told(&mut next), Some(false), "its lock was dropped at once");
    drop(beside);
    assert_eq!(told(&mut other), Some(false));
}

#[test]
fn drain_of_a_closed_manager_is_not_a_request_that_waits() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    let mut wanted = held.wanted();
    locks.close();
    let mut drained = pin!(locks.drained());
    let mut context = Context::from_waker(Waker::noop());
    assert!(drained.as_mut().poll(&mut context).is_pending());
    assert_eq!(told(&mut wanted), None);
    assert!(!held.is_wanted() && told(&mut held.wanted()).is_none());
    held.release();
    assert!(drained.poll(&mut context).is_ready());
}

#[test]
fn thread_blocks_until_its_lock_is_wanted_or_released() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    let mut wanted = held.wanted();
    assert_eq!(wanted.wait_timeout(Duration::ZERO), None);
    assert_eq!(wanted.wait_timeout(Duration::from_millis(1)), None);
    thread::scope(|scope| {
        let (says, hears) = channel();
        let waits = scope.spawn(move || {
            assert!(wanted.wait());
            says.send(()).unwrap();
            assert!(!wanted.wait());
            wanted.wait_timeout(Duration::MAX)
        });
        let waiting = enqueue(&locks, "w:a");
        hears.recv().unwrap();
        held.release();
        assert_eq!(waits.join().unwrap(), Some(false));
        drop(waiting);
    });
}

#[test]
fn narrowed_lock_keeps_its_arms() {
    let locks = LockManager::new();
    let mut held = lock(&locks, "w:a w:b");
    let mut wanted = held.wanted();
    let of_b = enqueue(&locks, "w:b");
    assert_eq!(told(&mut wanted), Some(true));
    held.narrow(set("w:a/1 w:a/2")).unwrap();
    assert!(of_b.is_acquired());
    assert_eq!(told(&mut wanted), None);
    let of_a = enqueue(&locks, "w:a/1");
    assert_eq!(told(&mut wanted), Some(true));
    // Told again: the request waits for the narrowed lock now.
    held.narrow(set("r:a/1")).unwrap();
    assert_eq!(told(&mut wanted), Some(true));
    assert_eq!(told(&mut held.wanted()), Some(true));
    held.release();
    assert_eq!(told(&mut wanted), Some(false));
    drop((of_a, of_b));
}

#[test]
fn lock_is_armed_between_the_steps_of_its_narrowing() {
    // The number of steps before the lock is armed. Later it is narrowed again, or released.
    for steps in 0..4 {
        for is_narrowed_again in [false, true] {
            let locks = LockManager::new();
            let mut held = lock(&locks, "w:a");
            let waiting = enqueue(&locks, "w:a/1");
            let mut before = held.wanted();
            assert_eq!(told(&mut before), Some(true));
            let mut work = held.narrow_in_steps(set("w:a/1 w:a/2")).unwrap();
            for _ in 0..steps {
                work.step(0);
            }
            let mut during = held.wanted();
            assert_eq!(told(&mut during), Some(true), "after {steps} steps");
            if is_narrowed_again {
                held.narrow(set("r:a/1")).unwrap();
            }
            drop(work);
            for wanted in [&mut before, &mut during] {
                assert_ne!(told(wanted), Some(false), "the lock is held");
            }
            let other = enqueue(&locks, "w:a/1");
            assert!(!waiting.is_acquired());
            waiting.withdraw();
            for wanted in [&mut before, &mut during] {
                assert_eq!(told(wanted), Some(true), "the other request has moved on");
            }
            held.release();
            assert!(other.is_acquired());
            for wanted in [&mut before, &mut during] {
                assert_eq!(told(wanted), Some(false));
            }
        }
    }
}

#[test]
fn release_in_the_middle_of_a_narrowing_ends_the_arms() {
    for steps in 0..6 {
        let locks = LockManager::new();
        let mut held = lock(&locks, "w:a");
        let mut work = held.narrow_in_steps(set("w:a/1 w:a/2")).unwrap();
        let mut wanted = held.wanted();
        for _ in 0..steps {
            work.step(0);
        }
        held.release();
        assert_eq!(told(&mut wanted), Some(false), "after {steps} steps");
        drop(work);
        assert_eq!(locks.stats().resources, 0);
    }
}

#[test]
fn request_that_rested_is_armed_for_one_life() {
    let locks = LockManager::new();
    let mut former = Vec::new();
    for round in 0..20 {
        let held = lock(&locks, "w:a");
        let mut wanted = held.wanted();
        assert_eq!(told(&mut wanted), None);
        if round % 2 == 0 {
            let waiting = enqueue(&locks, "w:a");
            assert_eq!(told(&mut wanted), Some(true));
            held.release();
            drop(granted(waiting));
        } else {
            held.release();
        }
        assert_eq!(told(&mut wanted), Some(false));
        former.push(wanted);
        // Not armed, so that its request can rest.
        for _ in 0..8 {
            lock(&locks, "w:a").release();
        }
    }
    for wanted in &mut former {
        assert_eq!(told(wanted), Some(false));
    }
}
