//! One path, locked and released again and again.

use crate::locks::{
    floor_again, floor_of, hold, hold_leaves, leaf, lock_again, lock_by_reference, lock_prepared,
    old_leaf, write,
};
use crate::measure::{Figure, Readings, Report, Side, beside, in_turn};
use crate::peers::{Peers, ThreeLocks};
use locktopus_engine::{Lock, LockManager, Path, Resource};
use std::hint::black_box;

const SIZES: [usize; 4] = [0, 1_000, 100_000, 1_000_000];

/// What a lock is compared with, in the order of the sides.
const BASES: [&str; 7] = [
    "the floor",
    "lockmap",
    "lockmap by reference",
    "keyed-lock",
    "lockable",
    "three `parking_lot` RwLocks",
    "three tokio RwLocks",
];

/// A path of depth 3 beside other held locks: the engine, the floor and other locks in turn.
pub(crate) fn again(report: &mut Report) {
    let mut rows = [const { Vec::new() }; BASES.len()];
    let mut by_reference_rows = [const { Vec::new() }; BASES.len()];
    for held in SIZES {
        let (resource, old_path) = (write(3, "42x"), old_leaf(3, "42x"));
        let [ours, by_reference, bases @ ..] = beside(held, || {
            let locks = LockManager::new();
            let _others = hold_leaves(&locks, 3, held);
            let floor = floor_of(3, held);
            let parking_lot = ThreeLocks::parking_lot();
            let tokio = ThreeLocks::tokio();
            Peers::beside(3, held, |peers| {
                in_turn([
                    lock_again(&locks, &resource),
                    lock_by_reference(&locks, &resource),
                    floor_again(&floor, &old_path),
                    peers.lockmap(),
                    peers.lockmap_by_reference(),
                    peers.keyed_lock(),
                    peers.lockable(),
                    parking_lot.side(),
                    tokio.side(),
                ])
            })
        });
        let name = format!("again_beside_{held}");
        report.print(&name, ours.figure(), "ns");
        let by_reference_name = format!("{name}_by_reference");
        report.print(&by_reference_name, by_reference.figure(), "ns");
        for (base, readings) in BASES.into_iter().zip(&bases) {
            report.print(&format!("{name}: {base}"), readings.figure(), "ns");
        }
        for (row, base) in rows.iter_mut().zip(&bases) {
            row.push(ours.to(base));
        }
        for (row, base) in by_reference_rows.iter_mut().zip(&bases) {
            row.push(by_reference.to(base));
        }
    }
    let sizes = "beside 0 / 1k / 100k / 1M held";
    for (base, figures) in BASES.into_iter().zip(&rows) {
        let row = format!("lock + release of one path again, to {base}, {sizes}");
        report.row(&row, figures, "ratio");
    }
    for (base, figures) in BASES.into_iter().zip(&by_reference_rows).take(3) {
        report.row(&format!("… by reference, to {base}"), figures, "ratio");
    }
}

/// Prepared sets, to three locks made beforehand.
pub(crate) fn prepared(report: &mut Report) {
    let mut row = Vec::new();
    for paths in [1, 4, 16] {
        for held in [0, 1_000, 100_000] {
            let [ours, three] = beside(held, || {
                let locks = LockManager::new();
                let _others = hold_leaves(&locks, 3, held);
                let set = (0..paths).map(|i| write(3, &format!("{i}x")));
                let set = locks.prepare(set).expect("not empty");
                let three = ThreeLocks::parking_lot();
                in_turn([lock_prepared(set), three.side()])
            });
            let name = format!("prepared_{paths}_beside_{held}");
            report.print(&name, ours.figure(), "ns");
            if held == 1_000 {
                row.push(ours.to(&three));
            }
        }
    }
    let name = "prepared set of 1 / 4 / 16 paths, to three `parking_lot` RwLocks";
    report.row(name, &row, "ratio");
}

/// Prints a cost, the cost of the floor, and the ratio.
fn print_to_floor(report: &Report, name: &str, [ours, floor]: &[Readings; 2]) {
    report.print(name, ours.figure(), "ns");
    report.print(&format!("{name}_floor"), floor.figure(), "ns");
    report.print(&format!("{name}_to_floor"), ours.to(floor), "ratio");
}

/// Paths of other depths, and with locks at the depth of every ancestor.
pub(crate) fn path(report: &mut Report) {
    for held in SIZES {
        for depth in [1, 3, 6] {
            let (resource, old_path) = (write(depth, "42x"), old_leaf(depth, "42x"));
            let both = beside(held, || {
                let locks = LockManager::new();
                let _others = hold_leaves(&locks, depth, held);
                let floor = floor_of(depth, held);
                in_turn([
                    lock_again(&locks, &resource),
                    floor_again(&floor, &old_path),
                ])
            });
            print_to_floor(report, &format!("path_depth_{depth}_beside_{held}"), &both);
        }
    }
    // There are locks at the depth of every ancestor, so each ancestor costs a search.
    for held in [1_000, 100_000] {
        let locks = LockManager::new();
        let floor = floor_of(6, held);
        let others = hold_leaves(&locks, 6, held);
        let above: Vec<Lock> = (1..6)
            .map(|depth| hold(&locks, Resource::read(leaf(depth, "other"))))
            .collect();
        let (resource, old_path) = (write(6, "42x"), old_leaf(6, "42x"));
        let both = in_turn([
            lock_again(&locks, &resource),
            floor_again(&floor, &old_path),
        ]);
        let name = format!("path_depth_6_all_depths_in_use_beside_{held}");
        print_to_floor(report, &name, &both);
        drop((others, above));
    }
    let segments = ["user", "it", "42"];
    let [made] = in_turn([Side::new(|| {
        drop(black_box(Path::from(black_box(segments))))
    })]);
    report.print("path_from_three_segments", made.figure(), "ns");
}

/// One more reader beside others that share the path, and a read in a table of other reads.
pub(crate) fn one_more_reader(report: &mut Report) {
    let mut of_ten = None;
    for readers in [10, 1_000, 100_000] {
        let locks = LockManager::new();
        let floor = floor_of(3, readers);
        let (resource, old_path) = (Resource::read(leaf(3, "42x")), old_leaf(3, "42x"));
        let others: Vec<Lock> = (0..readers)
            .map(|_| hold(&locks, resource.clone()))
            .collect();
        let both = in_turn([
            lock_again(&locks, &resource),
            floor_again(&floor, &old_path),
        ]);
        let name = format!("reader_beside_{readers}_readers");
        print_to_floor(report, &name, &both);
        let [ours, _] = both;
        let of_ten = of_ten.get_or_insert_with(|| ours.figure());
        let to_ten = Figure {
            median: ours.median() / of_ten.median,
            p10: ours.p10() / of_ten.p10,
        };
        report.print(&format!("{name}_to_10"), to_ten, "ratio");
        drop(others);
    }
    let locks = LockManager::new();
    let resource = |i: usize| Resource::read(leaf(3, &i.to_string()));
    let others: Vec<Lock> = (0..100_000).map(|i| hold(&locks, resource(i))).collect();
    let root = Resource::read(Path::root());
    let [ours] = in_turn([lock_again(&locks, &root)]);
    report.print("root_reader_above_100000_readers", ours.figure(), "ns");
    drop(others);
}
