//! The one owner of a connection's lock.
//!
//! ```text
//!            enqueue             granted           release
//!   Empty ────────────► Waiting ─────────► Held ────────────► Empty
//!                          │ release         │                  ▲
//!                          ├─────────────────│──────────────────┤
//!                          │ revoke          │ revoke           │ release
//!                          └────────────────►└──► Revoked ──────┘
//! ```
//!
//! The task of the connection makes all these steps except `revoke`, which any task can call.
//!
//! # Invariants
//! H1. The engine's `Pending` or `Lock` is in the slot and nowhere else. The call that takes it out ends the lock;
//!     so exactly one call ends it, and the lock has ended when that call returns.
//! H2. `Waiting` becomes `Held` only in `granted`, whose caller tells the client. A lock is never kept for the abandon
//!     timeout if the client was not told about it.
//! H3. `Revoked` lasts until the task of the connection calls `release`: it cannot miss the revocation, and the
//!     revocation cannot concern its next lock.

use super::convert::{from_engine, to_engine};
use crate::metrics::Metrics;
use crate::shares::Party;
use locktopus_engine::{Lock, LockError, LockManager, Pending, RequestState, Resource};
use locktopus_protocol as protocol;
use std::fmt::Write as _;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The client of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The number of the connection.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// The party that its work and its limits count for.
    #[allow(
        dead_code,
        reason = "the queue of work and the shares of limits are to read it"
    )]
    pub(crate) party: Party,
    /// The name that the client gives itself.
    pub(crate) name: Option<String>,
    /// How long an acquired lock outlives the connection.
    pub(crate) abandon_timeout: Duration,
}

/// Where the events of locks are recorded.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log_locks: bool,
}

/// A connection as an owner of a lock. It outlives its socket while its lock is abandoned.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) client: Client,
    namespace: Arc<str>,
    journal: Journal,
    /// When the connection ended.
    disconnected: OnceLock<Instant>,
    /// Never locked across an await.
    slot: Mutex<Slot>,
    /// Notified when the slot becomes `Revoked`.
    revocation: Notify,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Waiting { pending: Pending, since: Instant },
    Held { lock: Lock, since: Instant },
    Revoked,
}

impl Holder {
    pub(super) fn new(client: Client, namespace: Arc<str>, journal: Journal) -> Holder {
        Holder {
            client,
            namespace,
            journal,
            disconnected: OnceLock::new(),
            slot: Mutex::new(Slot::Empty),
            revocation: Notify::new(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests a lock; only while the slot is empty. Returns the token, and whether the lock is acquired already.
    ///
    /// # Errors
    /// The errors of the engine. Nothing is queued then.
    pub(super) fn enqueue(
        &self,
        locks: &LockManager,
        resources: Vec<protocol::Resource>,
    ) -> Result<(u64, bool), LockError> {
        let mut slot = self.slot();
        debug_assert!(matches!(*slot, Slot::Empty), "one lock at a time");
        let pending = locks.enqueue(resources.into_iter().map(to_engine))?;
        let (token, since) = (pending.token(), Instant::now());
        *slot = match pending.try_acquired() {
            Ok(lock) => {
                self.journal.metrics.granted(Duration::ZERO);
                self.log("acquired", token, lock.resources());
                Slot::Held { lock, since }
            }
            Err(pending) => {
                self.log("enqueued", token, pending.resources());
                Slot::Waiting { pending, since }
            }
        };
        Ok((token, matches!(*slot, Slot::Held { .. })))
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
            self.journal.metrics.granted(since.elapsed());
            self.log("acquired", lock.token(), lock.resources());
            let since = Instant::now();
            *slot = Slot::Held { lock, since };
            Poll::Ready(())
        })
        .await;
    }

    /// Releases the lock or withdraws the request, if there is one. Acknowledges a revocation.
    pub(crate) fn release(&self) {
        self.end(&mut self.slot(), None);
    }

    /// Ends the lock or request in the slot. `how` names the cause for the log, if the client did not end it.
    fn end(&self, slot: &mut Slot, how: Option<&str>) {
        let metrics = &self.journal.metrics;
        // The lock or request is dropped within this call, after the records; dropping it ends it.
        match std::mem::replace(slot, Slot::Empty) {
            Slot::Empty | Slot::Revoked => {}
            Slot::Held { lock, since } => {
                metrics.released(since.elapsed());
                self.log(how.unwrap_or("released"), lock.token(), lock.resources());
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
            }
        }
    }

    /// Ends the lock with this token on the order of an operator. Returns the state of the request before that, or
    /// `None` if the token does not belong to this holder's lock.
    ///
    /// It is always logged, with the address of the operator.
    pub(crate) fn revoke(&self, token: u64, by: SocketAddr) -> Option<RequestState> {
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
            namespace = &*self.namespace,
            token,
            connection = id,
            %address,
            client = name,
            %by,
            "lock released by force"
        );
        self.journal.metrics.revoked.inc();
        self.end(&mut slot, Some("released by force"));
        *slot = Slot::Revoked;
        self.revocation.notify_one();
        Some(if acquired {
            RequestState::Acquired
        } else {
            RequestState::Waiting
        })
    }

    /// Resolves when the lock is revoked. Only one task can wait at a time: the task of the connection.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the slot stays revoked until [`release`](Holder::release).
    pub(crate) async fn revoked(&self) {
        while !matches!(*self.slot(), Slot::Revoked) {
            self.revocation.notified().await;
        }
    }

    /// Token of the lock or request, and the moment at which it entered its state.
    pub(crate) fn current(&self) -> Option<(u64, Instant)> {
        match &*self.slot() {
            Slot::Empty | Slot::Revoked => None,
            Slot::Waiting { pending, since } => Some((pending.token(), *since)),
            Slot::Held { lock, since } => Some((lock.token(), *since)),
        }
    }

    /// Notes that the connection has ended. Returns whether it was open.
    pub(super) fn disconnect(&self) -> bool {
        self.disconnected.set(Instant::now()).is_ok()
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
    pub(crate) async fn abandon(&self) {
        let timeout = self.client.abandon_timeout;
        if let Slot::Held { lock, .. } = &*self.slot() {
            self.journal.metrics.abandoned.inc();
            self.log("abandoned", lock.token(), lock.resources());
        } else {
            return self.release();
        }
        if !timeout.is_zero() {
            tokio::select! {
                () = sleep(timeout) => {}
                () = self.revoked() => {}
            }
        }
        self.end(&mut self.slot(), Some("released after the abandon timeout"));
    }

    fn log(&self, event: &str, token: u64, resources: &[Resource]) {
        if self.journal.log_locks {
            info!(
                connection = self.client.id,
                namespace = &*self.namespace,
                token,
                resources = abbreviate(resources),
                "lock {event}"
            );
        }
    }
}

/// The first resources, shortened: a log that is not read is kept in memory for a while.
fn abbreviate(resources: &[Resource]) -> String {
    const SHOWN: usize = 4;
    const CHARACTERS: usize = 80;
    let mut text = String::new();
    for (index, resource) in resources.iter().take(SHOWN).enumerate() {
        let protocol::Resource { mode, path } = from_engine(resource);
        let mode = match mode {
            protocol::Mode::Read => "read",
            protocol::Mode::Write => "write",
        };
        let path: String = protocol::path::write(path)
            .chars()
            .take(CHARACTERS)
            .collect();
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{mode} {path}");
    }
    if resources.len() > SHOWN {
        let _ = write!(text, " and {} more", resources.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const OPERATOR: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn holder(abandon_timeout: Duration) -> Holder {
        let client = Client {
            id: 1,
            address: OPERATOR,
            party: Party::of_address(OPERATOR.ip()),
            name: None,
            abandon_timeout,
        };
        let journal = Journal {
            metrics: Arc::new(Metrics::new()),
            log_locks: false,
        };
        Holder::new(client, Arc::from("n"), journal)
    }

    /// Requests the path `a` for write.
    fn enqueue(holder: &Holder, locks: &LockManager) -> (u64, bool) {
        let resources = vec![protocol::Resource::write(["a"])];
        holder.enqueue(locks, resources).expect("open")
    }

    /// A holder with a lock, a holder that waits for that lock, and their tokens.
    fn two(locks: &LockManager) -> ([Holder; 2], [u64; 2]) {
        let [held, waiting] = [holder(Duration::ZERO), holder(Duration::ZERO)];
        let (first, acquired) = enqueue(&held, locks);
        assert!(acquired);
        let (second, acquired) = enqueue(&waiting, locks);
        assert!(!acquired && second > first);
        ([held, waiting], [first, second])
    }

    #[test]
    fn a_release_grants_the_waiting_request_of_another_holder() {
        let locks = LockManager::new();
        let ([held, waiting], [_, second]) = two(&locks);
        assert!(waiting.granted().now_or_never().is_none());
        held.release();
        assert!(held.current().is_none());
        assert!(waiting.granted().now_or_never().is_some());
        assert_eq!(waiting.current().expect("held").0, second);
        assert!(waiting.granted().now_or_never().is_none(), "once");
    }

    #[test]
    fn a_revoked_lock_has_ended_when_the_call_returns() {
        let locks = LockManager::new();
        let ([held, waiting], [first, second]) = two(&locks);
        assert_eq!(held.revoke(second, OPERATOR), None, "not its token");
        assert_eq!(held.revoke(first, OPERATOR), Some(RequestState::Acquired));
        assert_eq!(held.revoke(first, OPERATOR), None, "only once");
        assert!(held.current().is_none());
        assert!(waiting.granted().now_or_never().is_some());
        assert!(held.revoked().now_or_never().is_some());
        assert!(held.revoked().now_or_never().is_some(), "until the release");
        held.release();
        assert!(held.revoked().now_or_never().is_none());
        assert_eq!(held.journal.metrics.revoked.get(), 1);
    }

    #[test]
    fn a_revoked_request_is_withdrawn_even_if_its_grant_was_not_noticed() {
        let locks = LockManager::new();
        let ([held, waiting], [_, second]) = two(&locks);
        held.release();
        let state = waiting.revoke(second, OPERATOR);
        assert_eq!(state, Some(RequestState::Acquired), "it was granted");
        assert!(waiting.granted().now_or_never().is_none());
        assert_eq!(locks.stats().acquired, 0);
        let metrics = &waiting.journal.metrics;
        assert_eq!((metrics.grants.get(), metrics.withdrawals.get()), (1, 0));
    }

    #[test]
    fn a_revocation_does_not_concern_the_next_lock() {
        let locks = LockManager::new();
        let ([held, _waiting], [first, _]) = two(&locks);
        assert!(held.revoke(first, OPERATOR).is_some());
        // The client has released it in the same moment, and requests the next one.
        held.release();
        let (next, _) = enqueue(&held, &locks);
        assert!(held.revoked().now_or_never().is_none());
        assert_eq!(held.revoke(first, OPERATOR), None);
        assert_eq!(held.current().expect("next").0, next);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_lock_is_kept_for_the_timeout_or_until_it_is_revoked() {
        let locks = LockManager::new();
        let timeout = Duration::from_secs(60);
        for revoked in [false, true] {
            let holder = holder(timeout);
            let (token, _) = enqueue(&holder, &locks);
            holder.disconnect();
            let start = Instant::now();
            let operator = async {
                sleep(timeout / 2).await;
                assert_eq!(locks.stats().acquired, 1);
                assert_eq!(holder.remaining(), Some(timeout / 2));
                revoked.then(|| holder.revoke(token, OPERATOR))
            };
            tokio::join!(holder.abandon(), operator);
            let kept = if revoked { timeout / 2 } else { timeout };
            assert!(start.elapsed() >= kept && start.elapsed() < kept + timeout / 4);
            assert_eq!(
                (locks.stats().acquired, holder.current().is_none()),
                (0, true)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_request_and_a_revoked_lock_are_not_abandoned() {
        let locks = LockManager::new();
        let ([held, waiting], [first, _]) = two(&locks);
        held.revoke(first, OPERATOR);
        let start = Instant::now();
        // Granted in the engine, but its client was not told.
        waiting.abandon().await;
        held.abandon().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(locks.stats().acquired, 0);
        for holder in [held, waiting] {
            assert_eq!(holder.journal.metrics.abandoned.get(), 0);
        }
    }
}
