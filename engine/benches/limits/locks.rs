//! Paths and requests of the cases.

use crate::floor::{Floor, OldPath};
use crate::measure::Side;
use locktopus_engine::{Lock, LockManager, Path, Pending, PreparedSet, Resource};
use std::hint::black_box;

const ABOVE: [&str; 5] = ["org", "eu", "team", "user", "it"];

/// The segments of a path of this depth. Paths of one depth differ in the last segment.
fn segments(depth: usize, name: &str) -> impl Iterator<Item = &str> {
    ABOVE[..depth - 1].iter().copied().chain([name])
}

pub(crate) fn leaf(depth: usize, name: &str) -> Path {
    segments(depth, name).collect()
}

pub(crate) fn old_leaf(depth: usize, name: &str) -> OldPath {
    OldPath::new(segments(depth, name))
}

pub(crate) fn write(depth: usize, name: &str) -> Resource {
    Resource::write(leaf(depth, name))
}

pub(crate) fn hold(locks: &LockManager, resource: Resource) -> Lock {
    let pending = locks.enqueue([resource]).expect("open");
    pending.try_acquired().expect("it is free")
}

pub(crate) fn queue_up(locks: &LockManager, resource: Resource) -> Pending {
    let pending = locks.enqueue([resource]).expect("open");
    assert!(!pending.is_acquired());
    pending
}

pub(crate) fn hold_leaves(locks: &LockManager, depth: usize, count: usize) -> Vec<Lock> {
    let resource = |i: usize| write(depth, &i.to_string());
    (0..count).map(|i| hold(locks, resource(i))).collect()
}

pub(crate) fn floor_of(depth: usize, count: usize) -> Floor {
    Floor::with((0..count).map(|i| old_leaf(depth, &i.to_string())))
}

/// Locks and releases one resource again and again.
pub(crate) fn lock_again<'a>(locks: &'a LockManager, resource: &'a Resource) -> Side<'a> {
    Side::new(|| drop(black_box(locks.blocking_lock([resource.clone()]))))
}

/// The same by reference.
pub(crate) fn lock_by_reference<'a>(locks: &'a LockManager, resource: &'a Resource) -> Side<'a> {
    Side::new(move || drop(black_box(locks.blocking_lock([resource]))))
}

/// Locks and releases a prepared set again and again.
pub(crate) fn lock_prepared(mut set: PreparedSet) -> Side<'static> {
    Side::new(move || drop(black_box(set.blocking_lock())))
}

/// Inserts and removes one key again and again.
pub(crate) fn floor_again<'a>(floor: &'a Floor, path: &'a OldPath) -> Side<'a> {
    let mut births = 0;
    Side::new(move || floor.insert_and_remove(path, &mut births))
}
