//! Requests that rest and are locked again while others enter and leave.

use super::prepared::locks;
use super::shared::{Outstanding, check_to_the_end, enqueue, lock};
use super::{LockManager, Options, explore_counters};
use loom::thread;

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

/// The first watch may come before the release looks for one, and the second one after.
pub(crate) fn two_watches_race_a_release_to_rest() {
    let locks = eager();
    let holder = lock(&locks, "w:a");
    let enters = || {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "r:a"))
    };
    let readers = [enters(), enters()];
    holder.release();
    check_to_the_end(
        &locks,
        readers.map(|reader| reader.join().expect("no panic")),
    );
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
