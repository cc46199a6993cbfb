//! Two accounts locked at once: no deadlock in any order, and no lost update.
//!
//! ```sh
//! cargo run -p locktopus-engine --example transfer_in_process
//! ```

use locktopus_engine::{LockError, LockManager, Resource};
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

/// A transfer reads and writes a balance in two steps, as in a database without transactions.
struct Bank {
    locks: LockManager,
    balances: [AtomicI64; 2],
}

impl Bank {
    fn transfer(&self, from: usize, to: usize, amount: i64) -> Result<(), LockError> {
        let account = |number: usize| Resource::write(["accounts", &number.to_string()]);
        let lock = self.locks.blocking_lock([account(from), account(to)])?;
        let [source, target] = [&self.balances[from], &self.balances[to]];
        let (before, after) = (
            source.load(Ordering::Relaxed),
            target.load(Ordering::Relaxed),
        );
        source.store(before - amount, Ordering::Relaxed);
        target.store(after + amount, Ordering::Relaxed);
        lock.release();
        Ok(())
    }

    fn total(&self) -> Result<i64, LockError> {
        // While the parent is locked for read, no account changes.
        let _lock = self.locks.blocking_lock([Resource::read(["accounts"])])?;
        Ok(self
            .balances
            .iter()
            .map(|balance| balance.load(Ordering::Relaxed))
            .sum())
    }
}

fn main() -> Result<(), LockError> {
    let bank = Bank {
        locks: LockManager::new(),
        balances: [AtomicI64::new(1000), AtomicI64::new(1000)],
    };
    thread::scope(|scope| {
        for (from, to) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
            let bank = &bank;
            scope.spawn(move || {
                for amount in 0..1000 {
                    bank.transfer(from, to, amount).expect("open");
                }
            });
        }
        for _ in 0..100 {
            assert_eq!(bank.total(), Ok(2000), "money neither appears nor vanishes");
        }
    });
    let balances = bank
        .balances
        .each_ref()
        .map(|balance| balance.load(Ordering::Relaxed));
    println!("balances {balances:?}, total {}", bank.total()?);
    Ok(())
}
