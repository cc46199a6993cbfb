//! The bug finder: threads lock, try, withdraw and release at random on the real structures, while
//! every grant is checked.
//!
//! - Exclusion: each node of a small tree has a cell; whoever is granted a path enters all cells of
//!   its subtree and must find no one there who conflicts.
//! - Order: whoever enters a cell must have a larger token than all who conflicted there before.
//! - No lost wake-up: a wait that takes longer than [`LOST`] is one.
//! - Nothing is left: at the end the table is empty.

use locktopus_engine::{Lock, LockManager, Path, Resource};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Nothing is held for longer than some microseconds, so this is forever.
const LOST: Duration = Duration::from_secs(60);
const FANOUT: usize = 3;
const DEPTH: usize = 3;
const WRITER: u64 = 1 << 32;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) grants: u64,
    pub(crate) withdrawals: u64,
    pub(crate) refused_tries: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} grants, {} withdrawals, {} refused tries",
            self.grants, self.withdrawals, self.refused_tries
        )
    }
}

/// One node of the tree.
#[derive(Default)]
struct Cell {
    /// Who is inside: 1 for each reader, WRITER for each writer.
    inside: AtomicU64,
    last_read: AtomicU64,
    last_write: AtomicU64,
}

struct Tree {
    paths: Vec<Path>,
    cells: Vec<Cell>,
}

impl Tree {
    fn new() -> Tree {
        let mut levels = vec![vec![Vec::<String>::new()]];
        for _ in 0..DEPTH {
            let parents = &levels[levels.len() - 1];
            let children = parents.iter().flat_map(|parent| {
                (0..FANOUT).map(|i| [parent.as_slice(), &[i.to_string()]].concat())
            });
            levels.push(children.collect());
        }
        let paths: Vec<Path> = levels.into_iter().flatten().map(Path::from).collect();
        let cells = paths.iter().map(|_| Cell::default()).collect();
        Tree { paths, cells }
    }

    fn random_set(&self) -> Vec<Resource> {
        let count = [1, 1, 1, 2, 2, 3][fastrand::usize(..6)];
        let resource = |_| {
            // Mostly leaves: a root lock now and then, or everybody would queue.
            let nodes = if fastrand::u8(..8) == 0 {
                0..self.paths.len()
            } else {
                13..self.paths.len()
            };
            let path = self.paths[fastrand::usize(nodes)].clone();
            if fastrand::bool() {
                Resource::write(path)
            } else {
                Resource::read(path)
            }
        };
        (0..count).map(resource).collect()
    }

    /// The cells that a lock covers, and whether for write.
    fn covered<'a>(&'a self, lock: &'a Lock) -> impl Iterator<Item = (&'a Cell, bool)> {
        let everything = self.paths.iter().zip(&self.cells);
        everything.filter_map(|(path, cell)| {
            let mut covering = lock
                .resources()
                .iter()
                .filter(|r| r.path.contains(path))
                .peekable();
            covering.peek()?;
            let write = covering.any(|r| r.conflicts_with(&Resource::read(path.clone())));
            Some((cell, write))
        })
    }

    fn enter(&self, lock: &Lock) {
        let token = lock.token();
        for (cell, write) in self.covered(lock) {
            let last_read = cell.last_read.load(Ordering::Relaxed);
            let last_write = cell.last_write.load(Ordering::Relaxed);
            assert!(
                last_write < token,
                "token {token} after the write {last_write}"
            );
            if write {
                let inside = cell.inside.fetch_add(WRITER, Ordering::Relaxed);
                assert_eq!(inside, 0, "a writer met others: {lock:?}");
                assert!(
                    last_read < token,
                    "token {token} after the read {last_read}"
                );
                cell.last_write.store(token, Ordering::Relaxed);
            } else {
                let inside = cell.inside.fetch_add(1, Ordering::Relaxed);
                assert!(inside < WRITER, "a reader met a writer: {lock:?}");
                cell.last_read.fetch_max(token, Ordering::Relaxed);
            }
        }
    }

    fn exit(&self, lock: &Lock) {
        for (cell, write) in self.covered(lock) {
            cell.inside
                .fetch_sub(if write { WRITER } else { 1 }, Ordering::Relaxed);
        }
    }
}

/// Runs `threads` threads for `rounds` requests each.
pub(crate) fn hunt(threads: usize, rounds: u64) -> Report {
    let locks = LockManager::new();
    let tree = Tree::new();
    let hunters: Vec<Report> = thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| hunter(&locks.clone(), &tree, rounds));
        let hunters: Vec<_> = (0..threads).map(spawn).collect();
        hunters
            .into_iter()
            .map(|hunter| hunter.join().expect("no panic"))
            .collect()
    });
    let stats = locks.stats();
    assert_eq!(
        (stats.acquired, stats.waiting, stats.resources),
        (0, 0, 0),
        "something is left"
    );
    assert_eq!(locks.requests().count(), 0, "something is left");
    hunters
        .into_iter()
        .fold(Report::default(), |sum, one| Report {
            grants: sum.grants + one.grants,
            withdrawals: sum.withdrawals + one.withdrawals,
            refused_tries: sum.refused_tries + one.refused_tries,
        })
}

fn hunter(locks: &LockManager, tree: &Tree, rounds: u64) -> Report {
    let mut report = Report::default();
    for _ in 0..rounds {
        let set = tree.random_set();
        let lock = if fastrand::u8(..8) == 0 {
            match locks.try_lock(set).expect("open") {
                Some(lock) => lock,
                None => {
                    report.refused_tries += 1;
                    continue;
                }
            }
        } else {
            locks.lock(set).expect("open")
        };
        let granted = match fastrand::u8(..6) {
            0 => lock.is_acquired(),
            1 => lock.wait_timeout(Duration::from_micros(fastrand::u64(..50))),
            2 => await_or_panic(&lock),
            _ => {
                let granted = lock.wait_timeout(LOST);
                assert!(granted, "lost: {lock:?} in {:#?}", listing(locks));
                granted
            }
        };
        if granted {
            tree.enter(&lock);
            if fastrand::u8(..16) == 0 {
                thread::yield_now();
            }
            tree.exit(&lock);
            report.grants += 1;
        } else {
            report.withdrawals += 1;
        }
        lock.release();
    }
    report
}

fn listing(locks: &LockManager) -> Vec<locktopus_engine::RequestInfo> {
    locks.requests().collect()
}

/// Awaits the grant as an executor would, sometimes by way of a future that is dropped half-way.
fn await_or_panic(lock: &Lock) -> bool {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    if fastrand::bool() {
        let _ = pin!(lock.acquired())
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    let mut acquired = pin!(lock.acquired());
    let since = Instant::now();
    while acquired.as_mut().poll(&mut context).is_pending() {
        thread::park_timeout(LOST);
        assert!(since.elapsed() < LOST, "lost: {lock:?}");
    }
    true
}
