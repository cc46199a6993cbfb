//! A request for a lock, and the lock.

use crate::checkout::{Checkout, Lost, Stage, ended_before};
use crate::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// A request for a lock that the server has answered: it waits in line, or is granted already.
///
/// Made by [`Client::enqueue`](crate::Client::enqueue). Dropping it withdraws the request, or releases the lock.
#[must_use = "dropping it withdraws the request"]
pub struct Pending {
    pub(crate) checkout: Checkout,
    pub(crate) id: Arc<str>,
    pub(crate) abandon_timeout: Duration,
    /// When the client received the first answer to the request.
    pub(crate) answered_at: Instant,
}

impl Pending {
    /// The id that the server gave the request. The lock has the same id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the client knows that the lock is granted.
    #[must_use]
    pub fn is_acquired(&self) -> bool {
        matches!(*self.checkout.stage.borrow(), Stage::Acquired(_))
    }

    /// Waits until the lock is granted.
    ///
    /// A process that was stopped for a while reads the grant late, and the server may have passed the lock on
    /// meanwhile. If the abandon timeout may be over, this call confirms the lock with a round trip before it returns.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Refused`], [`Error::Revoked`] or [`Error::Protocol`] if the connection ended before
    /// the grant was known here. The server then withdraws the request. If it granted the lock at that very moment, no
    /// other client gets it for the abandon timeout.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request, and its place in line is lost. To do something else meanwhile, pin
    /// the future and `select!` on a reference to it.
    pub async fn acquired(mut self) -> Result<Guard, Error> {
        let decided = |stage: &Stage| matches!(stage, Stage::Acquired(_) | Stage::Ended(_));
        match self.checkout.reaches(decided).await {
            Stage::Ended(lost) => Err(lost.reason().clone()),
            Stage::Acquired(id) => {
                if self.checkout.keepalive.deadline() <= Instant::now() {
                    self.checkout.confirm().await?;
                }
                Ok(Guard {
                    checkout: self.checkout,
                    id,
                    abandon_timeout: self.abandon_timeout,
                })
            }
            _ => Err(ended_before()),
        }
    }

    /// As [`acquired`](Pending::acquired), but gives up at this moment.
    ///
    /// A server that has stalled must not look like a lock that others hold. So this call asks the server a second
    /// before the deadline whether it still answers, unless the request was answered later than that.
    ///
    /// # Errors
    /// [`Error::Timeout`], with the time of this wait, if the request is in line at the deadline, and
    /// [`Error::Closed`] if the server does not answer any more. The request is withdrawn in both cases. Otherwise as
    /// for [`acquired`](Pending::acquired).
    ///
    /// # Cancel safety
    /// As for [`acquired`](Pending::acquired).
    pub async fn acquired_by(self, deadline: Instant) -> Result<Guard, Error> {
        /// How long before the deadline the server must have answered at least once.
        const PROOF: Duration = Duration::from_secs(1);
        let began = Instant::now();
        let proof_at = deadline.checked_sub(PROOF).unwrap_or(began);
        let mut answers = self.answered_at >= proof_at;
        let asker = self.checkout.asker();
        let mut asking = pin!(async {
            sleep_until(proof_at.into()).await;
            asker.ask().await
        });
        let mut acquired = pin!(self.acquired());
        loop {
            tokio::select! {
                biased;
                acquired = &mut acquired => return acquired,
                // If this fails, the connection has ended, and `acquired` reports it.
                answer = &mut asking, if !answers => match answer {
                    Ok(()) => answers = true,
                    Err(_) => return acquired.await,
                },
                () = sleep_until(deadline.into()) => {
                    return Err(if answers {
                        Error::Timeout(began.elapsed())
                    } else {
                        let text = "the server is silent: it has not answered a ping in time";
                        Error::Closed(text.into())
                    });
                }
            }
        }
    }

    /// Withdraws the request, and waits until the server has confirmed it.
    ///
    /// # Errors
    /// If the connection ended before the confirmation; the server then withdraws the request by itself.
    ///
    /// # Cancel safety
    /// The request is withdrawn even if the future is dropped.
    pub async fn withdraw(self) -> Result<(), Error> {
        self.checkout.release().await
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
/// Dropping it releases the lock without waiting: the connection's task sends the release. If the runtime may end right
/// after that, as at the end of `main`, use [`release`](Guard::release) or [`Client::close`](crate::Client::close).
/// Otherwise the release may not be sent, and the server keeps the lock for the abandon timeout.
#[must_use = "dropping it releases the lock"]
pub struct Guard {
    checkout: Checkout,
    id: Arc<str>,
    abandon_timeout: Duration,
}

impl Guard {
    /// The fencing token: larger than that of every earlier conflicting lock. A store that refuses tokens smaller than
    /// the largest it has seen is safe from a holder that has lost its lock without knowing it.
    ///
    /// `None` if the server's id is not a whole number below 2⁶⁴. The ids of the Go server are such numbers, but they
    /// start anew with the server.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        // `parse` alone would accept a sign.
        let digits = self.id.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| self.id.parse().ok()).flatten()
    }

    /// The id of the lock, as the server wrote it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Resolves as soon as the connection is known to have ended. It never resolves after the guard is released or
    /// dropped.
    ///
    /// The client pings the server every [`ping_interval`](crate::Options::ping_interval). It notices a server that has
    /// stopped answering after [`silence_limit`](crate::Options::silence_limit) and two intervals at the latest. The
    /// lock is not free at that moment: when a connection ends, the server keeps its lock for the connection's
    /// [`abandon_timeout`](crate::Options::abandon_timeout). The holder has the rest of that time to stop: no other
    /// client gets the lock before [`Lost::deadline`].
    ///
    /// Three events end a lock before the deadline, and only [`token`](Guard::token) protects against them:
    ///
    /// - An operator releases the lock by force. The holder is told, and its deadline is that moment.
    /// - The server process ends, and all its locks end with it. A new server process may grant them at once.
    /// - The holder's machine is suspended. The clock of the deadline stands still meanwhile.
    ///
    /// The future does not borrow the guard.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect; a new one can be made.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static + use<> {
        self.checkout.lost()
    }

    /// The moment until which the server keeps the lock, even if the connection has already ended. Every answer to a
    /// ping moves it on. Cost: locking a mutex that is rarely contended.
    ///
    /// Check it before a step that must not be done without the lock. If the process was stopped for longer than the
    /// abandon timeout, the deadline is in the past, even before the client has noticed the loss.
    /// [`confirm`](Guard::confirm) then asks the server.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &*self.checkout.stage.borrow() {
            Stage::Ended(lost) => lost.deadline(),
            _ => self.checkout.keepalive.deadline(),
        }
    }

    /// Asks the server whether the connection, and so the lock, still exists. After the answer the
    /// [`deadline`](Guard::deadline) counts from the moment of the question or a later one. Cost: a round trip.
    ///
    /// Use it before a step that must not be done without the lock, when the deadline may have passed.
    ///
    /// # Errors
    /// If the connection ends before the answer: the reason that [`lost`](Guard::lost) reports.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn confirm(&self) -> Result<(), Error> {
        self.checkout.confirm().await
    }

    /// How long the server keeps the lock after the connection has ended.
    #[must_use]
    pub fn abandon_timeout(&self) -> Duration {
        self.abandon_timeout
    }

    /// Releases the lock, and waits until the server has confirmed it.
    ///
    /// # Errors
    /// If the connection ended before the confirmation. The lock may have been lost earlier, and may stay locked for
    /// up to the abandon timeout.
    ///
    /// # Cancel safety
    /// The lock is released even if the future is dropped.
    pub async fn release(self) -> Result<(), Error> {
        self.checkout.release().await
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
