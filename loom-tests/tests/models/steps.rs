//! Operations in steps, each step with the smallest budget, beside other operations.

use super::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use super::{Entering, LockManager, Pending, Work};
use loom::thread;

fn finish(mut work: Work) {
    while !work.step(0) {}
}

fn finish_entering(mut entering: Entering) -> Pending {
    loop {
        if let Some(entered) = entering.step(0) {
            let (pending, work) = entered.expect("the lock manager is open");
            finish(work);
            return pending;
        }
    }
}

fn enqueue_in_steps(locks: &LockManager, text: &str) -> Entering {
    (locks.enqueue_in_steps(set(text))).expect("the lock manager is open")
}

/// The walk of the writer visits an earlier read. So it pauses, and a step holds its watch.
pub(crate) fn a_step_races_a_withdrawal() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "r:a"), lock(&locks, "w:b"));
    let (writer, reader) = (enqueue(&locks, "w:a w:b"), enqueue(&locks, "r:a"));
    let steps = thread::spawn(move || finish(first.release_in_steps()));
    writer.withdraw();
    steps.join().expect("no panic");
    check_to_the_end(&locks, [second.into(), reader.into()] as [Outstanding; 2]);
}

pub(crate) fn a_step_races_a_new_request() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a w:b");
    let reader = enqueue(&locks, "r:b");
    let steps = thread::spawn(move || finish(holder.release_in_steps()));
    let writer = enqueue(&locks, "w:a w:b");
    steps.join().expect("no panic");
    check_to_the_end(&locks, [reader, writer]);
}

/// The parent moves from a request that ends in steps to another one that does.
pub(crate) fn two_works_overlap() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "w:a/1"), lock(&locks, "w:a/2"));
    let parent = enqueue(&locks, "w:a");
    let steps = thread::spawn(move || finish(first.release_in_steps()));
    finish(second.release_in_steps());
    steps.join().expect("no panic");
    check_to_the_end(&locks, [parent]);
}

/// Two steps: the first removes the entry, and the second takes the chain and moves one watch.
pub(crate) fn a_work_is_dropped_in_mid_walk() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (first, second) = (enqueue(&locks, "r:a/1"), enqueue(&locks, "r:a/2"));
    let steps = thread::spawn(move || {
        let mut work = holder.release_in_steps();
        let _ = work.step(0) || work.step(0);
    });
    let writer = enqueue(&locks, "w:a");
    steps.join().expect("no panic");
    check_to_the_end(&locks, [first, second, writer]);
}

/// Between the steps of the purge, another thread pushes a watch.
pub(crate) fn a_divided_purge_races_a_new_watch() {
    let locks = LockManager::new();
    let holder = enqueue(&locks, "w:a");
    let [first, second, third] = [(); 3].map(|()| enqueue(&locks, "r:a"));
    let steps = thread::spawn(move || finish(third.withdraw_in_steps()));
    let fourth = enqueue(&locks, "r:a");
    steps.join().expect("no panic");
    check_to_the_end(&locks, [holder, first, second, fourth]);
}

/// Between the steps of the purge, the release takes the chain.
pub(crate) fn a_divided_purge_races_the_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let [first, second, third] = [(); 3].map(|()| enqueue(&locks, "r:a"));
    let steps = thread::spawn(move || finish(second.withdraw_in_steps()));
    finish(holder.release_in_steps());
    steps.join().expect("no panic");
    check_to_the_end(&locks, [first, third]);
}

pub(crate) fn two_divided_purges_race() {
    let locks = LockManager::new();
    let holder = enqueue(&locks, "w:a");
    let [first, second, third, fourth] = [(); 4].map(|()| enqueue(&locks, "r:a"));
    let steps = thread::spawn(move || finish(third.withdraw_in_steps()));
    finish(second.withdraw_in_steps());
    steps.join().expect("no panic");
    check_to_the_end(&locks, [holder, first, fourth]);
}

/// Both insert their entries in steps.
pub(crate) fn two_requests_enter_in_steps() {
    let locks = LockManager::new();
    let other = {
        let locks = locks.clone();
        thread::spawn(move || finish_entering(enqueue_in_steps(&locks, "w:a w:b")))
    };
    let one = finish_entering(enqueue_in_steps(&locks, "w:b w:c"));
    let other = other.join().expect("no panic");
    check_to_the_end(&locks, [one, other]);
}

/// The request pauses in its first walk while it is counted as a waiting one.
pub(crate) fn entering_in_steps_races_a_release() {
    let locks = LockManager::new();
    let (reader, holder) = (enqueue(&locks, "r:a"), lock(&locks, "w:b"));
    let steps = thread::spawn(move || finish(holder.release_in_steps()));
    let writer = finish_entering(enqueue_in_steps(&locks, "r:a w:b"));
    steps.join().expect("no panic");
    check_to_the_end(&locks, [reader, writer]);
}

/// An entering request is dropped after this many of its steps.
fn dropped_entering_races_a_request(steps: usize) {
    let locks = LockManager::new();
    let mut entering = enqueue_in_steps(&locks, "r:a w:b w:c");
    let drops = thread::spawn(move || {
        for _ in 0..steps {
            assert!(entering.step(0).is_none());
        }
        drop(entering);
    });
    let other = enqueue(&locks, "w:a w:b");
    drops.join().expect("no panic");
    check_to_the_end(&locks, [other]);
}

pub(crate) fn entering_dropped_before_its_first_step_races_a_request() {
    dropped_entering_races_a_request(0);
}

pub(crate) fn entering_dropped_after_one_step_races_a_request() {
    dropped_entering_races_a_request(1);
}

pub(crate) fn entering_dropped_after_two_steps_races_a_request() {
    dropped_entering_races_a_request(2);
}

pub(crate) fn a_close_races_entering_in_steps() {
    let locks = LockManager::new();
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || finish(locks.close_in_steps()))
    };
    let entered = locks
        .enqueue_in_steps(set("w:a w:b"))
        .and_then(|mut entering| {
            loop {
                if let Some(entered) = entering.step(0) {
                    return entered.map(|(pending, _)| pending);
                }
            }
        });
    closes.join().expect("no panic");
    check_to_the_end(&locks, entered);
}
