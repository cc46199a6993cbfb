//! Sets as large as a message of the server's protocol.

use crate::locks::hold;
use crate::measure::{Figure, Report, Side, in_turn_for};
use locktopus_engine::{Lock, LockManager, Path, Resource};
use std::hint::black_box;

/// Locks and releases a set as large as a message of 64 KiB can carry.
///
/// By default the server allows 4,096 segments in a set and 64 in a path. The maxima of the engine are 4,096
/// resources and 1,024 segments in a path. No path shares an ancestor with another one except the root. At every
/// depth each path has some siblings that are locked for write, and as many that are locked for read. They sort
/// before the path, which is the expensive side.
pub(crate) fn messages(report: &mut Report) {
    let shapes = [
        ("64_paths_of_64", 64, 64, 14),
        ("256_paths_of_16", 256, 16, 14),
        ("1024_paths_of_4", 1_024, 4, 12),
        ("2048_paths_of_2", 2_048, 2, 10),
        ("4096_paths_of_1", 4_096, 1, 8),
        ("15_paths_of_1024", 15, 1_024, 2),
    ];
    let mut slowest = [Figure::default(); 3];
    for (shape, paths, depth, width) in shapes {
        let segment = |path: usize, at: usize| format!("{:0width$}m", path * depth + at);
        let path = |path: usize| (0..depth).map(|at| segment(path, at)).collect::<Path>();
        let beside = |path: usize, at: usize, name: String| {
            let own = format!("{:0width$}{name}", path * depth + at);
            let above = (0..at).map(|at| segment(path, at));
            above.chain([own]).collect::<Path>()
        };
        let set: Vec<Resource> = (0..paths).map(|i| Resource::write(path(i))).collect();
        // Beside paths of the maximal depth, eight siblings would need a gigabyte.
        let siblings = [0, 1, 8]
            .into_iter()
            .zip(&mut slowest)
            .filter(|(count, _)| depth < 1_024 || *count < 8);
        for (siblings, slowest) in siblings {
            let locks = LockManager::new();
            let places = (0..paths).flat_map(|i| (0..depth).map(move |at| (i, at)));
            let others: Vec<Lock> = places
                .flat_map(|place| (0..siblings).map(move |one| (place, one)))
                .flat_map(|((i, at), one)| {
                    let write = Resource::write(beside(i, at, format!("a{one}")));
                    let read = Resource::read(beside(i, at, format!("b{one}")));
                    [hold(&locks, write), hold(&locks, read)]
                })
                .collect();
            let whole = Side::new(|| {
                let pending = locks.enqueue(set.iter().cloned()).expect("open");
                assert!(black_box(pending).is_acquired());
            });
            let [whole] = in_turn_for(15, [whole]);
            let figure = whole.figure().scaled(1e-6);
            report.print(&format!("messages_{shape}_beside_{siblings}"), figure, "ms");
            if depth < 1_024 {
                *slowest = slowest.max(figure);
            }
            drop(others);
        }
    }
    let row = "one message of 64 KiB within the server's defaults, the slowest shape, beside 0 / 1 / 8 siblings";
    report.row(row, &slowest, "ms");
}
