//! Prepared sets: locked in many ways, leaked, and replaced.

use super::works::poll_once;
use super::{Hunt, Report};
use locktopus_engine::{LockError, PreparedLock, PreparedPending, PreparedSet};
use std::mem;
use std::pin::pin;
use std::time::Duration;

impl Hunt {
    pub(super) fn prepare(&self) -> PreparedSet {
        self.locks
            .prepare(self.tree.random_set())
            .expect("not empty")
    }

    pub(super) fn lock_prepared(
        &self,
        set: &mut PreparedSet,
        report: &mut Report,
    ) -> Result<(), LockError> {
        let Hunt { locks, works, .. } = self;
        let micros = || Duration::from_micros(fastrand::u64(..50));
        let lock = match fastrand::u8(..8) {
            0 => {
                match set.try_lock()? {
                    Some(lock) => self.visit_prepared(lock, report),
                    None => report.refused_tries += 1,
                }
                return Ok(());
            }
            1 => set.enqueue()?.try_acquired().ok(),
            2 => set.enqueue()?.wait_timeout(micros()).ok(),
            3 => poll_once(pin!(set.lock())).transpose()?,
            4 => Some(works.await_or_panic(locks, set.lock())?),
            5 => {
                // The next use ends it. Until then this thread must not wait.
                mem::forget(set.enqueue()?);
                set.try_lock()?
            }
            6 => {
                *set = self.prepare();
                return Ok(());
            }
            _ => {
                for _ in 0..fastrand::u8(..50) {
                    let pending = set.enqueue()?;
                    let lock = works.wait_or_panic(locks, pending, PreparedPending::wait_timeout);
                    self.visit_prepared(lock, report);
                }
                return Ok(());
            }
        };
        match lock {
            Some(lock) => self.visit_prepared(lock, report),
            None => report.withdrawals += 1,
        }
        Ok(())
    }

    fn visit_prepared(&self, lock: PreparedLock<'_>, report: &mut Report) {
        report.add_grant(lock.is_again());
        report.prepared += 1;
        self.tree.visit(lock.token(), lock.resources());
    }
}
