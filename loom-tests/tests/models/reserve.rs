//! Requests that take their tickets from numbers in reserve, beside other requests.

use super::leave::count_grants_of_two_threads;
use super::prepared::{
    close_beside, count_beside_a_request, locked_again_beside, locks, prepare_after,
};
use super::reuse::eager;
use super::shared::{Outstanding, check_to_the_end, enqueue, set};
use super::{LockManager, Options, Pending, explore_counters};
use loom::thread;

/// After so many lives without other requests a request has numbers in reserve.
const IN_RESERVE: usize = 6;

/// Its next life takes a number that was drawn before this.
pub(crate) fn a_life_takes_a_number_in_reserve() {
    let locks = locks();
    let mut set = prepare_after(IN_RESERVE, &locks, "w:a");
    let other = enqueue(&locks, "w:b");
    assert!(set.blocking_lock().expect("open").token() < other.token());
}

pub(crate) fn a_number_in_reserve_races_a_request_for_its_path() {
    locked_again_beside(IN_RESERVE, "w:a", "w:a");
}

/// The request is the first one of its depth.
pub(crate) fn a_number_in_reserve_races_a_request_above_it() {
    locked_again_beside(IN_RESERVE, "w:a/b", "r:a");
}

pub(crate) fn a_number_in_reserve_races_a_request_below_it() {
    locked_again_beside(IN_RESERVE, "r:a", "w:a/b");
}

pub(crate) fn numbers_in_reserve_race_another_set() {
    locked_again_beside(IN_RESERVE, "w:a w:b", "w:b w:c");
}

pub(crate) fn a_request_sees_the_writes_of_a_life_with_a_number_in_reserve() {
    count_beside_a_request(IN_RESERVE);
}

pub(crate) fn a_close_races_a_number_in_reserve() {
    close_beside(IN_RESERVE);
}

/// Of two tries without a third request, one succeeds.
pub(crate) fn a_try_with_numbers_in_reserve_races_another() {
    let locks = locks();
    let mut set = prepare_after(IN_RESERVE, &locks, "w:a");
    let tries = {
        let locks = locks.clone();
        thread::spawn(move || locks.try_lock(super::shared::set("w:a")).expect("open"))
    };
    let first = set.try_lock().expect("open");
    let second = tries.join().expect("no panic");
    assert!(first.is_some() != second.is_some(), "one try succeeds");
    drop(first);
    check_to_the_end(&locks, second);
}

/// The other request comes and goes, perhaps between the draw of the prepared set and its walk. It watches a third one,
/// so the prepared set may rest.
pub(crate) fn a_walk_voids_the_numbers_in_reserve() {
    explore_counters();
    // Each draw of a request that was alone takes several numbers.
    let locks = LockManager::with(Options::new().places(0).eager());
    let mut set = prepare_after(IN_RESERVE, &locks, "w:a");
    // So that the next life walks.
    drop(enqueue(&locks, "w:a"));
    let holder = enqueue(&locks, "w:0");
    let enters = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:0 w:a").token())
    };
    drop(set.enqueue().expect("open"));
    let before = enters.join().expect("no panic");
    let token = set.enqueue().expect("open").token();
    assert!(
        token > before,
        "tokens of conflicting requests: {token} came after {before}"
    );
    drop(set);
    check_to_the_end(&locks, [holder]);
}

pub(crate) fn skipped_tokens_race_a_number_in_reserve() {
    let locks = locks();
    let mut set = prepare_after(IN_RESERVE, &locks, "w:a");
    let skips = {
        let locks = locks.clone();
        thread::spawn(move || locks.skip_to(1_000).expect("open"))
    };
    drop(set.enqueue().expect("open"));
    skips.join().expect("no panic");
    let token = set.enqueue().expect("open").token();
    assert!(token > 1_000, "a number in reserve is smaller");
    drop(set);
    check_to_the_end::<Pending>(&locks, []);
}

/// The token of a restored request is larger than those in reserve.
pub(crate) fn a_restored_request_races_a_number_in_reserve() {
    let locks = locks();
    let mut prepared = prepare_after(IN_RESERVE, &locks, "w:a");
    let restores = {
        let locks = locks.clone();
        thread::spawn(move || locks.restore(1_000, set("w:a/b")).expect("a large token"))
    };
    let token = prepared.enqueue().map(|pending| {
        let (token, is_acquired) = (pending.token(), pending.is_acquired());
        assert!(is_acquired || token > 1_000, "the grant rule");
        token
    });
    let restored = restores.join().expect("no panic");
    assert!(token.is_ok(), "open");
    let restored = Outstanding::from(restored);
    let again = prepared.enqueue().expect("open");
    assert!(
        again.token() > 1_000 && !again.is_acquired(),
        "the grant rule"
    );
    drop(again);
    check_to_the_end(&locks, [restored]);
}

/// Each of two threads locks the request that rests in a place, perhaps one after the other.
pub(crate) fn a_life_sees_the_writes_of_the_last_one() {
    let locks = eager();
    for _ in 0..IN_RESERVE {
        drop(enqueue(&locks, "w:a"));
    }
    count_grants_of_two_threads(&locks);
    check_to_the_end::<Pending>(&locks, []);
}
