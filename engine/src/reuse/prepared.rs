//! Prepared sets: requests that rest outside of the places, for one owner each.

use super::{Home, Owner, Renewed, Tickets};
use crate::backlog::Backlog;
use crate::error::LockError;
use crate::request::Request;
use crate::resource::{Resource, ResourceSet};
use crate::sync::{Arc, pin};
use crate::waiter::{Subscription, block_on};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A set of resources that is locked again and again, made by [`LockManager::prepare`](crate::LockManager::prepare).
///
/// It is the fastest way to lock. Between two locks the request of the set rests in the lock table. If nothing else was
/// locked near its resources meanwhile, the next lock allocates nothing, searches nothing, and costs the same beside any
/// number of held locks. Otherwise it looks at the table, as any lock does. A request that had to wait, or that another
/// one waited for, leaves the table at its end, and the next lock enters a new one.
///
/// Each thread or task prepares a set of its own: the guards borrow it. All [guarantees](crate#guarantees) hold for
/// its locks, as for any other.
///
/// # Weaknesses
/// A set that rests is in the way of other requests near its resources: their walks step over it. Many prepared sets of
/// one path make each other walk at each lock.
///
/// A guard that is leaked, as by [`mem::forget`], keeps its lock until the next use of the set, or its drop.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let mut transfer = locks.prepare([Resource::write(["accounts", "1"]), Resource::write(["accounts", "2"])])?;
/// for _ in 0..10 {
///     let lock = transfer.blocking_lock()?; // or `transfer.lock().await?`
///     // … we hold both accounts …
///     lock.release();
/// }
/// assert_eq!(locks.stats().acquired, 0);
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
pub struct PreparedSet {
    space: Home,
    resources: ResourceSet,
    /// `None` before the first lock, and after a request that could not rest.
    owner: Option<Owner>,
    /// Whether the request is in the list of those that have rested.
    is_listed: bool,
}

impl PreparedSet {
    pub(crate) fn new(space: Home, resources: ResourceSet) -> PreparedSet {
        PreparedSet {
            space,
            resources,
            owner: None,
            is_listed: false,
        }
    }

    /// The prepared resources, ordered by path, without the resources that another one covers.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Locks the set, in async code. Fairness and cancel safety: as [`LockManager::lock`](crate::LockManager::lock).
    ///
    /// # Errors
    /// [`LockError::Closed`] after [`LockManager::close`](crate::LockManager::close).
    pub async fn lock(&mut self) -> Result<PreparedLock<'_>, LockError> {
        Ok(self.enqueue()?.await)
    }

    /// Locks the set, and blocks the thread until it is granted; see
    /// [`LockManager::blocking_lock`](crate::LockManager::blocking_lock).
    ///
    /// # Errors
    /// As [`lock`](PreparedSet::lock).
    #[inline(always)]
    pub fn blocking_lock(&mut self) -> Result<PreparedLock<'_>, LockError> {
        Ok(self.enqueue()?.wait())
    }

    /// Locks the set if that is possible at once; see [`LockManager::try_lock`](crate::LockManager::try_lock).
    ///
    /// # Errors
    /// As [`lock`](PreparedSet::lock).
    pub fn try_lock(&mut self) -> Result<Option<PreparedLock<'_>>, LockError> {
        self.end();
        let is_free = match &self.owner {
            Some(owner) => self.space.looks_free(owner)?,
            None => self.space.is_free(&self.resources)?,
        };
        if !is_free {
            return Ok(None);
        }
        Ok(self.enqueue_with(Tickets::Drawn)?.try_acquired().ok())
    }

    /// Takes a place in line, and returns at once; see [`LockManager::enqueue`](crate::LockManager::enqueue).
    ///
    /// # Errors
    /// As [`lock`](PreparedSet::lock).
    #[inline(always)]
    pub fn enqueue(&mut self) -> Result<PreparedPending<'_>, LockError> {
        self.enqueue_with(Tickets::Any)
    }

    #[inline(always)]
    fn enqueue_with(&mut self, tickets: Tickets) -> Result<PreparedPending<'_>, LockError> {
        // A guard may have been leaked.
        self.end();
        let backlog = self.enter(tickets)?;
        let space = (!backlog.is_empty()).then(|| self.space.clone());
        let pending = PreparedPending {
            subscription: Subscription::default(),
            set: Some(self),
        };
        if let Some(space) = space {
            // A waker may panic. By now the request has an owner that ends it.
            space.complete(backlog, pin());
        }
        Ok(pending)
    }

    #[inline(always)]
    fn enter(&mut self, tickets: Tickets) -> Result<Backlog, LockError> {
        if let Some(owner) = &mut self.owner {
            match self.space.renew(owner, tickets) {
                Ok(Renewed::Alone) => return Ok(Backlog::default()),
                Ok(Renewed::Walks) => return Ok(self.space.walk_again(owner)),
                Ok(Renewed::Overtaken) => {
                    if let Some(request) = self.forget() {
                        self.space.table.leave(&request);
                    }
                }
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
        let (request, backlog) = self.space.enter(self.resources.clone())?;
        self.owner = Some(Owner::new(request, self.space.fewest_drawn));
        Ok(backlog)
    }

    fn request(&self) -> Option<&Arc<Request>> {
        self.owner.as_ref().map(|owner| &owner.request)
    }

    /// Ends the current life of the request, if there is one.
    #[inline(always)]
    fn end(&mut self) {
        let Some(owner) = &self.owner else {
            return;
        };
        let request = &owner.request;
        if request.rests() {
            return;
        }
        if !(request.may_rest() && request.rest()) {
            if let Some(request) = self.forget() {
                self.space.table.leave(&request);
            }
        } else if !self.is_listed {
            self.space.add_prepared(request);
            self.is_listed = true;
        }
    }

    /// Gives up the request, which leaves or has left.
    #[cold]
    fn forget(&mut self) -> Option<Arc<Request>> {
        let owner = self.owner.take()?;
        if mem::take(&mut self.is_listed) {
            self.space.remove_prepared(&owner.request);
        }
        Some(owner.request)
    }
}

impl Drop for PreparedSet {
    fn drop(&mut self) {
        self.end();
        if let Some(request) = self.forget() {
            self.space.remove(&request);
        }
    }
}

impl fmt::Debug for PreparedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedSet")
            .field("resources", &self.resources())
            .finish_non_exhaustive()
    }
}

/// A lock on a [`PreparedSet`]. It is held, always; dropping it releases it. It is to its set what a
/// [`Lock`](crate::Lock) is to the lock manager.
#[must_use = "dropping a lock releases it"]
pub struct PreparedLock<'a> {
    set: &'a mut PreparedSet,
    token: u64,
}

impl PreparedLock<'_> {
    /// The fencing token; see [`Lock::token`](crate::Lock::token).
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The locked resources; see [`Lock::resources`](crate::Lock::resources).
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        self.set.resources()
    }

    /// Whether the request had rested before. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn is_again(&self) -> bool {
        self.set.is_listed
    }

    /// Releases the lock. Dropping it does the same. See [`Lock::release`](crate::Lock::release).
    pub fn release(self) {}
}

impl Drop for PreparedLock<'_> {
    #[inline]
    fn drop(&mut self) {
        self.set.end();
    }
}

impl fmt::Debug for PreparedLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedLock")
            .field("token", &self.token())
            .field("resources", &self.resources())
            .finish()
    }
}

/// A request for a [`PreparedSet`] with a place in line, made by [`PreparedSet::enqueue`]. It is to its set what a
/// [`Pending`](crate::Pending) is to the lock manager, with the same cancel safety: it becomes a [`PreparedLock`] when
/// it is awaited or waited for, and dropping it withdraws the request.
#[must_use = "dropping a pending request withdraws it"]
pub struct PreparedPending<'a> {
    subscription: Subscription,
    /// `None` once a poll has returned the lock.
    set: Option<&'a mut PreparedSet>,
}

impl<'a> PreparedPending<'a> {
    #[inline(always)]
    fn request(&self) -> &Arc<Request> {
        let request = self.set.as_ref().and_then(|set| set.request());
        request.unwrap_or_else(|| already_resolved())
    }

    /// The fencing token that the lock will have; see [`Lock::token`](crate::Lock::token).
    ///
    /// # Panics
    /// If a poll has returned the lock already, as all methods do.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.request().ticket()
    }

    /// Whether the request was granted. Once true, it stays true.
    #[must_use]
    #[inline(always)]
    pub fn is_acquired(&self) -> bool {
        self.request().granted.is_set()
    }

    /// The lock if the request was granted, or else the request with its place in line.
    ///
    /// # Errors
    /// The `PreparedPending` itself if it still waits.
    #[inline]
    pub fn try_acquired(self) -> Result<PreparedLock<'a>, PreparedPending<'a>> {
        if self.is_acquired() {
            Ok(self.into_lock())
        } else {
            Err(self)
        }
    }

    /// Blocks the thread until the request is granted; see [`Pending::wait`](crate::Pending::wait).
    #[inline(always)]
    pub fn wait(mut self) -> PreparedLock<'a> {
        if !self.is_acquired() {
            self.block(None);
        }
        self.into_lock()
    }

    /// Blocks the thread until the request is granted, or until about `timeout` has passed; see
    /// [`Pending::wait_timeout`](crate::Pending::wait_timeout).
    ///
    /// # Errors
    /// The `PreparedPending` itself after the timeout. It has kept its place in line and can wait again.
    pub fn wait_timeout(
        mut self,
        timeout: Duration,
    ) -> Result<PreparedLock<'a>, PreparedPending<'a>> {
        if !self.is_acquired() {
            // `None`: the deadline lies beyond the end of the clock.
            let deadline = Instant::now().checked_add(timeout);
            self.block(deadline);
        }
        self.try_acquired()
    }

    #[cold]
    #[inline(never)]
    fn block(&mut self, deadline: Option<Instant>) {
        let request = Arc::clone(self.request());
        block_on(&request.granted, &mut self.subscription, deadline);
    }

    /// Withdraws the request, or releases the lock if it was granted. Dropping it does the same.
    pub fn withdraw(self) {}

    /// Only for a request that was granted.
    #[inline(always)]
    fn into_lock(mut self) -> PreparedLock<'a> {
        let token = self.token();
        match self.set.take() {
            Some(set) => PreparedLock { set, token },
            None => already_resolved(),
        }
    }
}

#[cold]
fn already_resolved() -> ! {
    panic!("a `PreparedPending` was used again after it had resolved to its `PreparedLock`")
}

impl<'a> Future for PreparedPending<'a> {
    type Output = PreparedLock<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PreparedLock<'a>> {
        let request = Arc::clone(self.request());
        ready!(self.subscription.poll(&request.granted, context));
        let token = request.ticket();
        match self.set.take() {
            Some(set) => Poll::Ready(PreparedLock { set, token }),
            None => already_resolved(),
        }
    }
}

impl Drop for PreparedPending<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(set) = &mut self.set {
            set.end();
        }
    }
}

impl fmt::Debug for PreparedPending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set.as_ref();
        f.debug_struct("PreparedPending")
            .field("acquired", &set.is_none_or(|_| self.is_acquired()))
            .field("resources", &set.map(|set| set.resources()))
            .finish()
    }
}
