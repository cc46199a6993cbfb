//! Closing and draining.

use super::shared::{check_to_the_end, lock, set};
use super::wait::Wakeups;
use super::{Lock, LockManager};
use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

pub(crate) fn is_drained(locks: &LockManager) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(locks.drained()).poll(&mut context).is_ready()
}

pub(crate) fn a_close_races_a_request() {
    let locks = LockManager::new();
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || {
            locks.close();
            is_drained(&locks)
        })
    };
    let request = locks.enqueue(set("w:a"));
    let was_drained = closes.join().expect("no panic");
    assert!(request.is_err() || !was_drained, "drained before a grant");
    assert!(locks.enqueue(set("w:a")).is_err());
    check_to_the_end(&locks, request);
    assert!(is_drained(&locks));
}

pub(crate) fn draining_races_the_last_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a w:b");
    locks.close();
    let releases = thread::spawn(move || holder.release());
    let wakeups = Arc::new(Wakeups::default());
    let waker = Waker::from(Arc::clone(&wakeups));
    let mut drained = pin!(locks.drained());
    let at_once = drained
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_ready();
    let left = locks.requests().count();
    assert!(!at_once || left == 0, "drained before {left} requests");
    releases.join().expect("no panic");
    assert!(at_once || wakeups.count() > 0, "a lost wake-up");
    assert!(is_drained(&locks));
    check_to_the_end::<Lock>(&locks, []);
}
