//! Helpers of the models and of the stepped tests. Both include this file, each with its own build of the
//! engine.

use super::{Lock, LockManager, Pending, RequestState, Resource};

#[path = "../../../engine/tests/engine/outstanding.rs"]
mod outstanding;

pub(crate) use outstanding::Outstanding;

/// `"w:a/b r:c"` is a write of `a/b` and a read of `c`; `"r:"` is a read of the root.
pub(crate) fn set(text: &str) -> Vec<Resource> {
    let resource = |word: &str| {
        let (mode, path) = word.split_once(':').expect("a mode and a path");
        let path = path.split('/').filter(|segment| !segment.is_empty());
        match mode {
            "r" => Resource::read(path),
            "w" => Resource::write(path),
            _ => panic!("neither r: nor w: in {word}"),
        }
    };
    text.split_whitespace().map(resource).collect()
}

pub(crate) fn enqueue(locks: &LockManager, text: &str) -> Pending {
    locks.enqueue(set(text)).expect("the lock manager is open")
}

/// Locks a set that must be free.
pub(crate) fn lock(locks: &LockManager, text: &str) -> Lock {
    enqueue(locks, text)
        .try_acquired()
        .expect("the set is free")
}

pub(crate) fn conflict(some: &[Resource], others: &[Resource]) -> bool {
    let conflicts = |a: &Resource| others.iter().any(|b| a.conflicts_with(b));
    some.iter().any(conflicts)
}

/// Compares the lock manager with all outstanding requests, given in the order of their tokens. No
/// operation may be under way.
pub(crate) fn check(locks: &LockManager, outstanding: &[Outstanding]) {
    let mut listed: Vec<_> = locks.requests().collect();
    listed.sort_by_key(|request| request.token);
    let stats = locks.stats();
    let mut waiting = 0;
    let mut resources = 0;
    for (index, request) in outstanding.iter().enumerate() {
        let is_blocked = outstanding[..index]
            .iter()
            .any(|earlier| conflict(request.resources(), earlier.resources()));
        assert_eq!(
            request.is_acquired(),
            !is_blocked,
            "the grant rule: {request:?} among {outstanding:?}"
        );
        let info = listed.get(index).expect("the listing has every request");
        assert_eq!(info.token, request.token(), "the listing");
        assert_eq!(
            info.state == RequestState::Waiting,
            is_blocked,
            "the listing"
        );
        assert_eq!(info.waits_for.is_some(), is_blocked, "the listing");
        waiting += usize::from(is_blocked);
        resources += request.resources().len();
    }
    assert_eq!(listed.len(), outstanding.len(), "the listing");
    assert_eq!(
        (stats.acquired, stats.waiting, stats.resources),
        (outstanding.len() - waiting, waiting, resources),
        "the statistics"
    );
}

/// Compares the lock manager with all outstanding requests, and again after each of them has ended, the
/// earliest first.
pub(crate) fn check_to_the_end<O: Into<Outstanding>>(
    locks: &LockManager,
    outstanding: impl IntoIterator<Item = O>,
) {
    let mut outstanding: Vec<Outstanding> = outstanding.into_iter().map(Into::into).collect();
    outstanding.sort_by_key(Outstanding::token);
    check(locks, &outstanding);
    while !outstanding.is_empty() {
        drop(outstanding.remove(0).converted());
        check(locks, &outstanding);
    }
}
