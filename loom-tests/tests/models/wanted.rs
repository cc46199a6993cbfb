//! The arms of held locks, beside requests that begin to wait and beside the release.

use super::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use super::wait::Wakeups;
use super::{Lock, LockManager, Wanted};
use loom::thread;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn poll(wanted: &mut Wanted, waker: &Waker) -> Poll<bool> {
    Pin::new(wanted).poll(&mut Context::from_waker(waker))
}

/// Polls once. When the other thread has ended, the task must have been told or woken.
struct Polled {
    wanted: Wanted,
    wakeups: Arc<Wakeups>,
    at_once: Poll<bool>,
}

impl Polled {
    fn new(mut wanted: Wanted) -> Polled {
        let wakeups = Arc::new(Wakeups::default());
        let at_once = poll(&mut wanted, &Waker::from(Arc::clone(&wakeups)));
        Polled {
            wanted,
            wakeups,
            at_once,
        }
    }

    /// What the task was told.
    fn told(mut self) -> bool {
        match self.at_once {
            Poll::Ready(told) => told,
            Poll::Pending => {
                assert!(self.wakeups.count() > 0, "a lost wake-up");
                match poll(&mut self.wanted, Waker::noop()) {
                    Poll::Ready(told) => told,
                    Poll::Pending => panic!("woken for nothing"),
                }
            }
        }
    }
}

fn arm_beside_a_request_that_waits(locks: &LockManager, holder: Lock) {
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a"))
    };
    let polled = Polled::new(holder.wanted());
    let waiting = enters.join().expect("no panic");
    assert!(polled.told());
    check_to_the_end(locks, [Outstanding::from(holder), waiting.into()]);
}

pub(crate) fn an_arm_races_a_request_that_waits() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    arm_beside_a_request_that_waits(&locks, holder);
}

/// A request has watched the lock and was withdrawn, so that each arm looks for another one.
pub(crate) fn an_arm_after_a_withdrawal_races_a_request_that_waits() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    enqueue(&locks, "w:a").withdraw();
    arm_beside_a_request_that_waits(&locks, holder);
}

pub(crate) fn a_poll_of_an_arm_races_two_requests() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a r:b");
    let mut wanted = holder.wanted();
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || [enqueue(&locks, "w:a"), enqueue(&locks, "w:b")])
    };
    let first = poll(&mut wanted, Waker::noop());
    let polled = Polled::new(wanted);
    let [one, other] = enters.join().expect("no panic");
    // Otherwise both may have been told as one.
    if first.is_pending() {
        assert!(polled.told());
    }
    check_to_the_end(
        &locks,
        [holder.into(), one.into(), other.into()] as [Outstanding; 3],
    );
}

pub(crate) fn a_poll_of_an_arm_races_the_release() {
    let locks = LockManager::new();
    let (holder, waiting) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let mut wanted = holder.wanted();
    assert_eq!(poll(&mut wanted, Waker::noop()), Poll::Ready(true));
    let releases = thread::spawn(move || holder.release());
    let polled = Polled::new(wanted);
    releases.join().expect("no panic");
    assert!(!polled.told());
    check_to_the_end(&locks, [waiting]);
}

/// The request comes to the armed lock on the thread that releases another one.
pub(crate) fn an_arm_races_a_request_that_moves_on() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "w:a"), lock(&locks, "w:b"));
    let waiting = enqueue(&locks, "w:a w:b");
    let releases = thread::spawn(move || first.release());
    let polled = Polled::new(second.wanted());
    releases.join().expect("no panic");
    assert!(polled.told());
    check_to_the_end(&locks, [Outstanding::from(second), waiting.into()]);
}

pub(crate) fn a_dropped_arm_races_a_request_that_waits() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (wanted, polled) = (holder.wanted(), Polled::new(holder.wanted()));
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a"))
    };
    drop(wanted);
    let waiting = enters.join().expect("no panic");
    assert!(polled.told());
    check_to_the_end(&locks, [Outstanding::from(holder), waiting.into()]);
}

/// The request waits for the lock as it was, or for the narrowed one, or for the first and then for the second.
pub(crate) fn a_narrowing_races_a_request_that_waits() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let polled = Polled::new(holder.wanted());
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a/1"))
    };
    holder.narrow(set("w:a/1")).expect("covered");
    let waiting = enters.join().expect("no panic");
    assert!(polled.told(), "the lock is held");
    check_to_the_end(&locks, [Outstanding::from(holder), waiting.into()]);
}

/// The request waits for the lock as it was while the lock is armed.
pub(crate) fn an_arm_races_a_narrowing_in_steps() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let waiting = enqueue(&locks, "w:a/1");
    let mut work = holder.narrow_in_steps(set("w:a/1")).expect("covered");
    let steps = thread::spawn(move || while !work.step(0) {});
    let polled = Polled::new(holder.wanted());
    steps.join().expect("no panic");
    assert!(polled.told(), "the lock is held");
    check_to_the_end(&locks, [Outstanding::from(holder), waiting.into()]);
}
