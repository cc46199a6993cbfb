//! What is known of a connection besides its lock: for who asks who holds what, and for who takes a
//! lock away by force.
//!
//! The lock itself belongs to the task of the connection alone. To take it away is to doom it here;
//! the task hears of it at once, whatever it does, and ends it.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection, or one that has gone and left a lock behind.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// What it calls itself.
    pub(crate) name: Option<String>,
    pub(crate) abandon_timeout: Duration,
    /// When it went and left a lock behind.
    gone: OnceLock<Instant>,
    current: Mutex<Option<Current>>,
    /// Told when the current lock is doomed.
    doomed: Notify,
    /// Told when a lock has ended.
    ended: Notify,
}

/// The lock of a connection, and since when it is in its state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    pub(crate) token: u64,
    pub(crate) acquired: bool,
    pub(crate) since: Instant,
    doomed: bool,
}

impl Client {
    pub(crate) fn new(
        id: u64,
        address: SocketAddr,
        name: Option<String>,
        abandon_timeout: Duration,
    ) -> Client {
        Client {
            id,
            address,
            name,
            abandon_timeout,
            gone: OnceLock::new(),
            current: Mutex::default(),
            doomed: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// By the task of the connection: it is gone.
    pub(crate) fn disconnected(&self) {
        // Once is enough.
        let _ = self.gone.set(Instant::now());
    }

    /// For how long it still keeps the lock that it has left behind; `None` while it is connected.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let gone = self.gone.get()?;
        Some(self.abandon_timeout.saturating_sub(gone.elapsed()))
    }

    /// Never held across an await.
    fn slot(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> Option<Current> {
        *self.slot()
    }

    /// By the task of the connection: it has a lock now.
    pub(crate) fn queued(&self, token: u64, acquired: bool) {
        *self.slot() = Some(Current {
            token,
            acquired,
            since: Instant::now(),
            doomed: false,
        });
    }

    /// By the task of the connection: its lock is granted; how long it waited.
    pub(crate) fn granted(&self) -> Duration {
        let now = Instant::now();
        self.slot().as_mut().map_or(Duration::ZERO, |current| {
            current.acquired = true;
            now - std::mem::replace(&mut current.since, now)
        })
    }

    /// By the task of the connection: its lock has ended; whether it was known as acquired, and how
    /// long it was in its last state.
    pub(crate) fn ended(&self) -> (bool, Duration) {
        let last = self.slot().take();
        self.ended.notify_waiters();
        last.map_or((false, Duration::ZERO), |last| {
            (last.acquired, last.since.elapsed())
        })
    }

    /// Takes the lock away; `None` if it is not this client's. Returns what it was, once it has
    /// ended.
    pub(crate) async fn doom(&self, token: u64) -> Option<Current> {
        let doomed = {
            let mut slot = self.slot();
            let current = slot.as_mut().filter(|current| current.token == token)?;
            current.doomed = true;
            *current
        };
        self.doomed.notify_one();
        loop {
            let ended = self.ended.notified();
            if self.current().is_none_or(|current| current.token != token) {
                return Some(doomed);
            }
            ended.await;
        }
    }

    /// By the task of the connection: resolves when its lock is to be taken away.
    ///
    /// # Cancel safety
    /// Nothing is lost: the doom stays.
    pub(crate) async fn doomed(&self) {
        while !self.current().is_some_and(|current| current.doomed) {
            self.doomed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;

    fn client() -> Client {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Client::new(1, address, None, Duration::ZERO)
    }

    #[tokio::test]
    async fn a_doomed_lock_is_reported_when_it_has_ended() {
        let client = Arc::new(client());
        client.queued(7, true);
        let dooms = [(); 2].map(|()| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.doom(7).await })
        });
        client.doomed().await;
        client.ended();
        for doom in dooms {
            // The second may come when it has ended already.
            if let Some(current) = doom.await.expect("no panic") {
                assert!(current.token == 7 && current.acquired);
            }
        }
    }

    #[tokio::test]
    async fn a_doom_that_came_too_late_does_not_strike_the_next_lock() {
        let client = client();
        client.queued(7, false);
        {
            let mut doom = pin!(client.doom(7));
            assert!(futures_util::poll!(doom.as_mut()).is_pending());
            client.ended();
            client.queued(8, false);
            assert!(futures_util::poll!(doom.as_mut()).is_ready());
        }
        assert!(futures_util::poll!(pin!(client.doomed())).is_pending());
        assert!(client.doom(7).await.is_none());
    }
}
