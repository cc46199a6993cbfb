//! The connections that wait for their next lock.

use crate::lease::Handle;
use crate::options::Options;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What the clones of a client share.
pub(crate) struct Pool {
    pub(crate) options: Options,
    /// `None` once the client is closed: what comes back then is dropped, and so closed.
    idle: Mutex<Option<Vec<Handle>>>,
    open: Arc<watch::Sender<usize>>,
}

impl Pool {
    pub(crate) fn new(mut options: Options) -> Pool {
        // The server hears of whole milliseconds only; a deadline shall not count on more.
        let milliseconds = u64::try_from(options.abandon_timeout.as_millis());
        options.abandon_timeout = Duration::from_millis(milliseconds.unwrap_or(u64::MAX));
        Pool {
            options,
            idle: Mutex::new(Some(Vec::new())),
            open: Arc::new(watch::Sender::new(0)),
        }
    }

    /// The connection that came back last, which is the one most surely alive.
    pub(crate) fn take(&self) -> Option<Handle> {
        self.idle().as_mut()?.pop()
    }

    pub(crate) fn put(&self, handle: Handle) {
        if let Some(idle) = self.idle().as_mut() {
            // Those that have died meanwhile take no place.
            idle.retain(|handle| !handle.commands.is_closed());
            if idle.len() < self.options.max_idle_connections {
                idle.push(handle);
            }
        }
    }

    /// Closes the idle connections now, and the others when they would come back.
    pub(crate) fn close(&self) {
        self.idle().take();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.idle().is_none()
    }

    /// Counts a connection for as long as it is kept.
    pub(crate) fn count_open(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(&self.open))
    }

    /// Resolves when no connection is open.
    pub(crate) async fn drained(&self) {
        // The sender is ours, so it is not gone.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// How many connections are open, and how many of them are idle.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let idle = self.idle().as_ref().map_or(0, Vec::len);
        (*self.open.borrow(), idle)
    }

    /// No code that may panic runs under the lock, so what it guards is whole in any case.
    fn idle(&self) -> MutexGuard<'_, Option<Vec<Handle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, idle) = self.counts();
        f.debug_struct("Client")
            .field("options", &self.options)
            .field("open_connections", &open)
            .field("idle_connections", &idle)
            .finish()
    }
}

/// One open connection.
pub(crate) struct Open(Arc<watch::Sender<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
