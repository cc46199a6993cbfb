//! Requests that leave while others enter, wait or leave.

use super::shared::{check_to_the_end, enqueue, lock};
use super::{Lock, LockManager};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::sync::Arc;

pub(crate) fn a_release_races_a_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let releases = thread::spawn(move || holder.release());
    let waiter = enqueue(&locks, "w:a/b");
    releases.join().expect("no panic");
    check_to_the_end(&locks, [waiter]);
}

/// One watch is in the first place when the other one comes.
pub(crate) fn a_release_races_a_second_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let first = enqueue(&locks, "r:a");
    let releases = thread::spawn(move || holder.release());
    let second = enqueue(&locks, "r:a");
    releases.join().expect("no panic");
    check_to_the_end(&locks, [first, second]);
}

/// Both watches may be the first one.
pub(crate) fn two_watches_race_a_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let releases = thread::spawn(move || holder.release());
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "r:a"))
    };
    let second = enqueue(&locks, "r:a");
    let first = enters.join().expect("no panic");
    releases.join().expect("no panic");
    check_to_the_end(&locks, [first, second]);
}

/// The walk of the parent goes on behind the child that it meets first.
pub(crate) fn a_parent_moves_from_child_to_child() {
    let locks = LockManager::new();
    let (first, second) = (enqueue(&locks, "w:a/1"), enqueue(&locks, "w:a/2"));
    let leaves = thread::spawn(move || drop(first));
    let parent = enqueue(&locks, "w:a");
    leaves.join().expect("no panic");
    check_to_the_end(&locks, [second, parent]);
}

pub(crate) fn a_withdrawal_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let (writer, reader) = (enqueue(&locks, "w:a"), enqueue(&locks, "r:a"));
    let releases = thread::spawn(move || holder.release());
    writer.withdraw();
    releases.join().expect("no panic");
    check_to_the_end(&locks, [reader]);
}

pub(crate) fn a_withdrawal_races_another() {
    let locks = LockManager::new();
    let holder = enqueue(&locks, "r:a");
    let (first, second) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    let reader = enqueue(&locks, "r:a");
    let withdraws = thread::spawn(move || second.withdraw());
    first.withdraw();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [holder, reader]);
}

pub(crate) fn a_withdrawal_races_a_watch() {
    let locks = LockManager::new();
    let (holder, writer) = (enqueue(&locks, "r:a"), enqueue(&locks, "w:a"));
    let withdraws = thread::spawn(move || writer.withdraw());
    let reader = enqueue(&locks, "r:a");
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [holder, reader]);
}

/// The withdrawal of the second reader purges the chain of the holder. The watch of the first one is in the first
/// place, not in the chain.
pub(crate) fn a_purge_races_the_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let [first, second, third] = [(); 3].map(|()| enqueue(&locks, "r:a"));
    let withdraws = thread::spawn(move || second.withdraw());
    holder.release();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [first, third]);
}

/// The watch of the first reader stays in the first place.
pub(crate) fn a_withdrawal_of_the_first_watch_races_the_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (first, second) = (enqueue(&locks, "r:a"), enqueue(&locks, "r:a"));
    let withdraws = thread::spawn(move || first.withdraw());
    holder.release();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [second]);
}

pub(crate) fn a_purge_races_a_new_watch() {
    let locks = LockManager::new();
    let holder = enqueue(&locks, "w:a");
    let [first, second, third] = [(); 3].map(|()| enqueue(&locks, "r:a"));
    let withdraws = thread::spawn(move || second.withdraw());
    let fourth = enqueue(&locks, "r:a");
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [holder, first, third, fourth]);
}

pub(crate) fn a_purge_races_another() {
    let locks = LockManager::new();
    let holder = enqueue(&locks, "w:a");
    let [first, second, third, fourth] = [(); 4].map(|()| enqueue(&locks, "r:a"));
    let withdraws = thread::spawn(move || third.withdraw());
    second.withdraw();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, [holder, first, fourth]);
}

/// Two threads lock one path, and count their grants by a load and a store.
pub(crate) fn count_grants_of_two_threads(locks: &LockManager) {
    let counter = Arc::new(AtomicUsize::new(0));
    let increment_if_granted = {
        let (locks, counter) = (locks.clone(), Arc::clone(&counter));
        move || {
            let request = enqueue(&locks, "w:a");
            let is_granted = request.is_acquired();
            if is_granted {
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            usize::from(is_granted)
        }
    };
    let other = thread::spawn(increment_if_granted.clone());
    let grants = increment_if_granted() + other.join().expect("no panic");
    assert_eq!(
        counter.load(Ordering::Relaxed),
        grants,
        "a holder has missed a write"
    );
}

/// Each holder increments a counter by a load and a store. A holder that misses the store of the last one
/// loses an increment.
pub(crate) fn a_holder_sees_the_writes_of_the_last_holder() {
    let locks = LockManager::new();
    count_grants_of_two_threads(&locks);
    check_to_the_end::<Lock>(&locks, []);
}

/// The waiter is granted by the release, or it enters too late to meet the holder.
pub(crate) fn a_waiter_sees_the_writes_of_the_last_holder() {
    let locks = LockManager::new();
    let written = Arc::new(AtomicUsize::new(0));
    let holder = lock(&locks, "w:a");
    let releases = {
        let written = Arc::clone(&written);
        thread::spawn(move || {
            written.store(1, Ordering::Relaxed);
            holder.release();
        })
    };
    let waiter = enqueue(&locks, "w:a");
    // A thread that joins must not be unparked: loom treats that as the end of the joined thread.
    let waits = thread::spawn(move || {
        let lock = waiter.wait();
        assert_eq!(written.load(Ordering::Relaxed), 1);
        lock
    });
    releases.join().expect("no panic");
    check_to_the_end(&locks, [waits.join().expect("no panic")]);
}
