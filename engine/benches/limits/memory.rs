//! Memory. Each case runs in a process of its own, with a fresh heap.

use crate::locks::{hold, hold_leaves, leaf, queue_up, write};
use crate::measure::{Figure, Report};
use locktopus_engine::{LockManager, Resource};
use std::hint::black_box;
use std::process::Command;

/// The environment variable that names the case to measure.
pub(crate) const CASE: &str = "LIMITS_MEMORY_CASE";

/// The resident memory of the process, in bytes; `None` where the system does not report it.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}

/// The memory of an outstanding request of one short path, including the overhead of the allocator and the
/// handle (16 bytes if it is held, 24 if it waits); and the memory after many withdrawals.
pub(crate) fn memory(report: &mut Report) {
    let this = std::env::current_exe().expect("the path of this program");
    let cases = [
        ("memory_held", "bytes", "memory of a held request"),
        ("memory_waiting", "bytes", "memory of a waiting request"),
        ("memory_after_10000_withdrawals", "KiB", ""),
        ("memory_after_10000000_withdrawals", "KiB", ""),
    ];
    for (case, unit, row) in cases {
        let output = Command::new(&this)
            .env(CASE, case)
            .output()
            .expect("started");
        let text = String::from_utf8_lossy(&output.stdout);
        let Ok(bytes) = text.trim().parse::<f64>() else {
            println!("# {case}: this system does not report the resident memory");
            continue;
        };
        let scale = if unit == "KiB" { 1.0 / 1024.0 } else { 1.0 };
        let figure = Figure::once(bytes * scale);
        println!("{case} {:.0} {unit}", figure.median);
        if !row.is_empty() {
            report.row(row, &[figure], unit);
        }
    }
}

/// Prints the bytes of a case, if the system reports them.
pub(crate) fn measure(case: &str) {
    let bytes = match case {
        "memory_held" => of_each(|locks, count| hold_leaves(locks, 2, count)),
        "memory_waiting" => of_each(|locks, count| {
            let resource = write(3, "42");
            let first = hold(locks, resource.clone());
            let waiting = (0..count).map(|_| queue_up(locks, resource.clone()));
            (waiting.collect::<Vec<_>>(), first)
        }),
        "memory_after_10000_withdrawals" => after_withdrawals(10_000),
        "memory_after_10000000_withdrawals" => after_withdrawals(10_000_000),
        _ => panic!("no case {case}"),
    };
    if let Some(bytes) = bytes {
        println!("{bytes}");
    }
}

/// What each of many requests adds to the memory of the process.
fn of_each<T>(enter: impl FnOnce(&LockManager, usize) -> T) -> Option<f64> {
    const COUNT: usize = 500_000;
    let locks = LockManager::new();
    let before = resident()?;
    let requests = enter(&locks, COUNT);
    let after = resident()?;
    drop(requests);
    Some((after - before) / COUNT as f64)
}

/// The memory of the process after many requests were withdrawn behind a lock that stays held.
fn after_withdrawals(count: u64) -> Option<f64> {
    let locks = LockManager::new();
    let path = leaf(3, "42");
    let _held = hold(&locks, Resource::write(path.clone()));
    for _ in 0..count {
        drop(black_box(locks.enqueue([Resource::read(path.clone())])));
    }
    resident()
}
