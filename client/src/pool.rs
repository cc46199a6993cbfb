//! The connections that are idle until the next lock.

use crate::checkout::Handle;
use crate::options::Options;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The state that all clones of a client share.
pub(crate) struct Pool {
    pub(crate) options: Options,
    /// `None` once the client is closed. A connection that comes back then is dropped, and so closed.
    idle: Mutex<Option<Vec<Handle>>>,
    open: Arc<watch::Sender<usize>>,
}

impl Pool {
    pub(crate) fn new(mut options: Options) -> Pool {
        // The timeout is sent in whole milliseconds, and a deadline must not assume more.
        let milliseconds = u64::try_from(options.abandon_timeout.as_millis());
        options.abandon_timeout = Duration::from_millis(milliseconds.unwrap_or(u64::MAX));
        Pool {
            options,
            idle: Mutex::new(Some(Vec::new())),
            open: Arc::new(watch::Sender::new(0)),
        }
    }

    /// The connection that came back last. Of all idle ones it is the least likely to have ended.
    pub(crate) fn take(&self) -> Option<Handle> {
        self.idle().as_mut()?.pop()
    }

    pub(crate) fn put(&self, handle: Handle) {
        if let Some(idle) = self.idle().as_mut() {
            // Connections that have ended meanwhile do not count towards the limit.
            idle.retain(|handle| !handle.commands.is_closed());
            if idle.len() < self.options.max_idle_connections {
                idle.push(handle);
            }
        }
    }

    /// Closes the idle connections now, and each of the others when it comes back.
    pub(crate) fn close(&self) {
        self.idle().take();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.idle().is_none()
    }

    /// Counts a connection as open until the result is dropped.
    pub(crate) fn count_open(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(&self.open))
    }

    /// Resolves when no connection is open.
    pub(crate) async fn drained(&self) {
        // The sender is a field of this pool, so the wait does not fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// How many connections are open, and how many of them are idle.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let idle = self.idle().as_ref().map_or(0, Vec::len);
        (*self.open.borrow(), idle)
    }

    /// No code that may panic runs under the mutex, so the list is consistent even if the mutex is poisoned.
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
