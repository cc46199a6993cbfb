//! Requests that rest and are locked again while others enter and leave.

use super::prepared::locks;
use super::shared::{Outstanding, check_to_the_end, enqueue, lock};
use super::{LockManager, Options, PreparedSet, explore_counters};
use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

/// A lock manager in which a request rests at its first release, in one of a few places.
pub(super) fn eager() -> LockManager {
    explore_counters();
    LockManager::with(Options::new().places(4).eager())
}

/// A request rests. It is locked again, released and locked again while another thread enters a request.
fn is_locked_again(rests: &'static str, other: &'static str) {
    let locks = eager();
    lock(&locks, rests).release();
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, other))
    };
    drop(enqueue(&locks, rests));
    let again = enqueue(&locks, rests);
    let other = enters.join().expect("no panic");
    check_to_the_end(&locks, [again, other]);
}

pub(crate) fn a_resting_request_races_another_for_its_path() {
    is_locked_again("w:a", "w:a");
}

pub(crate) fn a_resting_request_races_one_above_it() {
    is_locked_again("w:a/b", "r:a");
}

pub(crate) fn a_resting_request_races_one_below_it() {
    is_locked_again("w:a", "r:a/b");
}

pub(crate) fn a_resting_set_races_a_set() {
    is_locked_again("w:a w:b", "w:b");
}

/// The request was alone in its last life, so its next life does not walk.
pub(crate) fn a_request_that_was_alone_races_another() {
    let locks = eager();
    for _ in 0..2 {
        lock(&locks, "w:a").release();
    }
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a/b"))
    };
    let again = enqueue(&locks, "w:a");
    let other = enters.join().expect("no panic");
    check_to_the_end(&locks, [again, other]);
}

/// The release to rest races the watch of a request that met the holder.
pub(crate) fn a_release_to_rest_races_a_watch() {
    let locks = eager();
    let holder = lock(&locks, "w:a");
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "r:a"))
    };
    holder.release();
    check_to_the_end(&locks, [enters.join().expect("no panic")]);
}

pub(crate) fn two_threads_lock_one_resting_request_again() {
    let locks = eager();
    lock(&locks, "w:a").release();
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:a"))
    };
    let again = enqueue(&locks, "w:a");
    let other = enters.join().expect("no panic");
    check_to_the_end(&locks, [again, other]);
}

pub(crate) fn a_close_races_a_request_that_is_locked_again() {
    let locks = eager();
    lock(&locks, "w:a").release();
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || locks.close())
    };
    let again = locks.enqueue(super::shared::set("w:a"));
    closes.join().expect("no panic");
    check_to_the_end(&locks, again.ok());
}

/// Two prepared sets of one path, the one locked while the other rests.
pub(crate) fn prepared_sets_rest_at_one_path() {
    let locks = locks();
    let set = || super::shared::set("w:a");
    let mut one = locks.prepare(set()).expect("within the limits");
    let mut other = locks.prepare(set()).expect("within the limits");
    for _ in 0..3 {
        for set in [&mut one, &mut other] {
            set.enqueue().expect("open").wait().release();
        }
    }
    check_to_the_end::<Outstanding>(&locks, []);
    let held = one.enqueue().expect("open").wait();
    let waits = other.enqueue().expect("open");
    assert!(!waits.is_acquired(), "the grant rule: both hold their lock");
    held.release();
    assert!(
        waits.is_acquired(),
        "the grant rule: the last holder is gone"
    );
}

/// A child enters below a prepared set that rests and was alone.
pub(crate) fn a_child_enters_below_a_prepared_set() {
    let locks = locks();
    // At the depth of the child. Another mark would make the prepared set walk.
    lock(&locks, "w:z/z").release();
    let mut parent = (locks.prepare(super::shared::set("w:a"))).expect("within the limits");
    for _ in 0..3 {
        parent.enqueue().expect("open").wait().release();
    }
    let child = lock(&locks, "w:a/b");
    let again = parent.enqueue().expect("open");
    assert!(!again.is_acquired(), "the grant rule: both hold their lock");
    child.release();
    assert!(again.is_acquired(), "the grant rule: the child is gone");
}

/// A prepared set that takes numbers from its reserve. Other requests cannot clear it away.
fn has_reserve(locks: &LockManager, text: &str) -> PreparedSet {
    let mut prepared = locks
        .prepare(super::shared::set(text))
        .expect("within the limits");
    for _ in 0..3 {
        prepared.enqueue().expect("open").wait().release();
    }
    prepared
}

/// A request that takes a number from its reserve, while another thread enters.
fn takes_a_number(reserved: &'static str, other: &'static str, marked: &[&str]) {
    let locks = eager();
    for text in marked {
        lock(&locks, text).release();
    }
    let mut prepared = has_reserve(&locks, reserved);
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, other))
    };
    let pending = prepared.enqueue().expect("open");
    let was_held = pending.is_acquired();
    let other = enters.join().expect("no panic");
    let reason = "the grant rule: one of them holds its lock";
    assert!(
        was_held || pending.is_acquired() != other.is_acquired(),
        "{reason}"
    );
    assert_eq!(
        pending.is_acquired(),
        pending.token() < other.token(),
        "{reason}"
    );
    assert_eq!(
        other.is_acquired(),
        other.token() < pending.token(),
        "{reason}"
    );
    drop(pending);
    check_to_the_end(&locks, [other]);
}

pub(crate) fn a_number_in_reserve_races_a_request_for_its_path() {
    takes_a_number("w:a", "w:a", &[]);
}

pub(crate) fn a_number_in_reserve_races_a_request_below_it() {
    takes_a_number("w:a", "r:a/b", &["r:z/z"]);
}

pub(crate) fn a_number_in_reserve_races_the_first_request_of_a_depth() {
    takes_a_number("w:a/b", "r:a", &[]);
}

/// The drained manager has no holder.
pub(crate) fn a_number_in_reserve_races_a_close() {
    let locks = eager();
    let mut prepared = has_reserve(&locks, "w:a");
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || {
            locks.close();
            let mut drained = pin!(locks.drained());
            drained
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        })
    };
    let held = prepared.enqueue();
    let was_refused = held.is_err();
    // The lock is kept until the other thread has looked.
    let is_drained = closes.join().expect("no panic");
    assert!(
        !is_drained || was_refused,
        "the grant rule: drained beside a holder"
    );
    drop(held);
}

/// A request comes and goes between the draw of another one and its walk. Its token is larger than the numbers that the
/// other one has drawn. It watches a third one, so the other one may rest.
pub(crate) fn a_request_comes_and_goes_before_a_walk() {
    let locks = {
        explore_counters();
        LockManager::with(Options::new().places(0).eager())
    };
    let mut prepared = has_reserve(&locks, "w:a");
    // So that the next lock of the prepared set walks.
    lock(&locks, "w:a").release();
    let _holder = lock(&locks, "w:0");
    let comes_and_goes = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:0 w:a").token())
    };
    drop(prepared.enqueue().expect("open"));
    let token = comes_and_goes.join().expect("no panic");
    let later = prepared.enqueue().expect("open");
    assert!(
        later.token() > token,
        "the tokens of conflicting requests grow"
    );
}

/// Tokens that are skipped void the numbers in reserve.
pub(crate) fn tokens_are_skipped_beside_a_reserve() {
    let locks = eager();
    let mut prepared = has_reserve(&locks, "w:a");
    let last = locks.stats().last_token + 10;
    locks.skip_to(last).expect("open");
    let later = prepared.enqueue().expect("open");
    assert!(
        later.token() > last,
        "the tokens of conflicting requests grow"
    );
}
