//! Requests that wait: queues, parents above children, tasks that hand one key over.

use crate::locks::{hold, leaf, queue_up, write};
use crate::measure::{Figure, Readings, Report, Side, in_turn, in_turn_for};
use locktopus_engine::{Lock, LockManager, Path, Pending, Resource};
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

const LENGTHS: [usize; 3] = [10, 1_000, 100_000];

/// A queue of writers, of which the first one holds its lock.
fn queue_of(length: usize, resource: &Resource) -> (LockManager, Vec<Pending>) {
    let locks = LockManager::new();
    let first = locks.enqueue([resource.clone()]).expect("open");
    let mut queue = vec![first];
    queue.extend((1..length).map(|_| queue_up(&locks, resource.clone())));
    (locks, queue)
}

/// Joins the end of a queue of writers and leaves it again; hands over at its head.
pub(crate) fn queue(report: &mut Report) {
    let resource = write(3, "42");
    let join = |locks: &LockManager| drop(black_box(locks.enqueue([resource.clone()])));
    let (ten, queue_of_ten) = queue_of(10, &resource);
    for length in LENGTHS {
        let (locks, queue) = queue_of(length, &resource);
        let [ours, base] = in_turn([Side::new(|| join(&locks)), Side::new(|| join(&ten))]);
        let name = format!("queue_join_and_leave_{length}");
        report.print(&name, ours.figure(), "ns");
        report.print(&format!("{name}_to_10"), ours.to(&base), "ratio");
        drop(queue);
    }
    drop(queue_of_ten);
    for length in LENGTHS {
        let [build, hand_over] = build_and_hand_over(length, &resource);
        report.print(&format!("queue_build_{length}"), build.figure(), "ns");
        report.print(
            &format!("queue_hand_over_{length}"),
            hand_over.figure(),
            "ns",
        );
    }
    for readers in [1_000, 100_000] {
        let read = Resource::read(resource.path.clone());
        let grant = || {
            let locks = LockManager::new();
            let writer = hold(&locks, resource.clone());
            let waiting: Vec<Pending> = (0..readers)
                .map(|_| queue_up(&locks, read.clone()))
                .collect();
            let start = Instant::now();
            writer.release();
            let took = start.elapsed();
            assert!(waiting.iter().all(Pending::is_acquired));
            took
        };
        let [each] = in_turn_for(11, [Side::timed(grant).of(readers)]);
        report.print(
            &format!("queue_grant_each_of_{readers}_readers"),
            each.figure(),
            "ns",
        );
    }
}

/// Builds the whole queue, then releases from the head until it is empty: nanoseconds for each request.
fn build_and_hand_over(length: usize, resource: &Resource) -> [Readings; 2] {
    let repeats = 20_000_usize.div_ceil(length);
    let round = |_| {
        let (mut build, mut hand_over) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..repeats {
            let start = Instant::now();
            let (_locks, queue) = queue_of(length, resource);
            build += start.elapsed();
            let start = Instant::now();
            queue.into_iter().for_each(drop);
            hand_over += start.elapsed();
        }
        [build, hand_over].map(|total| total.as_nanos() as f64 / (repeats * length) as f64)
    };
    let rounds: Vec<[f64; 2]> = (0..11).map(round).collect();
    [0, 1].map(|part| Readings::new(rounds.iter().map(|round| round[part])))
}

/// Writers in line on one thread: each joins, and hands over to the next one.
pub(crate) fn line(report: &mut Report) {
    const WRITERS: u32 = 63;
    let (locks, resource) = (LockManager::new(), write(3, "42"));
    let step = || {
        let line = (0..WRITERS).map(|_| locks.enqueue([resource.clone()]).expect("open"));
        let line: Vec<Pending> = line.collect();
        line.into_iter().for_each(drop);
    };
    let [each] = in_turn([Side::new(step).of(WRITERS)]);
    report.print("line_of_63_writers_each", each.figure(), "ns");
    report.row(
        "63 writers in line on one thread, each",
        &[each.figure()],
        "ns",
    );
}

/// A write on the parent of held children: joins, then waits while each child is released. A held write on the
/// parent, which its release hands over to waiting children.
pub(crate) fn parent(report: &mut Report) {
    let above = write(2, "it");
    let child = |i: usize| Resource::write(["org", "it", &i.to_string()]);
    for children in [100, 10_000, 100_000] {
        let round = |_| {
            let locks = LockManager::new();
            let held: Vec<Lock> = (0..children).map(|i| hold(&locks, child(i))).collect();
            let start = Instant::now();
            let waiting = queue_up(&locks, above.clone());
            let join = start.elapsed().as_nanos() as f64;
            let start = Instant::now();
            held.into_iter().for_each(Lock::release);
            let drain = start.elapsed().as_nanos() as f64 / children as f64;
            assert!(waiting.is_acquired());
            [join, drain]
        };
        let rounds: Vec<[f64; 2]> = (0..11).map(round).collect();
        let [join, drain] =
            [0, 1].map(|part| Readings::new(rounds.iter().map(|round| round[part])));
        report.print(
            &format!("parent_joins_above_{children}"),
            join.figure(),
            "ns",
        );
        report.print(
            &format!("parent_drains_each_of_{children}"),
            drain.figure(),
            "ns",
        );
    }
    let locks = LockManager::new();
    let children: Vec<Resource> = (0..1_000).map(child).collect();
    let release = || {
        let held = hold(&locks, above.clone());
        let waiting = children.iter().map(|child| queue_up(&locks, child.clone()));
        let waiting: Vec<Pending> = waiting.collect();
        let start = Instant::now();
        held.release();
        let took = start.elapsed();
        assert!(waiting.iter().all(Pending::is_acquired));
        took
    };
    let [each] = in_turn([Side::timed(release).of(1_000)]);
    report.print("parent_grants_each_of_1000", each.figure(), "ns");
    let row = "release of a parent above 1,000 waiting children, each child";
    report.row(row, &[each.figure()], "ns");
}

/// Restores requests with their tokens: some hold, and some wait in short queues.
pub(crate) fn restored(report: &mut Report) {
    const COUNT: usize = 100_000;
    let mut random = fastrand::Rng::with_seed(42);
    let mut resource = |_| {
        let path = leaf(3, &random.usize(..COUNT / 3).to_string());
        if random.bool() {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    };
    let resources: Vec<Resource> = (0..COUNT).map(&mut resource).collect();
    let restore = || {
        let locks = LockManager::new();
        let start = Instant::now();
        let requests = (1..).zip(&resources).map(|(token, resource)| {
            let restored = locks.restore(2 * token, [resource.clone()]);
            restored.expect("tokens grow")
        });
        let requests: Vec<Pending> = requests.collect();
        let took = start.elapsed();
        drop(requests);
        took
    };
    let [all] = in_turn_for(11, [Side::timed(restore)]);
    let all = all.figure().scaled(1e-6);
    report.print("restored_100000_requests", all, "ms");
    report.row("100,000 requests restored", &[all], "ms");
}

/// Tasks of one thread that hand a key over: each locks it, lets the others run, and releases it.
pub(crate) fn tasks(report: &mut Report) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let locks = LockManager::new();
    let resource = write(3, "42");
    let ours = hand_over(&runtime, move || {
        let (locks, resource) = (locks.clone(), resource.clone());
        async move { locks.lock([resource]).await }
    });
    let keyed = Arc::new(keyed_lock::r#async::KeyedLock::<Path>::new());
    let path = leaf(3, "42");
    let keyed = hand_over(&runtime, move || {
        let (keyed, path) = (Arc::clone(&keyed), path.clone());
        async move { keyed.lock_owned(path).await }
    });
    let [ours, keyed] = in_turn([ours, keyed]);
    let figures: [(&str, Figure); 2] = [
        ("tasks_hand_over", ours.figure()),
        ("tasks_hand_over_keyed_lock", keyed.figure()),
    ];
    for (name, figure) in figures {
        report.print(name, figure, "ns");
    }
    report.row("10 tasks hand one key over", &[ours.figure()], "ns");
    report.row(
        "10 tasks hand one key over, to keyed-lock",
        &[ours.to(&keyed)],
        "ratio",
    );
}

fn hand_over<F>(runtime: &Runtime, lock: impl Fn() -> F + Clone + Send + 'static) -> Side<'_>
where
    F: Future<Output: Send> + Send + 'static,
{
    const TASKS: u32 = 10;
    const ROUNDS: u32 = 50;
    let step = move || {
        let task = || {
            let lock = lock.clone();
            runtime.spawn(async move {
                for _ in 0..ROUNDS {
                    let held = lock().await;
                    yield_now().await;
                    drop(held);
                }
            })
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| task()).collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("no panic");
            }
        });
    };
    Side::new(step).of(TASKS * ROUNDS)
}
