//! `Pending`, `Lock` and the future of `lock` under misuse and in races: dropped, forgotten, polled too often
//! and never polled.

use super::waiting::{Task, block_on, poll_with};
use super::{enqueue, granted, lock, set};
use locktopus_engine::{Lock, LockError, LockManager, Pending};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

/// Checked by the compiler.
#[test]
fn handles_and_futures_may_go_to_other_threads() {
    fn shared<T: Send + Sync + Unpin + 'static>() {}
    fn sent<T: Send + 'static>(_: T) {}
    shared::<LockManager>();
    shared::<Lock>();
    shared::<Pending>();
    let locks = LockManager::new();
    sent(locks.lock(set("w:a")));
    sent(locks.drained());
}

#[test]
fn handles_are_three_and_four_words() {
    assert_eq!(size_of::<Lock>(), 3 * size_of::<usize>());
    assert_eq!(size_of::<Pending>(), 4 * size_of::<usize>());
}

fn panic_message(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it panics");
    let message = panic.downcast_ref::<&str>();
    (*message.expect("a message")).to_owned()
}

#[test]
fn a_resolved_pending_answers_and_panics_when_it_is_asked_for_its_lock_again() {
    let locks = LockManager::new();
    let resolved = || {
        let mut pending = enqueue(&locks, "w:a");
        let Poll::Ready(lock) = poll_with(Waker::noop(), pin!(&mut pending)) else {
            panic!("the lock is free");
        };
        (pending, lock)
    };
    let (mut pending, lock) = resolved();
    assert!(pending.is_acquired() && pending.token() == lock.token());
    assert_eq!(pending.resources(), lock.resources());
    let again = panic_message(|| drop(poll_with(Waker::noop(), pin!(&mut pending))));
    assert!(again.contains("after it had resolved"), "{again}");
    lock.release();
    assert!(pending.is_acquired() && pending.token() == 1);
    assert!(panic_message(|| drop(pending.wait())).contains("after it had resolved"));
    let (pending, _lock) = resolved();
    assert!(panic_message(|| drop(pending.try_acquired())).contains("after it had resolved"));
}

#[test]
fn dropping_a_resolved_pending_does_not_release_its_lock() {
    let locks = LockManager::new();
    let mut pending = enqueue(&locks, "w:a");
    let lock = block_on(&mut pending);
    drop(pending);
    let next = enqueue(&locks, "w:a");
    assert!(!next.is_acquired());
    lock.release();
    assert!(next.is_acquired());
}

#[test]
fn a_granted_pending_holds_until_it_is_dropped() {
    let locks = LockManager::new();
    let first = enqueue(&locks, "w:a");
    let next = enqueue(&locks, "w:a");
    assert!(first.is_acquired() && !next.is_acquired());
    drop(first);
    assert!(next.is_acquired());
}

#[test]
fn a_forgotten_pending_keeps_its_place() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    mem::forget(enqueue(&locks, "w:a"));
    let next = enqueue(&locks, "w:a");
    holder.release();
    assert!(!next.is_acquired());
    assert_eq!(locks.requests().count(), 2);
}

#[test]
fn the_futures_do_not_borrow_the_manager() {
    fn lock_of_a_local_manager() -> impl Future<Output = Result<Lock, LockError>> + Send + 'static {
        let locks = LockManager::new();
        locks.lock(set("w:a"))
    }
    fn drained_local_manager() -> impl Future<Output = ()> + Send + 'static {
        let locks = LockManager::new();
        locks.close();
        locks.drained()
    }
    assert!(block_on(lock_of_a_local_manager()).is_ok());
    block_on(drained_local_manager());
}

#[test]
fn a_lock_future_takes_its_place_at_the_first_poll() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut first = Box::pin(locks.lock(set("w:a")));
    assert_eq!(locks.requests().count(), 1, "the future was not polled yet");
    let second = enqueue(&locks, "w:a");
    let task = Task::new();
    assert!(task.poll(first.as_mut()).is_pending());
    holder.release();
    granted(second).release();
    let Poll::Ready(Ok(first)) = task.poll(first.as_mut()) else {
        panic!("its turn has come");
    };
    assert_eq!(first.token(), 3);
}

#[test]
fn a_lock_future_that_is_never_polled_leaves_nothing() {
    let locks = LockManager::new();
    drop(locks.lock(set("w:a")));
    assert_eq!(locks.stats().last_token, 0);
    lock(&locks, "w:a").release();
}

#[test]
fn dropping_a_lock_future_withdraws_or_releases() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let mut waiting = Box::pin(locks.lock(set("w:a")));
    let task = Task::new();
    assert!(task.poll(waiting.as_mut()).is_pending());
    let reader = enqueue(&locks, "r:a");
    drop(waiting);
    assert!(reader.is_acquired(), "the writer was withdrawn");
    reader.withdraw();

    let mut granted = Box::pin(locks.lock(set("w:a")));
    assert!(task.poll(granted.as_mut()).is_pending());
    holder.release();
    assert_eq!(task.wakeups(), 1);
    drop(granted); // before the poll that would have returned the lock
    lock(&locks, "w:a").release();
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn a_lock_future_reports_an_invalid_set() {
    let locks = LockManager::new();
    let refused = block_on(locks.lock(set("")));
    assert_eq!(refused.unwrap_err(), LockError::NoResources);
}

#[test]
fn a_lock_future_that_is_polled_after_the_close_is_refused() {
    let locks = LockManager::new();
    let late = locks.lock(set("w:a"));
    let mut in_line = pin!(locks.lock(set("r:b")));
    let holder = lock(&locks, "w:b");
    assert!(poll_with(Waker::noop(), in_line.as_mut()).is_pending());
    locks.close();
    assert_eq!(block_on(late).unwrap_err(), LockError::Closed);
    holder.release();
    assert!(block_on(in_line).is_ok(), "it was in line before the close");
}

/// Runs something when it is dropped: foreign code in the middle of a poll that purges retired wakers.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut() + Send + Sync + 'static> Wake for OnDrop<F> {
    fn wake(self: Arc<Self>) {}
}

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls with one new waker after another until `done`, so that the first waker is purged and dropped.
fn poll_until(done: impl Fn() -> bool, pending: &mut Pending) -> Poll<Lock> {
    for _ in 0..100 {
        let polled = Task::new().poll(pin!(&mut *pending));
        if polled.is_ready() || done() {
            return polled;
        }
    }
    panic!("no waker is purged");
}

#[test]
fn a_grant_in_the_middle_of_a_poll_is_returned_by_it() {
    let locks = LockManager::new();
    let holder = Arc::new(Mutex::new(Some(lock(&locks, "w:a"))));
    let mut pending = enqueue(&locks, "w:a");
    let release = {
        let holder = Arc::clone(&holder);
        OnDrop(move || drop(holder.lock().expect("no panic").take()))
    };
    assert!(poll_with(&Waker::from(Arc::new(release)), pin!(&mut pending)).is_pending());
    let released = || holder.lock().expect("no panic").is_none();
    assert!(poll_until(released, &mut pending).is_ready());
}

#[test]
fn a_poll_that_panics_keeps_the_place_in_line() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (mut pending, next) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    let panics = OnDrop(|| panic!("from the drop"));
    assert!(poll_with(&Waker::from(Arc::new(panics)), pin!(&mut pending)).is_pending());
    let panicked = panic_message(|| drop(poll_until(|| false, &mut pending)));
    assert_eq!(panicked, "from the drop");
    let task = Task::new();
    assert!(task.poll(pin!(&mut pending)).is_pending());
    holder.release();
    assert_eq!(task.wakeups(), 1);
    assert!(!next.is_acquired());
    granted(pending).release();
    assert!(next.is_acquired());
}

#[test]
fn a_panicking_holder_survives_a_panicking_waker() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from the waker");
        }
    }
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut pending = enqueue(&locks, "w:a");
    assert!(poll_with(&Waker::from(Arc::new(Panics)), pin!(&mut pending)).is_pending());
    let message = panic_message(|| {
        let _holder = holder;
        panic!("from the holder");
    });
    assert_eq!(message, "from the holder");
    granted(pending).release();
}

#[test]
fn a_waker_may_drop_the_request_that_it_wakes() {
    struct Withdraws(Mutex<Option<Pending>>);
    impl Wake for Withdraws {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().expect("no panic").take());
        }
    }
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut pending = enqueue(&locks, "w:a");
    let next = enqueue(&locks, "w:a");
    let withdraws = Arc::new(Withdraws(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&withdraws));
    assert!(poll_with(&waker, pin!(&mut pending)).is_pending());
    *withdraws.0.lock().expect("no panic") = Some(pending);
    holder.release();
    assert!(next.is_acquired());
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn a_waker_may_drop_another_request_of_the_same_grant() {
    struct Withdraws(Mutex<Vec<Pending>>);
    impl Wake for Withdraws {
        fn wake(self: Arc<Self>) {
            self.0.lock().expect("no panic").clear();
        }
    }
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let withdraws = Arc::new(Withdraws(Mutex::new(Vec::new())));
    let waker = Waker::from(Arc::clone(&withdraws));
    let mut readers: Vec<Pending> = (0..3).map(|_| enqueue(&locks, "r:a")).collect();
    for reader in &mut readers {
        assert!(poll_with(&waker, pin!(reader)).is_pending());
    }
    *withdraws.0.lock().expect("no panic") = readers;
    let writer = enqueue(&locks, "w:a");
    holder.release();
    assert!(writer.is_acquired());
}
