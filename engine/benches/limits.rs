//! The costs of the engine. Prints one line for each case: `name value unit`. Every value is a median.
//!
//! ```sh
//! cargo bench -p locktopus-engine --bench limits            # everything, about a minute
//! cargo bench -p locktopus-engine --bench limits -- queue   # the cases whose names contain "queue"
//! ```
//!
//! `floor` is one insert and one removal of such a key (same path type, same order, same size) in a raw
//! `SkipMap` with as many entries. For a ratio, the two sides are measured in turn, round by round, and the
//! ratio is the median of the ratios of the rounds. On a noisy machine, the ratio of two measurements close in
//! time is more reliable than an absolute time.

use crossbeam_skiplist::SkipMap;
use locktopus_engine::{Lock, LockManager, Path, Pending, Resource};
use std::cmp::Reverse;
use std::hint::black_box;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

type Floor = SkipMap<(Path, Reverse<u64>, usize), u64>;

/// The rounds of each measurement. Odd, so that the median is one of the readings.
const ROUNDS: usize = 15;
const SIZES: [usize; 4] = [0, 1_000, 100_000, 1_000_000];

/// The environment variable that names the case to measure in a process of its own.
const MEMORY_CASE: &str = "LIMITS_MEMORY_CASE";

fn main() {
    if let Ok(case) = std::env::var(MEMORY_CASE) {
        return memory_of(&case);
    }
    // `cargo bench` passes `--bench`. Any other argument selects cases.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let cases: [(&str, fn()); 8] = [
        ("memory", memory),
        ("path", path),
        ("read", one_more_reader),
        ("threads", threads),
        ("queue", queue),
        ("parent", parent),
        ("resources", resources),
        ("messages", messages),
    ];
    for (name, case) in cases {
        if filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
        {
            case();
        }
    }
}

fn print(name: &str, value: f64, unit: &str) {
    let digits = if matches!(unit, "ratio" | "ms") { 2 } else { 0 };
    println!("{name} {value:.digits$} {unit}");
}

fn median(readings: impl IntoIterator<Item = f64>) -> f64 {
    let mut readings: Vec<f64> = readings.into_iter().collect();
    readings.sort_by(f64::total_cmp);
    readings[readings.len() / 2]
}

/// Nanoseconds for each of `count` repetitions.
fn time(count: usize, mut step: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        step();
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Measures two sides in turn. Returns the medians of both, and of the ratio of the first to the second.
fn in_turn(mut ours: impl FnMut() -> f64, mut base: impl FnMut() -> f64) -> (f64, f64, f64) {
    let rounds: Vec<(f64, f64)> = (0..=ROUNDS).map(|_| (ours(), base())).skip(1).collect();
    (
        median(rounds.iter().map(|round| round.0)),
        median(rounds.iter().map(|round| round.1)),
        median(rounds.iter().map(|round| round.0 / round.1)),
    )
}

/// A path of this depth. Paths of one depth differ in the last segment.
fn leaf(depth: usize, name: &str) -> Path {
    let above = ["org", "eu", "team", "user", "it"];
    above[..depth - 1].iter().copied().chain([name]).collect()
}

fn hold(locks: &LockManager, resource: Resource) -> Lock {
    let pending = locks.enqueue([resource]).expect("open");
    pending.try_acquired().expect("it is free")
}

fn queue_up(locks: &LockManager, resource: Resource) -> Pending {
    let pending = locks.enqueue([resource]).expect("open");
    assert!(!pending.is_acquired());
    pending
}

fn hold_leaves(locks: &LockManager, depth: usize, count: usize) -> Vec<Lock> {
    let resource = |i: usize| Resource::write(leaf(depth, &i.to_string()));
    (0..count).map(|i| hold(locks, resource(i))).collect()
}

fn floor_of(depth: usize, count: usize) -> Floor {
    let map = Floor::new();
    for i in 0..count {
        map.insert((leaf(depth, &i.to_string()), Reverse(i as u64), i), 0);
    }
    map
}

/// Inserts and removes one key.
fn floor_round(map: &Floor, path: &Path, births: &mut u64) -> f64 {
    time(20_000, || {
        *births += 1;
        let key = (path.clone(), Reverse(*births), 1);
        black_box(map.insert(key.clone(), 0));
        black_box(map.remove(&key));
    })
}

fn lock_round(locks: &LockManager, resource: &Resource) -> f64 {
    time(20_000, || {
        drop(black_box(locks.blocking_lock([resource.clone()])))
    })
}

/// Locks and releases one path for write, beside other held locks.
fn path() {
    for held in SIZES {
        for depth in [1, 3, 6] {
            let locks = LockManager::new();
            let map = floor_of(depth, held);
            let others = hold_leaves(&locks, depth, held);
            let path = leaf(depth, "42x");
            let resource = Resource::write(path.clone());
            let mut births = held as u64;
            let (ours, floor, ratio) = in_turn(
                || lock_round(&locks, &resource),
                || floor_round(&map, &path, &mut births),
            );
            let name = format!("path_depth_{depth}_beside_{held}");
            print(&name, ours, "ns");
            print(&format!("{name}_floor"), floor, "ns");
            print(&format!("{name}_to_floor"), ratio, "ratio");
            drop(others);
        }
    }
    // There are locks at the depth of every ancestor, so each ancestor costs a search.
    for held in [1_000, 100_000] {
        let locks = LockManager::new();
        let map = floor_of(6, held);
        let others = hold_leaves(&locks, 6, held);
        let above: Vec<Lock> = (1..6)
            .map(|depth| hold(&locks, Resource::read(leaf(depth, "other"))))
            .collect();
        let path = leaf(6, "42x");
        let resource = Resource::write(path.clone());
        let mut births = held as u64;
        let (ours, _, ratio) = in_turn(
            || lock_round(&locks, &resource),
            || floor_round(&map, &path, &mut births),
        );
        let name = format!("path_depth_6_all_depths_in_use_beside_{held}");
        print(&name, ours, "ns");
        print(&format!("{name}_to_floor"), ratio, "ratio");
        drop((others, above));
    }
    let segments = ["user", "it", "42"];
    let ns = median(
        (0..ROUNDS).map(|_| time(100_000, || drop(black_box(Path::from(black_box(segments)))))),
    );
    print("path_from_three_segments", ns, "ns");
}

/// One more reader beside others that share the path, and a read in a table of other reads.
fn one_more_reader() {
    let mut of_ten = 0.0;
    for readers in [10, 1_000, 100_000] {
        let locks = LockManager::new();
        let map = floor_of(3, readers);
        let path = leaf(3, "42x");
        let resource = Resource::read(path.clone());
        let others: Vec<Lock> = (0..readers)
            .map(|_| hold(&locks, resource.clone()))
            .collect();
        let mut births = readers as u64;
        let (ours, floor, ratio) = in_turn(
            || lock_round(&locks, &resource),
            || floor_round(&map, &path, &mut births),
        );
        let name = format!("reader_beside_{readers}_readers");
        print(&name, ours, "ns");
        print(&format!("{name}_floor"), floor, "ns");
        print(&format!("{name}_to_floor"), ratio, "ratio");
        if readers == 10 {
            of_ten = ours;
        } else {
            print(&format!("{name}_to_10"), ours / of_ten, "ratio");
        }
        drop(others);
    }
    let locks = LockManager::new();
    let resource = |i: usize| Resource::read(leaf(3, &i.to_string()));
    let others: Vec<Lock> = (0..100_000).map(|i| hold(&locks, resource(i))).collect();
    let root = Resource::read(Path::root());
    let ns = median((0..ROUNDS).map(|_| lock_round(&locks, &root)));
    print("root_reader_above_100000_readers", ns, "ns");
    drop(others);
}

/// The operations per second that `count` threads reach together, each with a step of its own.
fn throughput<S: FnMut() + Send>(count: usize, step_of: impl Fn(usize) -> S) -> f64 {
    const SPAN: Duration = Duration::from_millis(100);
    let barrier = Barrier::new(count);
    let run = |mut step: S| {
        barrier.wait();
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < SPAN {
            (0..100).for_each(|_| step());
            done += 100;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..count)
            .map(step_of)
            .map(|step| scope.spawn(move || run(step)))
            .collect();
        threads
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    })
}

/// Locks and releases disjoint paths: the throughput of two threads to that of one. The same for the floor,
/// whose threads share the skiplist and the reclamation of memory but no clock.
fn threads() {
    for held in [0, 1_000, 100_000] {
        let path = |i: usize| leaf(3, &format!("{}x", i * 5 + 1));
        let locks = LockManager::new();
        let others = hold_leaves(&locks, 3, held);
        let lock = |i: usize| {
            let (locks, resource) = (locks.clone(), Resource::write(path(i)));
            move || drop(black_box(locks.blocking_lock([resource.clone()])))
        };
        let (two, one, ratio) = in_turn(|| throughput(2, lock), || throughput(1, lock));
        print(&format!("threads_1_beside_{held}"), one, "per_second");
        print(&format!("threads_2_beside_{held}"), two, "per_second");
        print(&format!("threads_2_to_1_beside_{held}"), ratio, "ratio");
        drop(others);
        let map = floor_of(3, held);
        let insert = |i: usize| {
            let (map, path, mut births) = (&map, path(i), 0);
            move || {
                births += 1;
                let key = (path.clone(), Reverse(births), 1);
                black_box(map.insert(key.clone(), 0));
                black_box(map.remove(&key));
            }
        };
        let (_, _, ratio) = in_turn(|| throughput(2, insert), || throughput(1, insert));
        print(
            &format!("threads_2_to_1_beside_{held}_of_the_floor"),
            ratio,
            "ratio",
        );
    }
}

/// Joins the end of a queue of writers and leaves it again; hands over at its head.
fn queue() {
    let resource = Resource::write(leaf(3, "42"));
    let locks_with = |length: usize| {
        let locks = LockManager::new();
        let first = locks.enqueue([resource.clone()]).expect("open");
        let mut queue = vec![first];
        queue.extend((1..length).map(|_| queue_up(&locks, resource.clone())));
        (locks, queue)
    };
    let join =
        |locks: &LockManager| time(5_000, || drop(black_box(locks.enqueue([resource.clone()]))));
    let (ten, queue_of_ten) = locks_with(10);
    for length in [10, 1_000, 100_000] {
        let (locks, queue) = locks_with(length);
        let (ours, _, ratio) = in_turn(|| join(&locks), || join(&ten));
        print(&format!("queue_join_and_leave_{length}"), ours, "ns");
        print(
            &format!("queue_join_and_leave_{length}_to_10"),
            ratio,
            "ratio",
        );
        drop(queue);
    }
    drop(queue_of_ten);
    for length in [10, 1_000, 100_000] {
        // Builds the whole queue, then releases from the head until it is empty.
        let repeats = 20_000_usize.div_ceil(length);
        let rounds: Vec<(f64, f64)> = (0..5)
            .map(|_| {
                let (mut join, mut hand_over) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..repeats {
                    let start = Instant::now();
                    let (_locks, queue) = locks_with(length);
                    join += start.elapsed();
                    let start = Instant::now();
                    queue.into_iter().for_each(drop);
                    hand_over += start.elapsed();
                }
                let each = |total: Duration| total.as_nanos() as f64 / (repeats * length) as f64;
                (each(join), each(hand_over))
            })
            .collect();
        print(
            &format!("queue_build_{length}"),
            median(rounds.iter().map(|r| r.0)),
            "ns",
        );
        print(
            &format!("queue_hand_over_{length}"),
            median(rounds.iter().map(|r| r.1)),
            "ns",
        );
    }
    for readers in [1_000, 100_000] {
        let ns = median((0..5).map(|_| {
            let locks = LockManager::new();
            let writer = hold(&locks, resource.clone());
            let read = Resource::read(resource.path.clone());
            let waiting: Vec<Pending> = (0..readers)
                .map(|_| queue_up(&locks, read.clone()))
                .collect();
            let start = Instant::now();
            writer.release();
            let ns = start.elapsed().as_nanos() as f64 / f64::from(readers);
            assert!(waiting.iter().all(Pending::is_acquired));
            ns
        }));
        print(&format!("queue_grant_each_of_{readers}_readers"), ns, "ns");
    }
}

/// A write on the parent of held children: joins, then waits while each child is released.
fn parent() {
    for children in [100, 10_000, 100_000] {
        let above = Resource::write(leaf(2, "it"));
        let child = |i: usize| Resource::write(["org", "it", &i.to_string()]);
        let rounds: Vec<(f64, f64)> = (0..5)
            .map(|_| {
                let locks = LockManager::new();
                let held: Vec<Lock> = (0..children).map(|i| hold(&locks, child(i))).collect();
                let start = Instant::now();
                let waiting = queue_up(&locks, above.clone());
                let join = start.elapsed().as_nanos() as f64;
                let start = Instant::now();
                held.into_iter().for_each(Lock::release);
                let drain = start.elapsed().as_nanos() as f64 / children as f64;
                assert!(waiting.is_acquired());
                (join, drain)
            })
            .collect();
        print(
            &format!("parent_joins_above_{children}"),
            median(rounds.iter().map(|r| r.0)),
            "ns",
        );
        print(
            &format!("parent_drains_each_of_{children}"),
            median(rounds.iter().map(|r| r.1)),
            "ns",
        );
    }
}

/// Several resources in one request, to as many requests of one resource.
fn resources() {
    for count in [4, 16] {
        let locks = LockManager::new();
        let others = hold_leaves(&locks, 3, 1_000);
        let set: Vec<Resource> = (0..count)
            .map(|i| Resource::write(leaf(3, &format!("{i}x"))))
            .collect();
        let (ours, _, ratio) = in_turn(
            || {
                time(5_000, || {
                    drop(black_box(locks.blocking_lock(set.iter().cloned())))
                })
            },
            || {
                time(5_000, || {
                    for resource in &set {
                        drop(black_box(locks.blocking_lock([resource.clone()])));
                    }
                })
            },
        );
        print(&format!("resources_{count}_in_one_request"), ours, "ns");
        print(
            &format!("resources_{count}_to_{count}_requests"),
            ratio,
            "ratio",
        );
        drop(others);
    }
}

/// Locks and releases a set as large as a message of 64 KiB can carry.
///
/// By default the server allows 4,096 segments in a set and 64 in a path. The maxima of the engine are 4,096
/// resources and 1,024 segments in a path. No path shares an ancestor with another one except the root. At every
/// depth each path has some siblings that are locked for write, and as many that are locked for read. They sort
/// before the path, which is the expensive side.
fn messages() {
    let shapes = [
        ("64_paths_of_64", 64, 64, 14),
        ("256_paths_of_16", 256, 16, 14),
        ("1024_paths_of_4", 1_024, 4, 12),
        ("2048_paths_of_2", 2_048, 2, 10),
        ("4096_paths_of_1", 4_096, 1, 8),
        ("15_paths_of_1024", 15, 1_024, 2),
    ];
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
            .filter(|count| depth < 1_024 || *count < 8);
        for siblings in siblings {
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
            let ns = median((0..ROUNDS).map(|_| {
                time(1, || {
                    let pending = locks.enqueue(set.iter().cloned()).expect("open");
                    assert!(black_box(pending).is_acquired());
                })
            }));
            print(
                &format!("messages_{shape}_beside_{siblings}"),
                ns / 1e6,
                "ms",
            );
            drop(others);
        }
    }
}

/// The resident memory of the process, in bytes; `None` where the system does not report it.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}

/// The memory of an outstanding request of one short path, including the overhead of the allocator and the
/// handle (16 bytes if it is held, 24 if it waits); and the memory after many withdrawals. Each case runs in a
/// process of its own, with a fresh heap.
fn memory() {
    for case in ["memory_held", "memory_waiting", "memory_after_withdrawals"] {
        let this = std::env::current_exe().expect("the path of this program");
        let status = Command::new(this).env(MEMORY_CASE, case).status();
        assert!(status.expect("started").success());
    }
}

fn memory_of(case: &str) {
    if case == "memory_after_withdrawals" {
        return after_withdrawals();
    }
    const COUNT: usize = 500_000;
    let locks = LockManager::new();
    let resource = Resource::write(leaf(3, "42"));
    let _first = hold(&locks, resource.clone());
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    let before;
    if case == "memory_held" {
        held.reserve(COUNT);
        before = resident();
        held.extend(hold_leaves(&locks, 2, COUNT));
    } else {
        waiting.reserve(COUNT);
        before = resident();
        waiting.extend((0..COUNT).map(|_| queue_up(&locks, resource.clone())));
    }
    match (before, resident()) {
        (Some(before), Some(after)) => print(case, (after - before) / COUNT as f64, "bytes"),
        _ => println!("# {case}: this system does not report the resident memory"),
    }
}

/// The memory of the process after many requests were withdrawn behind a lock that stays held.
fn after_withdrawals() {
    let locks = LockManager::new();
    let path = leaf(3, "42");
    let _held = hold(&locks, Resource::write(path.clone()));
    let mut rounds = 0_u64;
    for until in [10_000, 10_000_000] {
        while rounds < until {
            drop(black_box(locks.enqueue([Resource::read(path.clone())])));
            rounds += 1;
        }
        match resident() {
            Some(bytes) => print(
                &format!("memory_after_{until}_withdrawals"),
                bytes / 1024.0,
                "KiB",
            ),
            None => println!("# this system does not report the resident memory"),
        }
    }
}
