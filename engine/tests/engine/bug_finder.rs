//! The bug finder: threads lock, try, withdraw and release at random on the real structures, while
//! every grant is checked.
//!
//! - Exclusion: each node of a small tree has a cell. The holder of a path enters all cells of its
//!   subtree and must find no conflicting holder inside.
//! - Order: the token of a holder that enters a cell is larger than the tokens of all conflicting holders
//!   that were there before.
//! - No lost wake-up: a wait that takes longer than [`LOST`] counts as one.
//! - No request is left: at the end the table is empty.
//!
//! Many requests enter and leave in steps. All threads share their works, and each does steps of any of them.

use locktopus_engine::{Entering, Lock, LockManager, Path, Pending, Resource, Work};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Locks are held for some microseconds, and steps follow soon, so a wait of this length never ends.
const LOST: Duration = Duration::from_secs(60);
const FANOUT: usize = 3;
const DEPTH: usize = 3;
const WRITER: u64 = 1 << 32;

/// The works under way. Each thread does steps of them between its own operations and while it waits.
#[derive(Default)]
struct Works(Mutex<Vec<Work>>);

impl Works {
    fn add(&self, work: Work) {
        if !work.is_done() {
            self.0.lock().expect("no panic").push(work);
        }
    }

    /// Does a step of a random work; `false` if there is none.
    fn step(&self) -> bool {
        let picked = {
            let mut works = self.0.lock().expect("no panic");
            let count = works.len();
            (count > 0).then(|| works.swap_remove(fastrand::usize(..count)))
        };
        let is_any = picked.is_some();
        if let Some(mut work) = picked {
            if fastrand::u8(..50) == 0 {
                drop(work);
            } else {
                work.step(fastrand::usize(..50) * fastrand::usize(..2));
                self.add(work);
            }
        }
        is_any
    }
}

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
    /// The holders inside: 1 for each reader, WRITER for each writer.
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
            // Mostly leaves, with a root lock now and then: otherwise every request would queue.
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
    let works = Works::default();
    let hunters: Vec<Report> = thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| hunter(&locks.clone(), &tree, &works, rounds));
        let hunters: Vec<_> = (0..threads).map(spawn).collect();
        hunters
            .into_iter()
            .map(|hunter| hunter.join().expect("no panic"))
            .collect()
    });
    while works.step() {}
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

fn hunter(locks: &LockManager, tree: &Tree, works: &Works, rounds: u64) -> Report {
    let mut report = Report::default();
    for _ in 0..rounds {
        let set = tree.random_set();
        works.step();
        let lock = if fastrand::u8(..8) == 0 {
            let tried = locks.try_lock(set).expect("open");
            report.refused_tries += u64::from(tried.is_none());
            tried
        } else {
            let acquired = acquire(locks, works, set);
            report.withdrawals += u64::from(acquired.is_none());
            acquired
        };
        let Some(lock) = lock else {
            continue;
        };
        tree.enter(&lock);
        if fastrand::u8(..16) == 0 {
            thread::yield_now();
        }
        tree.exit(&lock);
        report.grants += 1;
        if fastrand::bool() {
            works.add(lock.release_in_steps());
        } else {
            lock.release();
        }
    }
    report
}

/// Waits for the grant in one of many ways; `None` if it gave up waiting.
fn acquire(locks: &LockManager, works: &Works, set: Vec<Resource>) -> Option<Lock> {
    let micros = || Duration::from_micros(fastrand::u64(..50));
    let enqueue = |set: Vec<Resource>| match fastrand::bool() {
        true => locks.enqueue(set).expect("open"),
        false => enter_in_steps(locks.enqueue_in_steps(set).expect("open"), works),
    };
    match fastrand::u8(..12) {
        0 => enqueue(set).try_acquired().ok(),
        1 => enqueue(set).wait_timeout(micros()).ok(),
        2 => locks.blocking_lock_timeout(set, micros()).expect("open"),
        3 => poll_once(pin!(locks.lock(set))).map(|lock| lock.expect("open")),
        4 => Some(await_or_panic(locks, works, locks.lock(set)).expect("open")),
        5 => {
            let mut pending = enqueue(set);
            // As a branch of a `select!` that did not win.
            poll_once(pin!(&mut pending)).or_else(|| Some(await_or_panic(locks, works, pending)))
        }
        6 => {
            let waited = enqueue(set).wait_timeout(micros());
            Some(waited.unwrap_or_else(|pending| wait_or_panic(locks, works, pending)))
        }
        7 => {
            works.add(enqueue(set).withdraw_in_steps());
            None
        }
        8 => {
            let mut entering = locks.enqueue_in_steps(set).expect("open");
            if entering.step(0).is_none() {
                works.add(entering.withdraw_in_steps());
            }
            None
        }
        _ => Some(wait_or_panic(locks, works, enqueue(set))),
    }
}

fn enter_in_steps(mut entering: Entering, works: &Works) -> Pending {
    loop {
        if let Some(entered) = entering.step(fastrand::usize(..5)) {
            let (pending, work) = entered.expect("open");
            works.add(work);
            return pending;
        }
        works.step();
    }
}

fn wait_or_panic(locks: &LockManager, works: &Works, mut pending: Pending) -> Lock {
    let since = Instant::now();
    while since.elapsed() < LOST {
        let patience = match works.step() {
            true => Duration::ZERO,
            false => Duration::from_micros(100),
        };
        match pending.wait_timeout(patience) {
            Ok(lock) => return lock,
            Err(waits) => pending = waits,
        }
    }
    panic!("lost: {pending:?} in {:#?}", listing(locks))
}

fn listing(locks: &LockManager) -> Vec<locktopus_engine::RequestInfo> {
    locks.requests().collect()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Awaits the grant as an executor does: it polls only after a wake-up.
fn await_or_panic<F: Future>(locks: &LockManager, works: &Works, future: F) -> F::Output {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    let since = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !unpark.1.swap(false, Ordering::Acquire) {
            if !works.step() {
                // Not longer: another thread may add a work.
                thread::park_timeout(Duration::from_micros(100));
            }
            assert!(since.elapsed() < LOST, "lost among {:#?}", listing(locks));
        }
    }
}
