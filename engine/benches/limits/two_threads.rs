//! Two threads at the same time, to one of them alone.

use crate::locks::{floor_of, hold_leaves, leaf, old_leaf, write};
use crate::measure::{Figure, Report};
use crate::together::{Together, together};
use locktopus_engine::{LockManager, Resource};
use std::hint::black_box;

/// With fewer rounds a figure says little.
const FEW: usize = 20;

/// The throughput of two threads, and its ratio to that of one; unknown if too few rounds count.
fn compare(report: &Report, name: &str, measured: Together) -> Figure {
    let Together { two, one, rounds } = measured;
    println!("# {name}: {} of {rounds} rounds count", two.count());
    if two.count() < FEW {
        return Figure::UNKNOWN;
    }
    let ratio = one.to(&two);
    let throughput = |figure: Figure| Figure {
        median: 1e3 / figure.median,
        p10: 1e3 / figure.p10,
    };
    report.print(&format!("{name}_1"), throughput(one.figure()), "million/s");
    report.print(&format!("{name}_2"), throughput(two.figure()), "million/s");
    report.print(&format!("{name}_2_to_1"), ratio, "ratio");
    ratio
}

/// Measures two threads beside held locks, each with a step of its own; the ratio to one of them.
fn of_locks<S: FnMut() + Send>(
    report: &Report,
    name: &str,
    held: usize,
    step: impl Fn(&LockManager, usize) -> S,
) -> Figure {
    let measured = together(|all| {
        let locks = LockManager::new();
        let _others = hold_leaves(&locks, 3, held);
        all.add(step(&locks, 0), step(&locks, 1));
    });
    compare(report, name, measured)
}

fn lock_again(locks: &LockManager, resource: Resource) -> impl FnMut() + Send + use<> {
    let locks = locks.clone();
    move || drop(black_box(locks.blocking_lock([resource.clone()])))
}

fn lock_prepared(locks: &LockManager, resource: Resource) -> impl FnMut() + Send + use<> {
    let mut set = locks.prepare([resource]).expect("not empty");
    move || drop(black_box(set.blocking_lock()))
}

/// Paths of two threads that lie in the same part of a table.
fn own_path(thread: usize) -> String {
    format!("{}x", thread * 5 + 1)
}

/// Disjoint paths. The same for the floor, whose threads share the skiplist and the reclamation of memory but no
/// clock.
fn disjoint(report: &mut Report) {
    let [mut of_lock, mut of_prepared, mut of_floor] = [const { Vec::new() }; 3];
    let own = |thread: usize| write(3, &own_path(thread));
    for held in [0, 1_000, 100_000] {
        let name = format!("threads_beside_{held}");
        of_lock.push(of_locks(report, &name, held, |locks, thread| {
            lock_again(locks, own(thread))
        }));
        let name = format!("threads_prepared_beside_{held}");
        of_prepared.push(of_locks(report, &name, held, |locks, thread| {
            lock_prepared(locks, own(thread))
        }));
        let measured = together(|all| {
            let floor = &floor_of(3, held);
            let [first, second] = [0, 1].map(|thread| {
                let (path, mut births) = (old_leaf(3, &own_path(thread)), 0);
                move || floor.insert_and_remove(&path, &mut births)
            });
            all.add(first, second);
        });
        of_floor.push(compare(
            report,
            &format!("threads_floor_beside_{held}"),
            measured,
        ));
    }
    let row = "two threads to one, disjoint paths, beside 0 / 1k / 100k held";
    report.row(&format!("{row}: `lock`"), &of_lock, "ratio");
    report.row(&format!("{row}: prepared"), &of_prepared, "ratio");
    report.row(&format!("{row}: the floor"), &of_floor, "ratio");
}

pub(crate) fn threads(report: &mut Report) {
    disjoint(report);
    let read = || Resource::read(leaf(3, "42x"));
    let of_lock = of_locks(report, "threads_read_one_path", 0, |locks, _| {
        lock_again(locks, read())
    });
    let of_prepared = of_locks(report, "threads_read_one_path_prepared", 0, |locks, _| {
        lock_prepared(locks, read())
    });
    let row = "two readers of one path to one: `lock` / prepared";
    report.row(row, &[of_lock, of_prepared], "ratio");
    let keys = of_locks(report, "threads_100_keys_each", 0, |locks, thread| {
        let keys = (0..100).map(|i| write(3, &format!("{}x", 100 * thread + i)));
        let (locks, keys) = (locks.clone(), keys.collect::<Vec<Resource>>());
        let mut random = fastrand::Rng::with_seed(thread as u64);
        move || {
            let key = keys[random.usize(..keys.len())].clone();
            drop(black_box(locks.blocking_lock([key])));
        }
    });
    report.row(
        "two threads to one, 100 keys at random for each",
        &[keys],
        "ratio",
    );
}
