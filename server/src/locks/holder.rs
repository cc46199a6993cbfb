//! The one owner of a connection's lock.
//!
//! ```text
//!            enqueue              settle            granted           release
//!   Empty ────────────► Entering ───────► Waiting ─────────► Held ────────────► Empty
//!     ▲                    │ release         │ release         │                  ▲
//!     │ settle             ▼                 ├─────────────────│──────────────────┤
//!     └────────────────── Left               │ revoke          │ revoke           │ release
//!                                            └────────────────►└──► Revoked ──────┘
//! ```
//!
//! The task of the connection makes these steps, with two exceptions: any task can call `revoke`, and a job of a queue
//! calls `settle` if a request needs more than a first slice to enter the lock table.
//!
//! Entering and ending are work in steps. The caller does a first slice itself. The rest belongs to a queue, so the end
//! of the connection changes nothing: a request that enters after it is withdrawn.
//!
//! # Invariants
//! H1. The engine's `Pending` or `Lock` is in the slot and nowhere else. The call that takes it out turns it into the
//!     work that ends it; so exactly one call ends it. It has ended when the result of that call resolves.
//! H2. `Waiting` becomes `Held` only in `granted` and `entered`, whose caller tells the client. A lock is never kept for
//!     the abandon timeout if the client was not told about it.
//! H3. `Revoked` lasts until the task of the connection calls `release`: it cannot miss the revocation, and the
//!     revocation cannot concern its next lock.
//! H4. A job keeps its holder, and with it the namespace and the place of the connection, until the work is done.

use super::entry::Entry;
use super::journal::Journal;
use super::namespaces::{Namespace, Stay};
use crate::shares::Party;
use crate::work::{Soon, Weight};
use locktopus_engine::{Lock, LockError, Pending, RequestState, Resource, Work};
use locktopus_protocol as protocol;
use std::future::{Future as _, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use tracing::warn;

/// The budget of the slice that the caller does itself: no ordinary lock needs more.
const FIRST_SLICE: usize = 50;

/// The budget of a step of a job. A unit is about a microsecond.
pub(super) const STEP: usize = 50;

/// The client of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The number of the connection.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// The party that its work and its limits count for.
    pub(crate) party: Party,
    /// The name that the client gives itself.
    pub(crate) name: Option<String>,
    /// How long an acquired lock outlives the connection.
    pub(crate) abandon_timeout: Duration,
}

/// A connection as an owner of a lock. It outlives its socket while its lock is abandoned, and while work is left.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) client: Client,
    /// When the connection ended.
    disconnected: OnceLock<Instant>,
    /// Never locked across an await, nor while steps are done.
    slot: Mutex<Slot>,
    /// Notified when the slot becomes `Revoked`.
    revocation: Notify,
    /// The last field: when it is dropped, the holder leaves the namespace, and nothing must be locked then.
    stay: Stay,
}

#[derive(Debug)]
enum Slot {
    Empty,
    /// A request enters.
    Entering,
    /// As `Entering`, but the connection has ended.
    Left,
    Waiting {
        pending: Pending,
        since: Instant,
    },
    Held {
        lock: Lock,
        since: Instant,
    },
    Revoked {
        token: u64,
    },
}

impl Holder {
    pub(super) fn new(client: Client, stay: Stay) -> Holder {
        Holder {
            client,
            disconnected: OnceLock::new(),
            slot: Mutex::new(Slot::Empty),
            revocation: Notify::new(),
            stay,
        }
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.stay.namespace
    }

    fn journal(&self) -> &Journal {
        &self.stay.namespaces.journal
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests a lock; only while the slot is empty. If this succeeds, [`entered`](Holder::entered) says more.
    ///
    /// The weight is the weight of the message with this set.
    ///
    /// # Errors
    /// The errors of the engine. Nothing is queued then.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        resources: Vec<protocol::Resource>,
        weight: Weight,
    ) -> Soon<Result<(), LockError>> {
        let before = mem::replace(&mut *self.slot(), Slot::Entering);
        debug_assert!(matches!(before, Slot::Empty), "one lock at a time");
        let mut entry = Entry::new(Arc::clone(self), resources);
        if weight == Weight::Light {
            if let Err(error) = entry.collect() {
                return Soon::now(Err(error));
            }
            if let Some(result) = entry.step(FIRST_SLICE) {
                if !entry.is_done() {
                    self.push(self.client.party, move || {
                        entry.step(STEP);
                        entry.is_done()
                    });
                }
                return Soon::now(result);
            }
        }
        let (tell, told) = oneshot::channel();
        let mut tell = Some(tell);
        self.push(self.client.party, move || {
            let collected = entry.collect();
            let result = collected.err().map(Err).or_else(|| entry.step(STEP));
            if let Some(result) = result
                && let Some(tell) = tell.take()
            {
                // An error means that the connection has ended meanwhile.
                let _ = tell.send(result);
            }
            entry.is_done()
        });
        Soon::Later(told)
    }

    /// Puts a request into the slot once it has entered. Withdraws it if the connection has ended meanwhile.
    pub(super) fn settle(
        self: &Arc<Self>,
        entered: Result<Pending, LockError>,
        since: Instant,
    ) -> Result<(), LockError> {
        let (next, result) = match entered {
            Ok(pending) => (Slot::Waiting { pending, since }, Ok(())),
            Err(error) => (Slot::Empty, Err(error)),
        };
        let before = mem::replace(&mut *self.slot(), next);
        if matches!(before, Slot::Left) {
            // The withdrawal is a job of its own, if it is long.
            drop(self.release());
        }
        result
    }

    /// Whether the connection has ended while its request enters.
    pub(super) fn has_left(&self) -> bool {
        matches!(*self.slot(), Slot::Left)
    }

    /// The token of a request that has entered, and whether its lock is acquired already; to be called once for each.
    pub(crate) fn entered(&self) -> (u64, bool) {
        let mut slot = self.slot();
        match mem::replace(&mut *slot, Slot::Empty) {
            Slot::Waiting { pending, since } => {
                let token = pending.token();
                let acquired = pending.is_acquired();
                *slot = match pending.try_acquired() {
                    Ok(lock) => self.hold(lock, since),
                    Err(pending) => {
                        self.log("enqueued", token, pending.resources());
                        Slot::Waiting { pending, since }
                    }
                };
                (token, acquired)
            }
            Slot::Revoked { token } => {
                *slot = Slot::Revoked { token };
                (token, false)
            }
            other => unreachable!("no request has entered: {other:?}"),
        }
    }

    fn hold(&self, lock: Lock, waiting_since: Instant) -> Slot {
        let since = Instant::now();
        let waited = since.saturating_duration_since(waiting_since);
        self.journal().metrics.granted(waited);
        self.log("acquired", lock.token(), lock.resources());
        Slot::Held { lock, since }
    }

    /// Resolves when the waiting request is granted; never if there is none.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; the request keeps its place in line.
    pub(crate) async fn granted(&self) {
        poll_fn(|context| {
            let mut slot = self.slot();
            let Slot::Waiting { pending, since } = &mut *slot else {
                return Poll::Pending;
            };
            let lock = ready!(Pin::new(pending).poll(context));
            let since = *since;
            *slot = self.hold(lock, since);
            Poll::Ready(())
        })
        .await;
    }

    /// Releases the lock or withdraws the request, if there is one. Acknowledges a revocation. A request that still
    /// enters is withdrawn as soon as it has entered.
    ///
    /// The result resolves when the lock or request has left the lock table.
    pub(crate) fn release(self: &Arc<Self>) -> Soon<()> {
        let ending = self.end(&mut self.slot(), None);
        self.finish(ending, self.client.party)
    }

    /// Takes the lock or request out of the slot. `how` names the cause for the log, if the client did not end it.
    fn end(&self, slot: &mut Slot, how: Option<&str>) -> Option<Work> {
        let metrics = &self.journal().metrics;
        match mem::replace(slot, Slot::Empty) {
            Slot::Empty | Slot::Revoked { .. } => None,
            Slot::Entering | Slot::Left => {
                *slot = Slot::Left;
                None
            }
            Slot::Held { lock, since } => {
                metrics.released(since.elapsed());
                self.log(how.unwrap_or("released"), lock.token(), lock.resources());
                Some(lock.release_in_steps())
            }
            Slot::Waiting { pending, since } => {
                let granted = pending.is_acquired();
                if granted {
                    metrics.granted(since.elapsed());
                    metrics.released(Duration::ZERO);
                } else {
                    metrics.withdrawals.inc();
                }
                let ended = if granted { "released" } else { "withdrawn" };
                self.log(how.unwrap_or(ended), pending.token(), pending.resources());
                Some(pending.withdraw_in_steps())
            }
        }
    }

    /// Does a first slice of the work that ends a lock, and leaves the rest to a job of this party.
    fn finish(self: &Arc<Self>, ending: Option<Work>, party: Party) -> Soon<()> {
        let Some(mut work) = ending else {
            return Soon::now(());
        };
        if work.step(FIRST_SLICE) {
            return Soon::now(());
        }
        let (tell, told) = oneshot::channel();
        let (mut tell, soon) = if work.has_left() {
            (None, Soon::now(()))
        } else {
            (Some(tell), Soon::Later(told))
        };
        let holder = Arc::clone(self);
        self.push(party, move || {
            let done = work.step(STEP);
            if (done || work.has_left())
                && let Some(tell) = tell.take()
            {
                // An error means that the connection has ended meanwhile.
                let _ = tell.send(());
            }
            let _kept = &holder;
            done
        });
        soon
    }

    fn push(&self, party: Party, job: impl FnMut() -> bool + Send + 'static) {
        let queues = &self.stay.namespaces.queues;
        queues.push(self.client.id, party, job);
    }

    /// Ends the lock with this token on the order of an operator, of this address and party. Returns the state of the
    /// request before that, and a result that resolves when it has left the lock table; `None` if the token does not
    /// belong to this holder's lock.
    ///
    /// It is always logged, with the address of the operator. The work counts for the party of the operator: the party
    /// of the lock may have much work in the queues.
    pub(crate) fn revoke(
        self: &Arc<Self>,
        token: u64,
        (by, party): (SocketAddr, Party),
    ) -> Option<(RequestState, Soon<()>)> {
        let mut slot = self.slot();
        let acquired = match &*slot {
            Slot::Waiting { pending, .. } if pending.token() == token => pending.is_acquired(),
            Slot::Held { lock, .. } if lock.token() == token => true,
            _ => return None,
        };
        let Client {
            id, address, name, ..
        } = &self.client;
        warn!(
            namespace = &*self.namespace().name,
            token,
            connection = id,
            %address,
            client = name,
            %by,
            "lock released by force"
        );
        self.journal().metrics.revoked.inc();
        let ending = self.end(&mut slot, Some("released by force"));
        *slot = Slot::Revoked { token };
        drop(slot);
        self.revocation.notify_one();
        let state = if acquired {
            RequestState::Acquired
        } else {
            RequestState::Waiting
        };
        Some((state, self.finish(ending, party)))
    }

    /// Resolves when the lock is revoked. Only one task can wait at a time: the task of the connection.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the slot stays revoked until [`release`](Holder::release).
    pub(crate) async fn revoked(&self) {
        while !matches!(*self.slot(), Slot::Revoked { .. }) {
            self.revocation.notified().await;
        }
    }

    /// Whether a request waits and is not granted.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(&*self.slot(), Slot::Waiting { pending, .. } if !pending.is_acquired())
    }

    /// Token of the lock or request, and the moment at which it entered its state.
    pub(crate) fn current(&self) -> Option<(u64, Instant)> {
        match &*self.slot() {
            Slot::Empty | Slot::Entering | Slot::Left | Slot::Revoked { .. } => None,
            Slot::Waiting { pending, since } => Some((pending.token(), *since)),
            Slot::Held { lock, since } => Some((lock.token(), *since)),
        }
    }

    /// Notes that the connection has ended. From then on only its lock and its work keep the holder.
    pub(crate) fn disconnect(&self) {
        if self.disconnected.set(Instant::now()).is_ok() {
            self.namespace().disconnected();
        }
    }

    /// How much of the abandon timeout is left; `None` while the connection is open.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let disconnected = self.disconnected.get()?;
        Some(
            self.client
                .abandon_timeout
                .saturating_sub(disconnected.elapsed()),
        )
    }

    /// Keeps an acquired lock for the abandon timeout, or until it is revoked. Withdraws a waiting request at once.
    /// Resolves when the lock or request has left the lock table.
    pub(crate) async fn abandon(self: &Arc<Self>) {
        let timeout = self.client.abandon_timeout;
        if let Slot::Held { lock, .. } = &*self.slot() {
            self.journal().metrics.abandoned.inc();
            self.log("abandoned", lock.token(), lock.resources());
        } else {
            let left = self.release();
            left.await;
            return;
        }
        if !timeout.is_zero() {
            tokio::select! {
                () = sleep(timeout) => {}
                () = self.revoked() => {}
            }
        }
        let ending = self.end(&mut self.slot(), Some("released after the abandon timeout"));
        self.finish(ending, self.client.party).await;
    }

    fn log(&self, event: &str, token: u64, resources: &[Resource]) {
        let namespace = &self.namespace().name;
        self.journal()
            .log(event, &self.client, namespace, token, resources);
    }
}

/// The connection counts as ended when its holder is dropped without a word.
impl Drop for Holder {
    fn drop(&mut self) {
        self.disconnect();
    }
}

#[cfg(test)]
mod tests;
