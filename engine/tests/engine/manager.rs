//! Tokens, limits, the listing, the statistics and the close of a lock manager.

use super::{enqueue, granted, lock, set};
use locktopus_engine::{
    LockError, LockManager, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES, Options, RequestState,
    Resource,
};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

#[test]
fn tokens_of_conflicting_requests_grow_and_all_are_unique() {
    let locks = LockManager::with(Options::new().eager());
    assert_eq!(locks.stats().last_token, 0);
    let mut prepared = locks.prepare(set("w:a")).expect("within the limits");
    let mut all = HashSet::new();
    let mut last = HashMap::new();
    for round in 0..1000 {
        let path = ["a", "b", "c"][round % 3];
        let token = match round % 2 {
            0 => lock(&locks, &format!("w:{path}")).token(),
            // Between two of its locks other requests come and go, or do not.
            _ if round % 7 < 3 => lock(&locks, "w:").token(),
            _ => prepared.blocking_lock().expect("open").token(),
        };
        let touched: &[&str] = match round % 2 {
            0 => &[path],
            _ if round % 7 < 3 => &["a", "b", "c"],
            _ => &["a"],
        };
        for path in touched {
            let before = last.insert(path.to_string(), token);
            assert!(before < Some(token), "{before:?} before {token}");
        }
        assert!(all.insert(token) && token <= locks.stats().last_token);
    }
}

#[test]
fn tokens_of_a_successor_continue_after_the_last_token() {
    let locks = LockManager::with_last_token(41);
    assert_eq!(locks.stats().last_token, 41);
    assert_eq!(lock(&locks, "w:a").token(), 42);
}

#[test]
fn limits_are_errors_and_leave_nothing() {
    let locks = LockManager::new();
    let deep = |depth| Resource::read((0..depth).map(|_| "x"));
    let long = |bytes: usize| Resource::read(["x".repeat(bytes - 1)]);
    let many = |count: usize| (0..count).map(|i| Resource::read([i.to_string()]));
    let refused = |set: Vec<Resource>| {
        let error = locks.enqueue(set.clone()).unwrap_err();
        assert_eq!(locks.try_lock(set.clone()).unwrap_err(), error);
        assert_eq!(locks.blocking_lock(set.clone()).unwrap_err(), error);
        let timed = locks.blocking_lock_timeout(set, Duration::ZERO);
        assert_eq!(timed.unwrap_err(), error);
        error
    };
    let too_deep = LockError::PathTooDeep {
        depth: MAX_DEPTH + 1,
        limit: MAX_DEPTH,
    };
    let too_long = LockError::PathTooLong {
        bytes: MAX_PATH_BYTES + 1,
        limit: MAX_PATH_BYTES,
    };
    let too_many = LockError::TooManyResources {
        limit: MAX_RESOURCES,
    };

    assert_eq!(refused(vec![]), LockError::NoResources);
    assert_eq!(refused(vec![deep(MAX_DEPTH + 1)]), too_deep);
    assert_eq!(refused(vec![long(MAX_PATH_BYTES + 1)]), too_long);
    assert_eq!(refused(vec![deep(1), long(MAX_PATH_BYTES + 1)]), too_long);
    assert_eq!(refused(many(MAX_RESOURCES + 1).collect()), too_many);
    // An endless iterator is cut short.
    let endless = locks.enqueue((0..).map(|_| deep(1)));
    assert_eq!(endless.unwrap_err(), too_many);
    assert_eq!(locks.stats().resources, 0);
    assert_eq!(locks.stats().last_token, 0);

    granted(locks.enqueue([deep(MAX_DEPTH)]).unwrap()).release();
    granted(locks.enqueue([long(MAX_PATH_BYTES)]).unwrap()).release();
    granted(locks.enqueue(many(MAX_RESOURCES)).unwrap()).release();
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn listing_names_states_and_the_request_each_one_waits_for() {
    let locks = LockManager::new();
    let reader = lock(&locks, "r:b r:a");
    let writer = enqueue(&locks, "w:a/x");
    let last = enqueue(&locks, "w:a/x/y");
    let mut listed: Vec<_> = locks.requests().collect();
    listed.sort_by_key(|request| request.token);
    let facts: Vec<_> = listed
        .iter()
        .map(|request| (request.token, request.state, request.waits_for))
        .collect();
    assert_eq!(
        facts,
        [
            (reader.token(), RequestState::Acquired, None),
            (writer.token(), RequestState::Waiting, Some(reader.token())),
            (last.token(), RequestState::Waiting, Some(writer.token())),
        ]
    );
    assert_eq!(listed[0].resources, set("r:a r:b"));
    reader.release();
    writer.withdraw();
    assert_eq!(locks.requests().count(), 1);
    assert_eq!(locks.requests().next().unwrap().waits_for, None);
}

#[test]
fn statistics_count_requests_and_resources() {
    let locks = LockManager::new();
    let figures = || {
        let stats = locks.stats();
        (stats.acquired, stats.waiting, stats.resources)
    };
    let first = lock(&locks, "w:a r:b r:c");
    let second = enqueue(&locks, "w:a w:a/b");
    let third = lock(&locks, "r:c");
    assert_eq!(figures(), (2, 1, 5));
    first.release();
    assert_eq!(figures(), (2, 0, 2));
    drop((second, third));
    assert_eq!(figures(), (0, 0, 0));
}

#[test]
fn after_close_new_requests_are_refused_and_outstanding_ones_are_granted() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = enqueue(&locks, "w:a");
    let clone = locks.clone();
    clone.close();
    clone.close();
    assert!(locks.is_closed() && locks.stats().closed);
    assert_eq!(locks.enqueue(set("w:b")).unwrap_err(), LockError::Closed);
    assert_eq!(locks.try_lock(set("w:b")).unwrap_err(), LockError::Closed);
    assert_eq!(locks.stats().last_token, second.token());
    first.release();
    assert!(second.is_acquired());
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn a_lock_outlives_its_manager() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = enqueue(&locks, "w:a");
    drop(locks);
    first.release();
    assert!(second.is_acquired());
}
