//! Requests that keep the token that they had in another lock manager.
//!
//! Property: a table that is restored from a listing behaves as the original one does, to the end. After each operation
//! the same requests hold their locks, wait, and are listed, and they wait for the same requests.

use super::outstanding::Outstanding;
use super::{enqueue, granted, lock, oracle, set};
use locktopus_engine::{LockError, LockManager, Pending, RequestInfo, Resource};
use proptest::prelude::*;

/// All tokens that can be restored or skipped to are smaller.
const LIMIT: u64 = 1 << 61;

fn restore(locks: &LockManager, token: u64, text: &str) -> Result<Pending, LockError> {
    locks.restore(token, set(text))
}

fn out_of_range(least: u64) -> LockError {
    LockError::TokenOutOfRange {
        least,
        limit: LIMIT,
    }
}

#[test]
fn restored_request_is_granted_unless_an_earlier_one_conflicts() {
    let locks = LockManager::new();
    let held = granted(restore(&locks, 7, "w:a").unwrap());
    let waiting = restore(&locks, 9, "r:a/b w:c").unwrap();
    let beside = restore(&locks, 100, "w:b").unwrap();
    assert_eq!([held.token(), waiting.token(), beside.token()], [7, 9, 100]);
    assert!(!waiting.is_acquired() && beside.is_acquired());
    let next = enqueue(&locks, "r:a");
    assert!(!next.is_acquired());
    assert_eq!(next.token(), 101);
    held.release();
    assert!(waiting.is_acquired() && next.is_acquired());
}

#[test]
fn token_that_is_not_above_all_others_is_refused_and_leaves_nothing() {
    let locks = LockManager::new();
    let held = [
        lock(&locks, "w:a"),
        granted(restore(&locks, 5, "w:b").unwrap()),
    ];
    for token in [0, 1, 4, 5] {
        let refused = restore(&locks, token, "w:c").unwrap_err();
        assert_eq!(refused, out_of_range(6));
    }
    locks.skip_to(9).unwrap();
    assert_eq!(restore(&locks, 9, "w:c").unwrap_err(), out_of_range(10));
    assert_eq!((locks.stats().resources, locks.stats().last_token), (2, 9));
    drop(held);
    // Also the token of a request that has ended.
    assert_eq!(restore(&locks, 1, "w:a").unwrap_err(), out_of_range(10));
    let message = "token out of range; allowed are tokens from 10 to 2305843009213693951";
    assert_eq!(out_of_range(10).to_string(), message);
}

#[test]
fn tokens_never_go_back() {
    let locks = LockManager::new();
    locks.skip_to(41).unwrap();
    assert_eq!(locks.stats().last_token, 41);
    let first = lock(&locks, "w:a");
    assert_eq!(first.token(), 42);
    for token in [0, 10, 41, 42] {
        locks.skip_to(token).unwrap();
    }
    assert_eq!(lock(&locks, "w:b").token(), 43);
    assert_eq!(first.token(), 42);
}

#[test]
fn tokens_near_the_limit_are_refused_and_many_are_left_below_it() {
    for token in [LIMIT, 1 << 62, 1 << 63, u64::MAX] {
        let locks = LockManager::new();
        assert_eq!(restore(&locks, token, "w:a").unwrap_err(), out_of_range(1));
        assert_eq!(locks.skip_to(token).unwrap_err(), out_of_range(0));
        assert_eq!(lock(&locks, "w:a").token(), 1);
        assert!(!locks.is_closed());
    }
    let locks = LockManager::new();
    locks.skip_to(LIMIT - 2).unwrap();
    let last = restore(&locks, LIMIT - 1, "w:a").unwrap();
    let next = enqueue(&locks, "w:a");
    assert!(last.is_acquired() && !next.is_acquired());
    assert_eq!(next.token(), LIMIT);
    locks.skip_to(LIMIT - 1).unwrap();
    assert_eq!(
        restore(&locks, LIMIT - 1, "w:b").unwrap_err(),
        out_of_range(LIMIT + 1)
    );
}

#[test]
fn closed_manager_restores_and_skips_nothing() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    locks.close();
    assert_eq!(restore(&locks, 9, "w:b").unwrap_err(), LockError::Closed);
    assert_eq!(locks.skip_to(9).unwrap_err(), LockError::Closed);
    assert_eq!(locks.stats().last_token, held.token());
    assert!(locks.is_closed());
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(Vec<Resource>),
    /// Releases or withdraws an outstanding request, by an index that is taken modulo their number.
    End(usize),
}

fn steps(weight_of_ends: u32) -> impl Strategy<Value = Vec<Step>> {
    let set = prop::collection::vec(oracle::resource(), 1..4);
    let step = prop_oneof![
        4 => set.prop_map(Step::Enqueue),
        weight_of_ends => any::<usize>().prop_map(Step::End),
    ];
    prop::collection::vec(step, 0..40)
}

/// A lock manager and its outstanding requests, in the order of their tokens.
#[derive(Default)]
struct World {
    locks: LockManager,
    outstanding: Vec<Outstanding>,
}

impl World {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Enqueue(set) => {
                let pending = self.locks.enqueue(set.iter().cloned()).expect("open");
                self.outstanding.push(pending.into());
            }
            Step::End(_) if self.outstanding.is_empty() => {}
            Step::End(index) => {
                let index = index % self.outstanding.len();
                drop(self.outstanding.remove(index));
            }
        }
    }

    /// The same table in another lock manager.
    fn restored(&self) -> World {
        let locks = LockManager::new();
        let restore = |request: RequestInfo| -> Outstanding {
            let restored = locks.restore(request.token, request.resources);
            restored.expect("the tokens grow").into()
        };
        let outstanding = self.listed().into_iter().map(restore).collect();
        locks
            .skip_to(self.locks.stats().last_token)
            .expect("in range");
        World { locks, outstanding }
    }

    /// The outstanding requests by their tokens. At one path a listing begins with the youngest entry, and a request
    /// that has rested in one of the two managers has an older entry than its token.
    fn listed(&self) -> Vec<RequestInfo> {
        by_token(self.locks.requests())
    }

    fn assert_same(&self, other: &World) {
        let listed = self.listed();
        assert_eq!(listed, other.listed());
        assert_eq!(self.locks.stats(), other.locks.stats());
        let states = |world: &World| {
            let state = |one: &Outstanding| (one.token(), one.is_acquired());
            world.outstanding.iter().map(state).collect::<Vec<_>>()
        };
        assert_eq!(states(self), states(other));
        let blockers = |world: &World| {
            let of = |one: &RequestInfo| {
                let before = world
                    .locks
                    .blockers_before(one.token, one.resources.clone());
                by_token(before.expect("not empty"))
            };
            listed.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(blockers(self), blockers(other));
    }
}

fn by_token(requests: impl Iterator<Item = RequestInfo>) -> Vec<RequestInfo> {
    let mut requests: Vec<_> = requests.collect();
    requests.sort_by_key(|request| request.token);
    requests
}

proptest! {
    #[test]
    fn restored_table_behaves_as_the_original_to_the_end(before in steps(2), after in steps(6)) {
        let mut original = World::default();
        before.iter().for_each(|step| original.run(step));
        let mut restored = original.restored();
        restored.assert_same(&original);
        for step in &after {
            original.run(step);
            restored.run(step);
            restored.assert_same(&original);
        }
        while !original.outstanding.is_empty() {
            original.run(&Step::End(0));
            restored.run(&Step::End(0));
            restored.assert_same(&original);
        }
    }
}
