//! The bug finder: threads lock, try, withdraw and release at random on the real structures, while
//! every grant is checked.
//!
//! - Exclusion: each node of a small tree has a cell. The holder of a path enters all cells of its
//!   subtree and must find no conflicting holder inside.
//! - Order: the token of a holder that enters a cell is larger than the tokens of all conflicting holders
//!   that were there before.
//! - Visibility: a holder sees what the last writer of a cell has stored there as plain data.
//! - No lost wake-up: a wait that takes longer than a minute counts as one.
//! - No grant after the close, with which each hunt ends.
//! - No request is left: at the end the table is empty.
//!
//! Each thread has some prepared sets, which it locks now and then. With options for it, requests rest at their first
//! release, and compete for few places.
//!
//! Many requests enter and leave in steps. All threads share their works, and each does steps of any of them.
//! A seed decides which operations each thread does, but not how the threads overlap.

mod prepared;
mod tree;
mod works;

use locktopus_engine::{Lock, LockError, LockManager, Options, Pending, PreparedSet, Resource};
use std::fmt;
use std::ops::AddAssign;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tree::Tree;
use works::{Works, poll_once};

/// What the threads have done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) grants: u64,
    pub(crate) withdrawals: u64,
    pub(crate) refused_tries: u64,
    pub(crate) restored: u64,
    pub(crate) narrowed: u64,
    /// Grants of requests that had rested.
    pub(crate) again: u64,
    /// Grants of prepared sets.
    pub(crate) prepared: u64,
}

impl Report {
    fn add_grant(&mut self, is_again: bool) {
        self.grants += 1;
        self.again += u64::from(is_again);
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.grants += other.grants;
        self.withdrawals += other.withdrawals;
        self.refused_tries += other.refused_tries;
        self.restored += other.restored;
        self.narrowed += other.narrowed;
        self.again += other.again;
        self.prepared += other.prepared;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            grants,
            withdrawals,
            refused_tries,
            restored,
            narrowed,
            again,
            prepared,
        } = self;
        write!(
            f,
            "{grants} grants ({again} of requests that rested, {prepared} of prepared sets, {restored} of restored \
             requests), narrowed {narrowed} times, {withdrawals} withdrawals, {refused_tries} refused tries"
        )
    }
}

/// Runs `threads` threads for `rounds` rounds each. The first one that is through closes the lock manager.
pub(crate) fn hunt(threads: usize, rounds: u64, seed: u64, options: Options) -> Report {
    fastrand::seed(seed);
    let hunt = Hunt {
        locks: LockManager::with(options),
        tree: Tree::new(),
        works: Works::default(),
        is_closed: AtomicBool::new(false),
    };
    let seeds: Vec<u64> = (0..threads).map(|_| fastrand::u64(..)).collect();
    let mut report = Report::default();
    thread::scope(|scope| {
        let hunt = &hunt;
        let spawn = |seed| scope.spawn(move || hunt.run(rounds, seed));
        let hunters: Vec<_> = seeds.into_iter().map(spawn).collect();
        for hunter in hunters {
            match hunter.join() {
                Ok(one) => report += one,
                Err(panic) => {
                    eprintln!("a bug, with the seed {seed}");
                    resume_unwind(panic);
                }
            }
        }
    });
    hunt.finish();
    report
}

struct Hunt {
    locks: LockManager,
    tree: Tree,
    works: Works,
    /// Set once `close` has returned.
    is_closed: AtomicBool,
}

impl Hunt {
    fn run(&self, rounds: u64, seed: u64) -> Report {
        fastrand::seed(seed);
        let mut report = Report::default();
        let mut prepared: Vec<PreparedSet> = (0..4).map(|_| self.prepare()).collect();
        for _ in 0..rounds {
            self.works.step();
            let was_closed = self.is_closed.load(Ordering::Acquire);
            let before = report;
            match self.round(&mut prepared, &mut report) {
                Ok(()) => {}
                Err(LockError::Closed) => return report,
                Err(other) => panic!("{other}"),
            }
            let has_entered =
                (report.grants, report.withdrawals) != (before.grants, before.withdrawals);
            assert!(!was_closed || !has_entered, "a closed manager answers");
        }
        self.works.add(self.locks.close_in_steps());
        self.is_closed.store(true, Ordering::Release);
        report
    }

    fn finish(self) {
        while self.works.step() {}
        self.works.await_or_panic(&self.locks, self.locks.drained());
        let stats = self.locks.stats();
        let left = (stats.acquired, stats.waiting, stats.resources);
        assert_eq!(left, (0, 0, 0), "something is left");
        assert_eq!(self.locks.requests().count(), 0, "something is left");
    }

    fn round(&self, prepared: &mut [PreparedSet], report: &mut Report) -> Result<(), LockError> {
        let set = self.tree.random_set();
        match fastrand::u8(..64) {
            0..8 => match self.locks.try_lock(set)? {
                Some(lock) => self.visit(lock, report),
                None => report.refused_tries += 1,
            },
            8 => self.restore(set, report)?,
            9..12 => self.burst(set, report)?,
            12..24 => self.lock_prepared(fastrand::choice(prepared).expect("not empty"), report)?,
            _ => match self.acquire(set)? {
                Some(lock) => self.visit(lock, report),
                None => report.withdrawals += 1,
            },
        }
        Ok(())
    }

    fn wait(&self, pending: Pending) -> Lock {
        (self.works).wait_or_panic(&self.locks, pending, Pending::wait_timeout)
    }

    /// Checks a grant, perhaps narrows it some times, and ends it.
    fn visit(&self, mut lock: Lock, report: &mut Report) {
        report.add_grant(lock.is_again());
        self.tree.enter(lock.token(), lock.resources());
        while fastrand::u8(..8) == 0 {
            report.narrowed += u64::from(self.narrow(&mut lock));
        }
        if fastrand::u8(..16) == 0 {
            thread::yield_now();
        }
        self.tree.exit(lock.resources());
        if fastrand::bool() {
            self.works.add(lock.release_in_steps());
        } else {
            lock.release();
        }
    }

    /// Narrows a lock to a random set, if there is any. It leaves the other cells before.
    fn narrow(&self, lock: &mut Lock) -> bool {
        let part = self.tree.random_part(lock.resources());
        if part.is_empty() {
            assert!(lock.narrow(part).is_err(), "an empty set");
            return false;
        }
        (self.tree).give_up(lock.token(), lock.resources(), &part);
        if fastrand::bool() {
            self.works.add(lock.narrow_in_steps(part).expect("covered"));
        } else {
            lock.narrow(part).expect("covered");
        }
        true
    }

    /// Skips some tokens, or restores a request, while other threads draw tokens.
    fn restore(&self, set: Vec<Resource>, report: &mut Report) -> Result<(), LockError> {
        let last = self.locks.stats().last_token;
        if fastrand::bool() {
            return self.locks.skip_to(last + fastrand::u64(..4));
        }
        match self.locks.restore(last + fastrand::u64(..9), set) {
            Ok(restored) => {
                report.restored += 1;
                self.visit(self.wait(restored), report);
                Ok(())
            }
            Err(LockError::TokenOutOfRange { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Locks the same set again and again.
    fn burst(&self, set: Vec<Resource>, report: &mut Report) -> Result<(), LockError> {
        for _ in 0..fastrand::u8(..50) {
            let lock = self.wait(self.locks.enqueue(&set)?);
            report.add_grant(lock.is_again());
            self.tree.visit(lock.token(), lock.resources());
        }
        Ok(())
    }

    /// Waits for the grant in one of many ways; `None` if it gave up waiting.
    fn acquire(&self, set: Vec<Resource>) -> Result<Option<Lock>, LockError> {
        let Hunt { locks, works, .. } = self;
        let micros = || Duration::from_micros(fastrand::u64(..50));
        let enqueue = |set: Vec<Resource>| match fastrand::bool() {
            true => locks.enqueue(set),
            false => works.enter_in_steps(locks.enqueue_in_steps(set)?),
        };
        Ok(match fastrand::u8(..12) {
            0 => enqueue(set)?.try_acquired().ok(),
            1 => enqueue(set)?.wait_timeout(micros()).ok(),
            2 => locks.blocking_lock_timeout(set, micros())?,
            3 => poll_once(pin!(locks.lock(set))).transpose()?,
            4 => Some(works.await_or_panic(locks, locks.lock(set))?),
            5 => {
                let mut pending = enqueue(set)?;
                // As a branch of a `select!` that did not win.
                poll_once(pin!(&mut pending)).or_else(|| Some(works.await_or_panic(locks, pending)))
            }
            6 => {
                let waited = enqueue(set)?.wait_timeout(micros());
                Some(waited.unwrap_or_else(|pending| self.wait(pending)))
            }
            7 => {
                works.add(enqueue(set)?.withdraw_in_steps());
                None
            }
            8 => {
                let mut entering = locks.enqueue_in_steps(set)?;
                match entering.step(0) {
                    Some(entered) => works.add(entered?.0.withdraw_in_steps()),
                    None => works.add(entering.withdraw_in_steps()),
                }
                None
            }
            _ => Some(self.wait(enqueue(set)?)),
        })
    }
}
