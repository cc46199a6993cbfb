//! Shares: no client can use up a limit of the server that others need as well.
//!
//! Each limit is a [`Pool`]: a whole, of which each party has a share. A party can always take what is free, up to its
//! share. Beyond its share it can take what is free as long as one share of the whole stays free afterwards; other
//! parties find that part free.
//!
//! ```text
//!   whole 8, share 2:   ┌───────────────────────┬───────┐
//!                       │ one party, 6 at most  │   2   │ free for parties below their share
//!                       └───────────────────────┴───────┘
//! ```
//!
//! A share is rounded up, and is 1 at least. So if the whole is 1, the first party takes it. If it is 2 and the
//! percentage is 50 or less, each party has 1 at most. If the percentage is 100, a party can take the whole.
//!
//! # Invariants
//! P1. The amounts taken never exceed the whole.
//! P2. What parties have taken beyond their shares leaves one share of the whole to others: a party below its share is
//!     refused only while other parties use their own shares.
//! P3. A party with nothing taken occupies no memory.

mod ledger;
mod memory;
mod party;

use crate::config::Config;
use crate::metrics::Metrics;
use ledger::Ledger;
pub(crate) use ledger::{Refused, most};
pub(crate) use memory::{Memory, request_bytes};
pub(crate) use party::Party;
use prometheus::IntCounter;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many pages of a long answer are made or sent at one time.
const ANSWERS: usize = 4;
/// How many requests wait for one of them.
const WAITING_ANSWERS: usize = 100;

/// The limits of a server that its parties share.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Sockets that wait for an upgrade or ask for pages, by address: no token is known yet.
    pub(crate) sockets: Pool,
    /// Connections that are open or have left a lock behind.
    pub(crate) connections: Pool,
    /// Bytes of messages that are not complete, and of requests that are outstanding, besides what belongs to the
    /// places of their connections.
    pub(crate) memory: Pool,
    /// Long answers that are made or sent.
    pub(crate) answers: Pool,
    /// Requests that wait for their long answer.
    pub(crate) waiting_answers: Pool,
}

impl Shares {
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Shares {
        let pool = |kind, whole| Pool::new(whole, config.share, metrics.over_share(kind));
        Shares {
            sockets: pool("sockets", config.max_connections),
            connections: pool("connections", config.max_connections),
            memory: pool("memory", config.max_request_bytes),
            answers: pool("answers", ANSWERS),
            waiting_answers: pool("answers", WAITING_ANSWERS),
        }
    }

    /// Takes a place for a connection.
    ///
    /// # Errors
    /// [`Refused`] if all places are taken, or the party is over its share.
    pub(crate) fn place(&self, party: Party) -> Result<Place, Refused> {
        let taken = self.connections.try_take(party, 1)?;
        let memory = Mutex::new(Memory::new(&self.memory, party));
        Ok(Place {
            memory,
            _taken: taken,
        })
    }
}

/// The place of a connection, and the memory of its message and its request.
#[derive(Debug)]
pub(crate) struct Place {
    memory: Mutex<Memory>,
    _taken: Taken,
}

impl Place {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limit that parties share. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Never locked across an await, and only for one step of the ledger.
    ledger: Mutex<Ledger>,
    /// Notified when an amount is given back.
    given: Notify,
    /// Counts the refusals of parties over their share.
    over_share: IntCounter,
}

impl Pool {
    /// A pool of this size, whose shares are `percent` of it.
    fn new(whole: usize, percent: usize, over_share: IntCounter) -> Pool {
        Pool(Arc::new(Inner {
            ledger: Mutex::new(Ledger::new(whole, percent)),
            given: Notify::new(),
            over_share,
        }))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let ledger = self.0.ledger.lock();
        ledger.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an amount, which the returned guard gives back.
    ///
    /// # Errors
    /// [`Refused`], which also says why. Nothing is taken then.
    pub(crate) fn try_take(&self, party: Party, amount: usize) -> Result<Taken, Refused> {
        let taken = self.ledger().take(party, amount);
        if matches!(taken, Err(Refused::OverShare { .. })) {
            self.0.over_share.inc();
        }
        taken.map(|()| self.taken(party, amount))
    }

    /// As [`try_take`](Pool::try_take), but waits until the amount can be taken. The amount must not be larger
    /// than one party can take.
    ///
    /// Every amount that is given back wakes all waiting tasks: the caller must bound their number.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing. Waiting parties have no order; the share that stays free for others keeps
    /// one party from holding up the rest.
    pub(crate) async fn take(&self, party: Party, amount: usize) -> Taken {
        loop {
            // This comes before the attempt: an amount that is given back after it is not missed.
            let given = self.0.given.notified();
            if self.ledger().take(party, amount).is_ok() {
                return self.taken(party, amount);
            }
            given.await;
        }
    }

    fn taken(&self, party: Party, amount: usize) -> Taken {
        Taken {
            pool: self.clone(),
            party,
            amount,
        }
    }
}

/// A part of a pool that a party has taken. Dropping it gives the part back.
#[derive(Debug)]
#[must_use = "dropping it gives the amount back"]
pub(crate) struct Taken {
    pool: Pool,
    party: Party,
    amount: usize,
}

impl Taken {
    /// Takes more, so that the amount is not smaller than this.
    ///
    /// # Errors
    /// [`Refused`]. The amount stays the same then.
    fn grow_to(&mut self, amount: usize) -> Result<(), Refused> {
        let more = amount.saturating_sub(self.amount);
        if more > 0 {
            let mut more = self.pool.try_take(self.party, more)?;
            self.amount += mem::take(&mut more.amount);
        }
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.ledger().give(self.party, self.amount);
        self.pool.0.given.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    pub(super) fn pool(whole: usize, percent: usize) -> Pool {
        let counter = IntCounter::new("refusals", "Refusals.").expect("a valid name");
        Pool::new(whole, percent, counter)
    }

    #[test]
    fn a_dropped_guard_gives_its_amount_back() {
        let pool = pool(4, 25);
        let party = Party::of_token(1);
        let first = pool.try_take(party, 2).expect("free");
        let second = pool.try_take(party, 1).expect("free");
        assert_eq!(
            pool.try_take(party, 1).err(),
            Some(Refused::OverShare { taken: 3, whole: 4 })
        );
        assert_eq!(pool.0.over_share.get(), 1);
        drop(first);
        let third = pool.try_take(party, 2).expect("free again");
        drop((second, third));
        assert!(pool.ledger().is_empty());
    }

    #[tokio::test]
    async fn a_waiting_party_takes_what_another_gives_back() {
        let pool = pool(1, 25);
        let [one, other] = [1, 2].map(Party::of_token);
        let held = pool.take(one, 1).await;
        let mut waiting = Box::pin(pool.take(other, 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        let held = waiting.await;
        assert_eq!(
            pool.try_take(one, 1).err(),
            Some(Refused::Full { whole: 1 })
        );
        drop(held);
        assert!(pool.ledger().is_empty());
    }
}
