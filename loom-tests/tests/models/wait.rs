//! Tasks and threads that wait for a grant, convert it, or stop waiting, at the moment of the grant.

use super::shared::{check_to_the_end, enqueue, lock, set};
use super::{Lock, LockManager, Pending};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Unmodelled, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Wakeups(Unmodelled);

impl Wakeups {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll(waker: &Waker, pending: &mut Pending) -> Poll<Lock> {
    pin!(pending).poll(&mut Context::from_waker(waker))
}

/// Polls once while the release is under way. At the end the task must have its lock or a wake-up.
fn poll_while_granted(locks: &LockManager, holder: Lock, mut waiter: Pending) {
    let releases = thread::spawn(move || holder.release());
    let wakeups = Arc::new(Wakeups::default());
    let polled = poll(&Waker::from(Arc::clone(&wakeups)), &mut waiter);
    releases.join().expect("no panic");
    match polled {
        Poll::Ready(lock) => check_to_the_end(locks, [lock]),
        Poll::Pending => {
            assert_eq!(wakeups.count(), 1, "a lost wake-up");
            check_to_the_end(locks, [waiter]);
        }
    }
}

pub(crate) fn a_poll_races_the_grant() {
    let locks = LockManager::new();
    let (holder, waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    poll_while_granted(&locks, holder, waiter);
}

/// The poll retires the waiter of the poll before. A purge must not remove the new waiter with it.
pub(crate) fn a_replaced_waker_races_the_grant() {
    let locks = LockManager::new();
    let (holder, mut waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    assert!(poll(Waker::noop(), &mut waiter).is_pending());
    poll_while_granted(&locks, holder, waiter);
}

#[derive(Default)]
struct Panics(Unmodelled);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
        // Unlike `panic!`, this prints no message.
        resume_unwind(Box::new("from the waker"));
    }
}

/// The waker of the first reader runs on the thread that releases, or on the thread that enters.
pub(crate) fn a_panicking_waker_stops_no_other_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (mut first, second) = (enqueue(&locks, "r:a"), enqueue(&locks, "r:a"));
    let panics = Arc::new(Panics::default());
    assert!(poll(&Waker::from(Arc::clone(&panics)), &mut first).is_pending());
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || catch_unwind(AssertUnwindSafe(|| enqueue(&locks, "r:a"))))
    };
    let released = catch_unwind(AssertUnwindSafe(|| holder.release()));
    let third = enters.join().expect("no panic");
    assert_eq!(panics.0.load(Relaxed), 1, "woken once");
    assert!(released.is_err() != third.is_err(), "the panic goes on");
    check_to_the_end(&locks, [first, second].into_iter().chain(third));
}

pub(crate) fn a_parking_thread_races_the_grant() {
    let locks = LockManager::new();
    let (holder, waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    // A thread that joins must not be unparked: loom treats that as the end of the joined thread.
    let waits = thread::spawn(move || waiter.wait());
    holder.release();
    check_to_the_end(&locks, [waits.join().expect("no panic")]);
}

/// In a model the timeout has always passed. The request keeps its place, and its task can wait again.
pub(crate) fn a_timeout_races_the_grant() {
    let locks = LockManager::new();
    let (holder, waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let wakeups = Arc::new(Wakeups::default());
    let waker = Waker::from(Arc::clone(&wakeups));
    // A thread that joins must not be unparked: loom treats that as the end of the joined thread.
    let waits = thread::spawn(move || {
        let timed_out = |mut waiter| match poll(&waker, &mut waiter) {
            Poll::Ready(lock) => Ok(lock),
            Poll::Pending => Err(waiter),
        };
        waiter
            .wait_timeout(Duration::from_secs(1))
            .or_else(timed_out)
    });
    holder.release();
    match waits.join().expect("no panic") {
        Ok(lock) => check_to_the_end(&locks, [lock]),
        Err(waiter) => {
            assert_eq!(wakeups.count(), 1, "a lost wake-up");
            check_to_the_end(&locks, [waiter]);
        }
    }
}

/// The waiter is polled, then converted, and dropped if it still waits. The lock that it becomes sees the
/// writes of the holder. The next request is granted in any case.
pub(crate) fn a_conversion_races_the_grant() {
    let locks = LockManager::new();
    let written = Arc::new(AtomicUsize::new(0));
    let holder = lock(&locks, "w:a");
    let (mut waiter, next) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    let releases = {
        let written = Arc::clone(&written);
        thread::spawn(move || {
            written.store(1, Ordering::Relaxed);
            holder.release();
        })
    };
    let converted = match poll(Waker::noop(), &mut waiter) {
        Poll::Ready(lock) => {
            drop(waiter);
            Ok(lock)
        }
        Poll::Pending => waiter.try_acquired(),
    };
    match converted {
        Ok(lock) => {
            assert_eq!(written.load(Ordering::Relaxed), 1);
            assert!(!next.is_acquired(), "the lock is held");
            lock.release();
        }
        Err(waiter) => waiter.withdraw(),
    }
    releases.join().expect("no panic");
    check_to_the_end(&locks, [next]);
}

/// Dropping the request withdraws it, or releases it if the grant came between its last poll and the drop.
pub(crate) fn a_dropped_pending_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (mut waiter, next) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    assert!(poll(Waker::noop(), &mut waiter).is_pending());
    let releases = thread::spawn(move || holder.release());
    drop(waiter);
    releases.join().expect("no panic");
    check_to_the_end(&locks, [next]);
}

/// The same for the future of `LockManager::lock`, which owns its request.
pub(crate) fn a_dropped_lock_future_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut future = Box::pin(locks.lock(set("w:a")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    let next = enqueue(&locks, "w:a");
    let releases = thread::spawn(move || holder.release());
    drop(future);
    releases.join().expect("no panic");
    check_to_the_end(&locks, [next]);
}

/// A request that was granted holds its resources until it is dropped, converted or not.
pub(crate) fn a_dropped_grant_races_a_request() {
    let locks = LockManager::new();
    let (holder, waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    holder.release();
    assert!(waiter.is_acquired());
    let drops = thread::spawn(move || drop(waiter));
    let next = enqueue(&locks, "w:a/b");
    drops.join().expect("no panic");
    check_to_the_end(&locks, [next]);
}
