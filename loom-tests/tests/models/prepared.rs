//! Prepared sets, whose requests rest outside of the places, beside other requests and one another.

use super::close::is_drained;
use super::shared::{check_to_the_end, enqueue, set};
use super::{LockManager, Pending, PreparedPending, PreparedSet, explore_counters};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::mem;
use std::sync::Arc;

pub(super) fn locks() -> LockManager {
    explore_counters();
    LockManager::new()
}

fn prepare(locks: &LockManager, text: &str) -> PreparedSet {
    locks.prepare(set(text)).expect("within the limits")
}

/// After so many lives without other requests a request knows that it was alone, and has no numbers in reserve.
pub(super) const ALONE: usize = 2;

/// A prepared set that rests after so many lives.
pub(super) fn prepare_after(lives: usize, locks: &LockManager, text: &str) -> PreparedSet {
    let mut set = prepare(locks, text);
    for _ in 0..lives {
        set.blocking_lock().expect("open").release();
    }
    set
}

/// Two requests that conflict, and the later one again after the earlier one has ended.
fn check_both(locks: &LockManager, prepared: PreparedPending<'_>, other: Pending) {
    let is_first = prepared.token() < other.token();
    assert_eq!(prepared.is_acquired(), is_first, "the grant rule");
    assert_eq!(other.is_acquired(), !is_first, "the grant rule");
    let stats = locks.stats();
    assert_eq!((stats.acquired, stats.waiting), (1, 1), "the statistics");
    if is_first {
        drop(prepared);
        check_to_the_end(locks, [other]);
    } else {
        drop(other);
        assert!(prepared.is_acquired(), "the grant rule");
        drop(prepared);
        check_to_the_end::<Pending>(locks, []);
    }
}

/// A prepared set is locked again while another thread enters a request.
pub(super) fn locked_again_beside(lives: usize, prepared: &str, other: &'static str) {
    let locks = locks();
    let mut set = prepare_after(lives, &locks, prepared);
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, other))
    };
    let again = set.enqueue().expect("open");
    let other = enters.join().expect("no panic");
    check_both(&locks, again, other);
}

pub(crate) fn a_prepared_set_races_a_request_for_its_path() {
    locked_again_beside(ALONE, "w:a", "w:a");
}

pub(crate) fn a_prepared_set_races_a_request_above_it() {
    locked_again_beside(ALONE, "w:a/b", "r:a");
}

pub(crate) fn a_prepared_set_races_a_request_below_it() {
    locked_again_beside(ALONE, "r:a", "w:a/b");
}

pub(crate) fn a_prepared_set_races_another_set() {
    locked_again_beside(ALONE, "w:a w:b", "w:b w:c");
}

/// The first of the two lives walks, and the second one only if it was not alone.
pub(crate) fn a_prepared_set_walks_beside_a_request_below_it() {
    let locks = locks();
    let mut set = prepare_after(1, &locks, "r:a");
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a/b"))
    };
    drop(set.enqueue().expect("open"));
    let again = set.enqueue().expect("open");
    let other = enters.join().expect("no panic");
    check_both(&locks, again, other);
}

/// The second set is locked on another thread. The lock stays, as a leaked one does.
fn two_sets_race(mut one: PreparedSet, mut other: PreparedSet, locks: &LockManager) {
    let locks_the_other = thread::spawn(move || {
        let held = other.enqueue().expect("open").try_acquired().ok();
        let token = held.as_ref().map(|held| held.token());
        mem::forget(held);
        (other, token)
    });
    let first = one.enqueue().expect("open");
    let (other, token) = locks_the_other.join().expect("no panic");
    if let Some(token) = token {
        let is_first = first.token() < token;
        assert!(!is_first && !first.is_acquired(), "the grant rule");
    }
    drop(other);
    assert!(first.is_acquired(), "the grant rule");
    first.withdraw();
    check_to_the_end::<Pending>(locks, []);
}

/// The first set was alone, and the second one has never been locked.
pub(crate) fn a_prepared_set_races_the_first_lock_of_another() {
    let locks = locks();
    two_sets_race(
        prepare_after(ALONE, &locks, "w:a"),
        prepare(&locks, "w:a"),
        &locks,
    );
}

/// Both rest, so neither is alone.
pub(crate) fn two_resting_sets_race() {
    let locks = locks();
    let rests = || prepare_after(1, &locks, "w:a");
    two_sets_race(rests(), rests(), &locks);
}

/// Each holder increments a counter by a load and a store, as in
/// [`a_holder_sees_the_writes_of_the_last_holder`](super::leave::a_holder_sees_the_writes_of_the_last_holder). The walk
/// of the request passes the resting one.
pub(crate) fn a_request_sees_the_writes_of_a_life_that_has_ended() {
    count_beside_a_request(ALONE);
}

pub(super) fn count_beside_a_request(lives: usize) {
    let locks = locks();
    let counter = Arc::new(AtomicUsize::new(0));
    let mut set = prepare_after(lives, &locks, "w:a");
    let is_counted = |is_granted: bool, counter: &AtomicUsize| {
        if is_granted {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        usize::from(is_granted)
    };
    let lives = {
        let counter = Arc::clone(&counter);
        thread::spawn(move || {
            let pending = set.enqueue().expect("open");
            let counted = is_counted(pending.is_acquired(), &counter);
            drop(pending);
            (set, counted)
        })
    };
    let request = enqueue(&locks, "w:a");
    let counted = is_counted(request.is_acquired(), &counter);
    drop(request);
    let (set, counted_too) = lives.join().expect("no panic");
    drop(set);
    assert_eq!(
        counter.load(Ordering::Relaxed),
        counted + counted_too,
        "a holder has missed a write"
    );
}

pub(crate) fn a_close_races_a_prepared_set() {
    close_beside(ALONE);
}

pub(super) fn close_beside(lives: usize) {
    let locks = locks();
    let mut set = prepare_after(lives, &locks, "w:a");
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || {
            locks.close();
            is_drained(&locks)
        })
    };
    let pending = set.enqueue();
    let was_drained = closes.join().expect("no panic");
    assert!(pending.is_err() || !was_drained, "drained before a grant");
    drop(pending);
    assert!(set.enqueue().is_err(), "the lock manager is closed");
    assert!(is_drained(&locks));
    check_to_the_end::<Pending>(&locks, []);
}
