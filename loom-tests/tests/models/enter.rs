//! Requests that enter at the same time.

use super::shared::{Outstanding, check_to_the_end, enqueue, set};
use super::{LockManager, Resource};
use loom::thread;
use std::collections::BTreeSet;
use std::iter;

/// Each thread enters these requests one after the other. They are outstanding together at the end.
fn enter_together<const N: usize>(threads: [&'static [&'static str]; N]) {
    enter_together_in(LockManager::new(), threads);
}

/// The same in a lock manager that has locked something at each depth of the requests before.
///
/// So no thread marks a depth. Three threads that race for the marks, too, have ten times as many
/// executions. `the_first_lock_of_a_depth` and `a_depth_that_another_request_has_marked` show that race.
fn enter_together_at_known_depths<const N: usize>(threads: [&'static [&'static str]; N]) {
    let locks = LockManager::new();
    let texts = threads.iter().copied().flatten();
    let depths: BTreeSet<_> = texts
        .flat_map(|text| set(text))
        .map(|resource| (resource.mode, resource.path.depth()))
        .collect();
    for (mode, depth) in depths {
        let path = iter::repeat_n("z", depth).collect();
        drop(locks.enqueue([Resource { path, mode }]).expect("open"));
    }
    enter_together_in(locks, threads);
}

fn enter_together_in<const N: usize>(locks: LockManager, threads: [&'static [&'static str]; N]) {
    let [first, others @ ..] = &threads[..] else {
        unreachable!("there is a thread");
    };
    let enter = |texts: &'static [&'static str]| {
        let locks = locks.clone();
        move || -> Vec<_> { texts.iter().map(|text| enqueue(&locks, text)).collect() }
    };
    let others: Vec<_> = others
        .iter()
        .map(|texts| thread::spawn(enter(texts)))
        .collect();
    let mut outstanding = enter(first)();
    for other in others {
        outstanding.extend(other.join().expect("no panic"));
    }
    check_to_the_end(&locks, outstanding);
}

pub(crate) fn two_requests_for_the_same_two_resources() {
    enter_together([&["w:a w:b"], &["w:b w:a"]]);
}

pub(crate) fn three_requests_that_overlap_pairwise() {
    enter_together_at_known_depths([&["w:a w:b"], &["w:b w:c"], &["w:c w:a"]]);
}

pub(crate) fn parent_child_and_grandchild() {
    enter_together_at_known_depths([&["w:a/b"], &["r:a"], &["w:a/b/c"]]);
}

pub(crate) fn readers_and_a_writer() {
    enter_together_at_known_depths([&["r:a"], &["w:a"], &["r:a"]]);
}

/// The second thread may meet one entry of the first request before the other entry is inserted. Then it
/// walks over the place of that other entry.
pub(crate) fn a_walk_meets_a_half_inserted_request() {
    enter_together([&["w:a w:b"], &["w:a", "w:b"]]);
}

pub(crate) fn helpers_race_the_owner_for_its_ticket() {
    enter_together_at_known_depths([&["w:a"], &["w:a"], &["w:a"]]);
}

/// The request of the first thread may be born first and get its ticket between the tickets of the second thread.
pub(crate) fn tickets_overtake_births() {
    enter_together([&["w:a"], &["w:x", "w:a"]]);
}

/// The walk of the child must look up the depth of the parent, at which nothing was locked before.
pub(crate) fn the_first_lock_of_a_depth() {
    enter_together([&["r:a"], &["w:a/b"]]);
}

/// The third thread must look up the depth of the second one, which may have found it marked by the first.
pub(crate) fn a_depth_that_another_request_has_marked() {
    enter_together([&["r:x"], &["r:a"], &["w:a/b"]]);
}

pub(crate) fn a_try_races_a_request() {
    let locks = LockManager::new();
    let tries = {
        let locks = locks.clone();
        thread::spawn(move || locks.try_lock(set("w:a/b")).expect("open"))
    };
    let request = enqueue(&locks, "w:a");
    let tried = tries.join().expect("no panic");
    assert!(tried.is_some() || request.is_acquired());
    let tried = tried.map(Outstanding::from);
    check_to_the_end(&locks, tried.into_iter().chain([request.into()]));
}

pub(crate) fn two_tries_race() {
    let locks = LockManager::new();
    let tries = {
        let locks = locks.clone();
        thread::spawn(move || locks.try_lock(set("w:a")).expect("open"))
    };
    let first = locks.try_lock(set("w:a")).expect("open");
    let second = tries.join().expect("no panic");
    assert!(first.is_some() != second.is_some());
    check_to_the_end(&locks, first.into_iter().chain(second));
}
