//! The public face: one independent space of paths.

use crate::cursor::Key;
use crate::error::LockError;
use crate::lock::{Last, Lock};
use crate::resource::{Mode, Resource, ResourceSet};
use crate::stats::{RequestInfo, Stats};
use crate::sync::Arc;
use crate::table::Table;
use crate::waiter::Happened;
use std::fmt;

/// A lock manager: one independent space of paths to lock.
///
/// Cheap to clone; clones share the space. See the [crate] documentation for what it promises.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let lock = locks.lock([Resource::write(["user", "it", "42"]), Resource::read(["reports"])])?;
/// lock.wait();
/// // … `user/it/42` and all below it are ours, and nobody writes to `reports` …
/// lock.release();
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
#[derive(Clone)]
pub struct LockManager {
    table: Arc<Table>,
}

impl LockManager {
    /// A lock manager with nothing locked. Its tokens start at 1.
    #[must_use]
    pub fn new() -> LockManager {
        LockManager::with_last_token(0)
    }

    /// A lock manager whose tokens start after `last_token`, for one that takes the place of another:
    /// fencing tokens must not run backwards.
    ///
    /// # Panics
    /// If `last_token` is 2⁶² or more; that many tokens are never given out.
    #[must_use]
    pub fn with_last_token(last_token: u64) -> LockManager {
        assert!(last_token < 1 << 62, "the last token must be below 2^62");
        LockManager {
            table: Arc::new(Table::new(last_token + 1)),
        }
    }

    /// Queues for every resource at once and returns without waiting.
    ///
    /// The request is granted as a whole, when no earlier conflicting request is outstanding;
    /// conflicting requests are granted in the order of their tokens. Resources of one set never
    /// conflict with one another.
    ///
    /// Cost: O(resources × log outstanding), plus a search for each ancestor that other requests lie
    /// before in the order of paths, if anything was ever locked at its depth; independent of how many requests it queues behind and how many readers it joins. Memory: about 250 bytes for each resource while
    /// the request is outstanding, and about 100 more while it waits.
    ///
    /// # Errors
    /// [`LockError::NoResources`] for an empty set, [`LockError::Closed`] after
    /// [`close`](LockManager::close), and an error for each limit
    /// ([`MAX_RESOURCES`](crate::MAX_RESOURCES), [`MAX_DEPTH`](crate::MAX_DEPTH),
    /// [`MAX_PATH_BYTES`](crate::MAX_PATH_BYTES)). Nothing is queued then.
    ///
    /// # Examples
    /// ```
    /// use locktopus_engine::{LockManager, Resource};
    ///
    /// let locks = LockManager::new();
    /// let first = locks.lock([Resource::read(["a"])])?;
    /// let second = locks.lock([Resource::write(["a", "b"])])?;
    /// assert!(first.is_acquired() && !second.is_acquired());
    /// first.release();
    /// assert!(second.is_acquired());
    /// # Ok::<(), locktopus_engine::LockError>(())
    /// ```
    pub fn lock(&self, resources: impl IntoIterator<Item = Resource>) -> Result<Lock, LockError> {
        self.enter(ResourceSet::collect(resources)?)
    }

    /// Locks the resources if that is possible at once; otherwise leaves nothing behind.
    ///
    /// It never overtakes: an earlier request that only waits is reason enough for `None`. If two
    /// callers try for conflicting resources at the same moment, one of them may get `None` because
    /// of the other although that one gets `None` as well, because of a third.
    ///
    /// Cost: as [`lock`](LockManager::lock), and one look more; nothing is queued if it fails.
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn try_lock(
        &self,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<Option<Lock>, LockError> {
        let resources = ResourceSet::collect(resources)?;
        if self.table.clock.now() & crate::clock::CLOSED != 0 {
            return Err(LockError::Closed);
        }
        if !self.table.is_free(&resources) {
            return Ok(None);
        }
        let lock = self.enter(resources)?;
        Ok(lock.is_acquired().then_some(lock))
    }

    fn enter(&self, resources: ResourceSet) -> Result<Lock, LockError> {
        let (request, wakes) = self.table.enter(resources)?;
        let lock = Lock::new(Arc::clone(&self.table), request);
        wakes.wake();
        Ok(lock)
    }

    /// How much is locked and waited for. Cost: constant.
    ///
    /// Exact while no other thread is in a call to this lock manager. Otherwise each figure may be
    /// off by the requests that are entering or leaving.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.table.stats()
    }

    /// Who holds, who waits, and why: the outstanding requests, ordered by mode and path of their
    /// first resource, writes before reads.
    ///
    /// Not a snapshot: a request that is outstanding throughout is listed once; one that comes or
    /// goes meanwhile may be missing. Nothing is locked, so it may be read as slowly as one likes.
    /// Cost: O(log outstanding) a step, and one more for each entry that is not a request's first.
    pub fn requests(&self) -> impl Iterator<Item = RequestInfo> + use<> {
        Requests {
            table: Arc::clone(&self.table),
            place: Some((Mode::Write, None)),
        }
    }

    /// Refuses new requests from now on, in all clones. Outstanding ones go on: they are granted in
    /// their turn, and released as ever.
    pub fn close(&self) {
        self.table.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.table.closed.has_happened()
    }

    /// Waits until the lock manager was closed and nothing is outstanding.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped; call it again.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let table = Arc::clone(&self.table);
        async move {
            Happened::new(&table.closed).await;
            Last::enter(Arc::clone(&table)).acquired().await;
        }
    }
}

impl Default for LockManager {
    fn default() -> LockManager {
        LockManager::new()
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

struct Requests {
    table: Arc<Table>,
    /// `None` at the end.
    place: Option<(Mode, Option<Key>)>,
}

impl Iterator for Requests {
    type Item = RequestInfo;

    fn next(&mut self) -> Option<RequestInfo> {
        self.table.entries.next_listed(&mut self.place)
    }
}
