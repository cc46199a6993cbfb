//! The handle of one request.

use crate::request::Request;
use crate::resource::Resource;
use crate::sync::{Arc, pin};
use crate::table::Table;
use crate::waiter::{Happened, block_on};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// One request for a set of resources: waiting in line, or holding them all.
///
/// Dropping it releases the lock, or gives up the place in line if it was not acquired yet.
#[must_use = "dropping a lock releases it"]
pub struct Lock {
    table: Arc<Table>,
    request: Arc<Request>,
}

impl Lock {
    pub(crate) fn new(table: Arc<Table>, request: Arc<Request>) -> Lock {
        Lock { table, request }
    }

    /// Whether all its resources are held. Once true, it stays true until the lock is released.
    #[must_use]
    pub fn is_acquired(&self) -> bool {
        self.request.granted.has_happened()
    }

    /// The fencing token: unique in its lock manager, and larger than that of every earlier
    /// conflicting lock. It is also the place in line: conflicting locks are acquired in its order.
    ///
    /// Source: Kleppmann, "How to do distributed locking"; the store that a lock protects keeps the
    /// largest token it has seen and refuses smaller ones, which fences off a paused former holder.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.request.ticket()
    }

    /// What it locks, ordered by path; without the resources that another of them covers.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.request.resources
    }

    /// Waits until the lock is acquired. Works in any async runtime, needs no timer or reactor.
    ///
    /// Any number of tasks and threads may wait on one lock.
    ///
    /// # Cancel safety
    /// Dropping the future keeps the place in line: only dropping the `Lock` gives it up.
    pub fn acquired(&self) -> Acquired<'_> {
        Acquired(Happened::new(&self.request.granted))
    }

    /// Blocks the thread until the lock is acquired. Spins for some microseconds, then parks.
    ///
    /// In async code use [`acquired`](Lock::acquired).
    pub fn wait(&self) {
        block_on(&self.request.granted, None);
    }

    /// Blocks the thread until the lock is acquired, at most about this long; whether it is.
    ///
    /// `false` means still queued: the place in line is kept, and waiting again goes on.
    #[must_use = "the lock may not be acquired"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // A deadline past the end of the clock is none.
        block_on(&self.request.granted, Instant::now().checked_add(timeout))
    }

    /// Releases the lock, or withdraws the request if it still waits. The same as dropping it.
    ///
    /// Later requests that waited for this one only are granted before this returns.
    /// Cost: O(resources × log outstanding); and, on this thread, what each request costs that is
    /// granted (about 0.1 µs) or moves on to wait for another (about 0.5 µs, and a step for each
    /// later request that it passes).
    pub fn release(self) {}
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.table.leave(&self.request);
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("token", &self.token())
            .field("acquired", &self.is_acquired())
            .field("resources", &self.resources())
            .finish()
    }
}

/// Resolves when a [`Lock`] is acquired; made by [`Lock::acquired`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Acquired<'a>(Happened<'a>);

impl Future for Acquired<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The last request of a closed table: granted when it has drained. It has no entries.
pub(crate) struct Last {
    table: Arc<Table>,
    request: Arc<Request>,
}

impl Last {
    pub(crate) fn enter(table: Arc<Table>) -> Last {
        let (request, wakes) = table.enter_last();
        let last = Last { table, request };
        wakes.wake();
        last
    }

    pub(crate) fn acquired(&self) -> Happened<'_> {
        Happened::new(&self.request.granted)
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.table.end(&self.request, pin());
    }
}
