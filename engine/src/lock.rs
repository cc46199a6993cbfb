//! [`Lock`]: a request that is granted, and [`Pending`], while it waits in line.

mod pending;

pub use pending::Pending;

use crate::error::{LockError, NarrowError};
use crate::narrow::Narrowing;
use crate::request::Request;
use crate::resource::{Requested, Resource, ResourceSet};
use crate::reuse::{Held, Home, Renewed, Tickets};
use crate::sync::Arc;
use crate::wanted::Wanted;
use crate::work::Work;
use std::borrow::Borrow;
use std::fmt;

/// A request in the lock table. Dropping it ends the request.
struct Entered {
    space: Home,
    /// `None` once the request ends.
    held: Option<Held>,
}

impl Entered {
    #[inline(always)]
    fn new(space: Home, held: Held) -> Entered {
        let held = Some(held);
        Entered { space, held }
    }

    #[inline]
    fn request(&self) -> &Arc<Request> {
        let held = self.held.as_ref();
        held.expect("only taken when the handle is dropped")
            .request()
    }

    /// Takes back the request of a lock whose narrowing has not come to its ticket (N1).
    #[inline]
    fn settle(&mut self) {
        if let Some(Held::New(request)) = &mut self.held
            && let Some(before) = request.give_up()
        {
            *request = before;
        }
    }

    fn narrow_in_steps(&mut self, resources: ResourceSet) -> Result<Work, NarrowError> {
        let held = &self.request().resources;
        if let Some(resource) = held.first_not_covered(&resources) {
            let resource = resource.clone();
            return Err(NarrowError::NotCovered { resource });
        }
        if **held == *resources {
            return Ok(Work::DONE);
        }
        self.settle();
        let narrowing = Narrowing::new(self.request(), resources);
        let narrowed = Held::New(Arc::clone(narrowing.narrowed()));
        if let Some(old) = self.held.replace(narrowed) {
            self.space.forget(old);
        }
        Ok(Work::narrowing(self.space.clone(), narrowing))
    }

    fn end_in_steps(mut self) -> Work {
        self.settle();
        let space = self.space.clone();
        (self.held.take()).map_or(Work::DONE, |held| Work::ending(space, held))
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        self.settle();
        if let Some(held) = self.held.take() {
            self.space.leave(held);
        }
    }
}

/// A lock on a set of resources. It is held, always; dropping it releases it.
///
/// A thread or task that panics while it holds a lock releases it when the unwinding drops the `Lock`.
/// There is no poisoning: the next holder is granted as after any release.
#[must_use = "dropping a lock releases it"]
pub struct Lock(Entered);

impl Lock {
    /// Takes a place in line, and blocks the thread until the request is granted.
    #[inline(always)]
    pub(crate) fn enter<R: Borrow<Resource> + Into<Resource>>(
        space: &Home,
        requested: Requested<R>,
    ) -> Result<Lock, LockError> {
        let Some(mut owner) = space.find(&requested) else {
            return Ok(Pending::enter_new(space.clone(), requested.into_set())?.wait());
        };
        match space.renew(&mut owner, Tickets::Any)? {
            Renewed::Alone => Ok(Lock(Entered::new(space.clone(), Held::Again(owner)))),
            renewed => Ok(Pending::renewed(space.clone(), owner, renewed)?.wait()),
        }
    }

    /// The fencing token: unique in its lock manager, and larger than the token of every earlier
    /// conflicting lock. Conflicting locks are granted in the order of their tokens.
    ///
    /// Source: Kleppmann, "How to do distributed locking". The store that a lock protects keeps the
    /// largest token that it has seen and refuses smaller ones. This fences off a paused former holder.
    /// Tokens of locks that do not conflict are in no particular order. So a store keeps the largest token of each
    /// resource, and not one for all of them.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.request().token()
    }

    /// The locked resources, ordered by path, without the resources that another one covers.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.0.request().resources
    }

    /// Narrows the lock to a set that it covers: each new path is at or below a locked one, and each write at or below
    /// a locked write. The lock keeps its token, and is held all the time. What the new set no longer covers is
    /// released: later requests that waited only for that are granted before this returns. All others go on waiting, in
    /// the same order.
    ///
    /// A write can become a read, a path can be replaced by several below it, and a resource can be left out. A lock
    /// can be narrowed any number of times. To narrow it to the same set does nothing. There is no way back: a wider
    /// set is a new request, behind all others.
    ///
    /// Cost: as to lock the new set and to [release](Lock::release) the old one.
    ///
    /// # Errors
    /// [`NarrowError::NotCovered`] names the first resource that the lock does not cover. [`NarrowError::BadSet`] is an
    /// empty set or one beyond a limit. After an error the lock is unchanged.
    ///
    /// # Panics
    /// If a waker panics, the panic continues from here. By then the lock is narrowed.
    ///
    /// # Examples
    /// ```
    /// use locktopus_engine::{LockManager, Resource};
    ///
    /// let locks = LockManager::new();
    /// let mut lock = locks.blocking_lock([Resource::write(["shop"])])?;
    /// let report = locks.enqueue([Resource::read(["shop", "orders"])])?;
    /// let update = locks.enqueue([Resource::write(["shop", "stock", "7"])])?;
    /// // … we look at the whole shop, and find that only the stock must change …
    /// lock.narrow([Resource::write(["shop", "stock"]), Resource::read(["shop", "orders"])])?;
    /// assert!(report.is_acquired() && !update.is_acquired());
    /// lock.release();
    /// assert!(update.is_acquired());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn narrow(
        &mut self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<(), NarrowError> {
        self.narrow_in_steps(resources).map(drop)
    }

    /// Narrows the lock in steps of bounded length.
    ///
    /// The set is collected and compared at the call. From then on the lock answers with the new
    /// [resources](Lock::resources), and what they do not cover may be locked by other requests at any moment.
    /// [`Work::has_left`] says when the rest is released, and the end of the `Work` when the later requests that
    /// waited only for that are granted.
    ///
    /// The lock can be used, narrowed again and released while the `Work` is under way, on any thread. The `Work` is
    /// still to be completed. If it has not inserted the new set yet, then it takes that out again, and the lock leaves
    /// or is narrowed at once with all that it had held. A `Work` that is leaked narrows nothing, or strands
    /// the requests that wait for the rest.
    ///
    /// # Errors
    /// As [`narrow`](Lock::narrow).
    pub fn narrow_in_steps(
        &mut self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Work, NarrowError> {
        self.0.narrow_in_steps(ResourceSet::collect(resources)?)
    }

    /// Tells when other requests wait for this lock, and at once if one does: see [`Wanted`](crate::Wanted).
    ///
    /// Cost: O(log outstanding); if a request has waited for the lock before, also as [`is_wanted`](Lock::is_wanted).
    pub fn wanted(&self) -> Wanted {
        Wanted::new(self.0.space.clone(), self.0.request())
    }

    /// Whether a conflicting request waits now, for this lock or for another request that waits for this lock.
    ///
    /// Cost: as one walk of [`lock`](crate::LockManager::lock), which ends at the first request that waits.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.space.is_waited_for(self.0.request())
    }

    /// Whether the request had rested before. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn is_again(&self) -> bool {
        matches!(self.0.held, Some(Held::Again(_)))
    }

    /// Releases the lock. Dropping it does the same.
    ///
    /// Later requests that waited only for this one are granted before this returns.
    ///
    /// Cost: O(resources × log outstanding) for the release itself. The releasing thread also pays for
    /// the requests that waited for this one: about 0.1 µs for each that is granted, about 0.5 µs for
    /// each that goes on to wait for another, and one step for each later request that it passes.
    pub fn release(self) {}

    /// Releases the lock in steps of bounded length.
    ///
    /// Nothing happens before the first step. [`Work::has_left`] says when the lock is released, and the end of the
    /// `Work` when the later requests that waited only for this one are granted.
    pub fn release_in_steps(self) -> Work {
        self.0.end_in_steps()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("token", &self.token())
            .field("resources", &self.resources())
            .finish()
    }
}
