//! Two threads at the same time, to one of them alone.

use crate::locks::{floor_of, hold_leaves, leaf, old_leaf, write};
use crate::measure::{Figure, Report};
use crate::together::{Together, together};
use locktopus_engine::{LockManager, Resource};
use std::hint::black_box;

/// With fewer rounds a figure says little.
const FEW: usize = 20;

/// The throughput of two threads, and its ratio to that of one; `None` if too few rounds count.
fn compare(report: &Report, name: &str, measured: Together) -> Option<Figure> {
    let Together { two, one, rounds } = measured;
    println!("# {name}: {} of {rounds} rounds count", two.count());
    if two.count() < FEW {
        return None;
    }
    let ratio = one.to(&two);
    let throughput = |figure: Figure| Figure {
        median: 1e3 / figure.median,
        p10: 1e3 / figure.p10,
    };
    report.print(&format!("{name}_1"), throughput(one.figure()), "million/s");
    report.print(&format!("{name}_2"), throughput(two.figure()), "million/s");
    report.print(&format!("{name}_2_to_1"), ratio, "ratio");
    Some(ratio)
}

fn lock_again(locks: &LockManager, resource: Resource) -> impl FnMut() + Send {
    let locks = locks.clone();
    move || drop(black_box(locks.blocking_lock([resource.clone()])))
}

/// Disjoint paths. The same for the floor, whose threads share the skiplist and the reclamation of memory but no
/// clock. Then two readers of one path.
pub(crate) fn threads(report: &mut Report) {
    let (mut of_locks, mut of_floor) = (Vec::new(), Vec::new());
    let name = |i: usize| format!("{}x", i * 5 + 1);
    for held in [0, 1_000, 100_000] {
        let measured = together(|all| {
            let locks = LockManager::new();
            let _others = hold_leaves(&locks, 3, held);
            let [first, second] = [0, 1].map(|i| lock_again(&locks, write(3, &name(i))));
            all.add(first, second);
        });
        of_locks.extend(compare(report, &format!("threads_beside_{held}"), measured));
        let measured = together(|all| {
            let floor = &floor_of(3, held);
            let [first, second] = [0, 1].map(|i| {
                let (path, mut births) = (old_leaf(3, &name(i)), 0);
                move || floor.insert_and_remove(&path, &mut births)
            });
            all.add(first, second);
        });
        let name = format!("threads_beside_{held}_floor");
        of_floor.extend(compare(report, &name, measured));
    }
    let row = "two threads to one, disjoint paths, beside 0 / 1k / 100k held";
    report.row(&format!("{row}: `lock`"), &of_locks, "ratio");
    report.row(&format!("{row}: the floor"), &of_floor, "ratio");
    let measured = together(|all| {
        let locks = LockManager::new();
        let [first, second] = [(); 2].map(|()| lock_again(&locks, Resource::read(leaf(3, "42x"))));
        all.add(first, second);
    });
    let ratio = compare(report, "threads_read_one_path", measured);
    report.row(
        "two readers of one path to one: `lock`",
        ratio.as_slice(),
        "ratio",
    );
}
