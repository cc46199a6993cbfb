//! A request for a lock, and the lock.

use crate::error::Error;
use crate::lease::{Lease, Lost, Stage, gone};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request for a lock that the server has answered: it waits in line, or is granted already.
///
/// Made by [`Client::enqueue`](crate::Client::enqueue). Dropping it withdraws the request, or
/// releases the lock.
#[must_use = "dropping it withdraws the request"]
pub struct Pending {
    pub(crate) lease: Lease,
    pub(crate) id: Arc<str>,
    pub(crate) abandon_timeout: Duration,
}

impl Pending {
    /// The id that the server gave the request. It stays the lock's.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is granted, as far as is known here.
    #[must_use]
    pub fn is_acquired(&self) -> bool {
        matches!(*self.lease.stage.borrow(), Stage::Acquired(_))
    }

    /// Waits until the lock is granted.
    ///
    /// A grant may be read late: if the process was stopped for so long that the lock may be another's
    /// by then, it is confirmed with a round trip to the server first.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Refused`] or [`Error::Protocol`] if the connection ended before
    /// it was known here that the lock is granted. The server withdraws the request then; should it
    /// have granted it in that very moment, nobody else gets the lock for the abandon timeout.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request, and its place in line is lost. To go on with
    /// something else meanwhile, pin the future and `select!` on a reference to it.
    pub async fn acquired(mut self) -> Result<Guard, Error> {
        let decided = |stage: &Stage| matches!(stage, Stage::Acquired(_) | Stage::Ended(_));
        match self.lease.reaches(decided).await {
            Stage::Ended(lost) => Err(lost.reason().clone()),
            Stage::Acquired(id) => {
                if self.lease.pulse.deadline() <= Instant::now() {
                    self.lease.confirm().await?;
                }
                Ok(Guard {
                    lease: self.lease,
                    id,
                    abandon_timeout: self.abandon_timeout,
                })
            }
            _ => Err(gone()),
        }
    }

    /// Withdraws the request, and waits until the server has confirmed it.
    ///
    /// # Errors
    /// If the connection ended before; the server withdraws the request by itself then.
    ///
    /// # Cancel safety
    /// The request is withdrawn in any case.
    pub async fn withdraw(self) -> Result<(), Error> {
        self.lease.release().await
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("id", &self.id)
            .field("acquired", &self.is_acquired())
            .finish_non_exhaustive()
    }
}

/// A lock that is held.
///
/// Dropping it releases the lock without waiting: the connection's task tells the server. Where the
/// runtime may end right after that, as at the end of `main`, use [`release`](Guard::release) or
/// [`Client::close`](crate::Client::close), or the server hears nothing of it and keeps the lock for
/// the abandon timeout.
#[must_use = "dropping it releases the lock"]
pub struct Guard {
    lease: Lease,
    id: Arc<str>,
    abandon_timeout: Duration,
}

impl Guard {
    /// The fencing token: larger than that of every earlier conflicting lock. Whatever the lock
    /// protects can refuse a token that is smaller than the largest it has seen, and so be safe from
    /// a holder that has lost its lock and does not know it yet.
    ///
    /// `None` if the server's id is not a whole number below 2⁶⁴. The Go server's ids are such
    /// numbers, but they start anew with the server.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        // Without this, `+7` were a number.
        let digits = self.id.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| self.id.parse().ok()).flatten()
    }

    /// The token as the server wrote it, whatever it is.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Resolves the moment the connection is known to be gone; at once if it is gone already.
    /// It never does once the guard is released or dropped.
    ///
    /// The client asks every [`ping_interval`](crate::Options::ping_interval) whether the server is
    /// there, so that also a server is noticed that ends without a word, at the latest after
    /// [`silence_limit`](crate::Options::silence_limit) and two intervals. The lock is not free at
    /// that moment: when a connection ends the server keeps its locks for the connection's
    /// [`abandon_timeout`](crate::Options::abandon_timeout). The rest of that is the time to stop:
    /// nobody else gets the lock before [`Lost::deadline`].
    ///
    /// Three things end a lock sooner than that. A lock can be released by force; its holder is told
    /// so, and the deadline is now. A server that ends takes all its locks with it, so that one that
    /// is started again at once may grant them at once. And the clock of the deadline stands still
    /// while the machine is suspended. Only [`token`](Guard::token) covers those.
    ///
    /// The future does not borrow the guard.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped; it can be asked for again.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static + use<> {
        self.lease.lost()
    }

    /// Until when the server keeps the lock even if the connection is gone already. It moves on with
    /// every answer to a ping. Cost: a mutex that is hardly ever contended.
    ///
    /// Check it before a step that must not be done without the lock: if the process was stopped for
    /// longer than the abandon timeout, then this is in the past, before anybody has noticed;
    /// [`confirm`](Guard::confirm) asks then.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &*self.lease.stage.borrow() {
            Stage::Ended(lost) => lost.deadline(),
            _ => self.lease.pulse.deadline(),
        }
    }

    /// Asks the server whether the connection, and so the lock, is still there. When it has answered
    /// the [`deadline`](Guard::deadline) counts from the moment of the question, or later. Cost: a round trip.
    ///
    /// It is for a step that must not be done without the lock, after a time for which nobody can vouch.
    ///
    /// # Errors
    /// If the connection ends first: what [`lost`](Guard::lost) tells.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn confirm(&self) -> Result<(), Error> {
        self.lease.confirm().await
    }

    /// How long the server keeps the lock when the connection ends.
    #[must_use]
    pub fn abandon_timeout(&self) -> Duration {
        self.abandon_timeout
    }

    /// Releases the lock, and waits until the server has confirmed it.
    ///
    /// # Errors
    /// If the connection ended before it was confirmed: the lock may have been lost before, and may
    /// be kept for up to the abandon timeout.
    ///
    /// # Cancel safety
    /// The lock is released in any case.
    pub async fn release(self) -> Result<(), Error> {
        self.lease.release().await
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
