//! Locks that are narrowed while others enter, leave, or narrow again.

use super::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use super::{Lock, LockManager, Work};
use loom::thread;

fn narrow(mut lock: Lock, text: &str) -> Lock {
    lock.narrow(set(text)).expect("the lock covers the set");
    lock
}

fn narrow_in_steps(lock: &mut Lock, text: &str) -> Work {
    (lock.narrow_in_steps(set(text))).expect("the lock covers the set")
}

fn finish(mut work: Work) {
    while !work.step(0) {}
}

/// One thread narrows a lock, and another one enters a request.
fn narrow_beside(held: &'static str, narrowed: &'static str, entering: &'static str) {
    let locks = LockManager::new();
    let holder = lock(&locks, held);
    let narrows = thread::spawn(move || narrow(holder, narrowed));
    let request = enqueue(&locks, entering);
    let holder = narrows.join().expect("no panic");
    check_to_the_end(&locks, [holder.into(), request.into()] as [Outstanding; 2]);
}

/// The walk looks at its ancestors, at the old request, before it takes the step to what is below.
pub(crate) fn a_lock_is_narrowed_from_above_a_walk_to_below() {
    narrow_beside("w:a", "w:a/b/c", "w:a/b");
}

pub(crate) fn a_lock_is_narrowed_above_a_walk() {
    narrow_beside("w:", "w:a", "w:a/b");
}

pub(crate) fn a_lock_is_narrowed_from_above_a_walk_to_its_path() {
    narrow_beside("w:a", "w:a/b w:a/c", "w:a/b");
}

pub(crate) fn a_lock_is_narrowed_below_a_walk() {
    narrow_beside("w:a/b", "w:a/b/c", "r:a");
}

/// The walk of a read meets neither, at last.
pub(crate) fn a_write_becomes_a_read_beside_a_read() {
    narrow_beside("w:a", "r:a", "r:a");
}

/// The write moves from the one list to the other.
pub(crate) fn a_write_becomes_a_read_beside_a_write() {
    narrow_beside("w:a", "r:a", "w:a");
}

/// The walk visits the list of reads for `a`, then the list of writes for `b`, then the list of reads for `b`. In between
/// the write of `b` moves to the list of reads.
fn narrow_behind_the_first_resource_of_a_walk(locks: &LockManager, others: Vec<Lock>) {
    let holder = lock(locks, "w:b");
    let narrows = thread::spawn(move || narrow(holder, "r:b"));
    let request = enqueue(locks, "w:a w:b");
    let holder = narrows.join().expect("no panic");
    let all = others.into_iter().chain([holder]).map(Outstanding::from);
    check_to_the_end(locks, all.chain([request.into()]));
}

pub(crate) fn a_write_becomes_a_read_behind_the_first_resource_of_a_walk() {
    let locks = LockManager::new();
    // So that the walk visits the list of reads, which is empty.
    lock(&locks, "r:z").release();
    narrow_behind_the_first_resource_of_a_walk(&locks, vec![]);
}

pub(crate) fn a_write_becomes_a_read_before_another_read() {
    let locks = LockManager::new();
    let other = lock(&locks, "r:z");
    narrow_behind_the_first_resource_of_a_walk(&locks, vec![other]);
}

pub(crate) fn a_set_is_narrowed_beside_a_set() {
    narrow_beside("w:a w:b", "w:a/1 r:b", "w:a/1 w:b/2");
}

/// No request has ever locked at the depth of the narrowed one.
pub(crate) fn a_narrowed_lock_is_the_first_of_its_depth() {
    narrow_beside("w:a", "w:a/b", "w:a/b/c");
}

/// At the same path the walk goes on behind the old request, and the narrowed one is there.
pub(crate) fn a_waiting_walk_goes_on_behind_a_narrowed_lock() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a w:b");
    let narrows = thread::spawn(move || narrow(holder, "w:a"));
    let (first, second) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:b"));
    let holder = narrows.join().expect("no panic");
    let all = [holder.into(), first.into(), second.into()] as [Outstanding; 3];
    check_to_the_end(&locks, all);
}

pub(crate) fn a_narrowing_races_a_withdrawal() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (writer, reader) = (enqueue(&locks, "w:a"), enqueue(&locks, "r:a/b"));
    let narrows = thread::spawn(move || narrow(holder, "r:a"));
    writer.withdraw();
    let holder = narrows.join().expect("no panic");
    check_to_the_end(&locks, [holder.into(), reader.into()] as [Outstanding; 2]);
}

/// Both move on a request that waits for the one and then for the other.
pub(crate) fn two_locks_are_narrowed() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "w:a/1"), lock(&locks, "w:a/2"));
    let parent = enqueue(&locks, "r:a");
    let narrows = thread::spawn(move || narrow(first, "r:a/1"));
    let second = narrow(second, "r:a/2");
    let first = narrows.join().expect("no panic");
    let all = [first.into(), second.into(), parent.into()] as [Outstanding; 3];
    check_to_the_end(&locks, all);
}

pub(crate) fn a_narrowing_races_a_close() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let narrows = thread::spawn(move || narrow(holder, "w:a/b"));
    locks.close();
    let drained = super::close::is_drained(&locks);
    assert!(!drained, "drained before the release of a narrowed lock");
    check_to_the_end(&locks, [narrows.join().expect("no panic")]);
    assert!(super::close::is_drained(&locks));
}

/// The `Work` is on one thread, and the release on another.
pub(crate) fn a_release_races_a_narrowing() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let waiter = enqueue(&locks, "w:a/b");
    let work = narrow_in_steps(&mut holder, "w:a/b w:a/c");
    let works = thread::spawn(move || finish(work));
    holder.release();
    works.join().expect("no panic");
    check_to_the_end(&locks, [waiter]);
}

/// The same for a lock that is narrowed again.
pub(crate) fn a_narrowing_races_another_of_the_same_lock() {
    let locks = LockManager::new();
    let mut holder = lock(&locks, "w:a");
    let waiter = enqueue(&locks, "w:a/b");
    let work = narrow_in_steps(&mut holder, "w:a/b w:a/c");
    let works = thread::spawn(move || finish(work));
    let holder = narrow(holder, "r:a/b");
    works.join().expect("no panic");
    check_to_the_end(&locks, [holder.into(), waiter.into()] as [Outstanding; 2]);
}
