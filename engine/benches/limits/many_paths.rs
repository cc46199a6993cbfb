//! Many paths in turn, several resources in one request.

use crate::floor::OldPath;
use crate::locks::{floor_of, hold_leaves, old_leaf, write};
use crate::measure::{Figure, Report, Side, beside, in_turn};
use locktopus_engine::{LockManager, Resource};
use std::hint::black_box;

/// More than a measurement takes: each path is locked once.
const NEW_PATHS: usize = 1 << 20;

/// Locks and releases the resources in this order, and begins again at the end.
fn lock_in_order<'a>(locks: &'a LockManager, order: &'a [Resource]) -> Side<'a> {
    let mut order = order.iter().cycle();
    Side::new(move || {
        let resource = order.next().expect("not empty").clone();
        drop(black_box(locks.blocking_lock([resource])));
    })
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("{i}x"))
}

/// Paths that were never locked before, beside other held locks.
pub(crate) fn new_paths(report: &mut Report) {
    let order: Vec<Resource> = names(NEW_PATHS).map(|name| write(3, &name)).collect();
    let old_paths: Vec<OldPath> = names(NEW_PATHS).map(|name| old_leaf(3, &name)).collect();
    let mut to_floor = Vec::new();
    for held in [0, 1_000, 100_000] {
        let [ours, base] = beside(held, || {
            let locks = LockManager::new();
            let _others = hold_leaves(&locks, 3, held);
            let floor = floor_of(3, held);
            let (mut old_paths, mut births) = (old_paths.iter().cycle(), 0);
            in_turn([
                lock_in_order(&locks, &order),
                Side::new(|| floor.insert_and_remove(old_paths.next().expect("many"), &mut births)),
            ])
        });
        report.print(&format!("new_paths_beside_{held}"), ours.figure(), "ns");
        report.print(
            &format!("new_paths_beside_{held}_floor"),
            base.figure(),
            "ns",
        );
        to_floor.push(ours.to(&base));
    }
    let row = "paths never seen before, to the floor, beside 0 / 1k / 100k held";
    report.row(row, &to_floor, "ratio");
}

/// A set of keys, locked at random.
pub(crate) fn keys(report: &mut Report) {
    for (count, held) in [(100, 0), (1_000, 1_000), (2_000, 0)] {
        let keys: Vec<Resource> = names(count).map(|name| write(3, &name)).collect();
        let mut random = fastrand::Rng::with_seed(42);
        let order = |_| keys[random.usize(..count)].clone();
        let order: Vec<Resource> = (0..1 << 16).map(order).collect();
        let [ours] = beside(held, || {
            let locks = LockManager::new();
            let _others = hold_leaves(&locks, 3, held);
            in_turn([lock_in_order(&locks, &order)])
        });
        report.print(
            &format!("keys_{count}_at_random_beside_{held}"),
            ours.figure(),
            "ns",
        );
        let row = format!("{count} keys at random beside {held} held");
        report.row(&row, &[ours.figure()], "ns");
    }
}

/// Several resources in one request, to as many requests of one resource.
pub(crate) fn resources(report: &mut Report) {
    for count in [4_u32, 16] {
        let locks = LockManager::new();
        let others = hold_leaves(&locks, 3, 1_000);
        let set: Vec<Resource> = names(count as usize).map(|name| write(3, &name)).collect();
        let [ours, single] = in_turn([
            Side::new(|| drop(black_box(locks.blocking_lock(set.iter().cloned())))),
            Side::new(|| {
                for resource in &set {
                    drop(black_box(locks.blocking_lock([resource.clone()])));
                }
            }),
        ]);
        let to_single: Figure = ours.to(&single);
        report.print(
            &format!("resources_{count}_in_one_request"),
            ours.figure(),
            "ns",
        );
        let name = format!("resources_{count}_to_{count}_requests");
        report.print(&name, to_single, "ratio");
        drop(others);
    }
}
