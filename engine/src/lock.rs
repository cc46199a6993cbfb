//! The handles of one request: [`Pending`] while it waits in line, [`Lock`] once it is granted.

use crate::backlog::Backlog;
use crate::blockers::Blockers;
use crate::error::{LockError, NarrowError};
use crate::narrow::Narrowing;
use crate::request::Request;
use crate::resource::{Resource, ResourceSet, Wanted};
use crate::reuse::{Held, Home, Owner, Renewed, Tickets};
use crate::sync::{Arc, pin};
use crate::waiter::{Subscription, block_on};
use crate::wanted;
use crate::work::Work;
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

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
        wanted: Wanted<R>,
    ) -> Result<Lock, LockError> {
        let Some(mut owner) = space.find(&wanted) else {
            return Ok(Pending::enter_new(space.clone(), wanted.into_set())?.wait());
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
    pub fn wanted(&self) -> wanted::Wanted {
        wanted::Wanted::new(self.0.space.clone(), self.0.request())
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

/// A request with a place in line, made by [`LockManager::enqueue`](crate::LockManager::enqueue).
///
/// It becomes a [`Lock`] once it is granted: in async code by awaiting it, in blocking code by
/// [`wait`](Pending::wait) or [`wait_timeout`](Pending::wait_timeout), and without waiting by
/// [`try_acquired`](Pending::try_acquired).
///
/// Dropping a `Pending` withdraws the request. If the request was granted already, dropping the `Pending`
/// releases the lock: a granted request holds its resources, converted or not.
///
/// # A `Pending` is not a lock
/// Holding a `Pending` says nothing about holding the resources. This compiles, and is wrong:
///
/// ```
/// # use locktopus_engine::{LockError, LockManager, Resource};
/// # fn work() {}
/// # fn wrong(locks: LockManager) -> Result<(), LockError> {
/// let _pending = locks.enqueue([Resource::write(["account"])])?; // in line, perhaps not granted
/// work(); // WRONG: another thread may hold the account
/// # Ok(())
/// # }
/// ```
///
/// Ask for the [`Lock`]:
///
/// ```
/// # use locktopus_engine::{LockError, LockManager, Resource};
/// # fn work() {}
/// # fn right(locks: LockManager) -> Result<(), LockError> {
/// let pending = locks.enqueue([Resource::write(["account"])])?;
/// let _lock = pending.wait();
/// work();
/// # Ok(())
/// # }
/// ```
///
/// # As a future
/// A `Pending` resolves to its [`Lock`]. It is [`Unpin`], works in any runtime, and needs no timer and no
/// reactor. It remembers one waker: the waker of the latest poll.
///
/// After it has resolved by `&mut pending`, polling it again panics, and so do the methods that return
/// the lock. [`token`](Pending::token), [`resources`](Pending::resources) and
/// [`is_acquired`](Pending::is_acquired) still answer, and dropping it does nothing.
///
/// # Cancel safety
/// Polling by reference keeps the place in line: if `&mut pending` is one branch of a `select!` and
/// another branch wins, the request stays in line. Dropping the `Pending` itself gives up the place.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let first = locks.enqueue([Resource::read(["a"])])?;
/// let second = locks.enqueue([Resource::write(["a", "b"])])?;
/// assert!(first.is_acquired() && !second.is_acquired());
/// first.wait().release();
/// let second = second.try_acquired().expect("nothing else is in line");
/// assert_eq!(second.token(), 2);
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
#[must_use = "dropping a pending request withdraws it"]
pub struct Pending {
    subscription: Subscription,
    state: State,
}

enum State {
    Entered(Entered),
    /// A poll has returned the lock. The request may have another life by now.
    Resolved {
        request: Arc<Request>,
        token: u64,
    },
}

impl Pending {
    /// Takes a place in line.
    #[inline(always)]
    pub(crate) fn enter<R: Borrow<Resource> + Into<Resource>>(
        space: Home,
        wanted: Wanted<R>,
    ) -> Result<Pending, LockError> {
        match space.find(&wanted) {
            Some(owner) => Pending::again(space, owner, Tickets::Any),
            None => Pending::enter_new(space, wanted.into_set()),
        }
    }

    /// As [`Pending::enter`], with a set that was collected before.
    pub(crate) fn enter_set(space: Home, resources: ResourceSet) -> Result<Pending, LockError> {
        match space.find(&resources) {
            Some(owner) => Pending::again(space, owner, Tickets::Any),
            None => Pending::enter_new(space, resources),
        }
    }

    /// Takes a place in line, if the set looks free.
    pub(crate) fn try_enter<R: Borrow<Resource> + Into<Resource>>(
        space: &Home,
        wanted: Wanted<R>,
    ) -> Result<Option<Pending>, LockError> {
        let Some(owner) = space.find(&wanted) else {
            let resources = wanted.into_set();
            let is_free = space.is_free(&resources)?;
            return is_free
                .then(|| Pending::enter_new(space.clone(), resources))
                .transpose();
        };
        let is_free = space.looks_free(&owner);
        if is_free != Ok(true) {
            space.put_back(owner);
            return is_free.map(|_| None);
        }
        Pending::again(space.clone(), owner, Tickets::Drawn).map(Some)
    }

    #[inline]
    pub(crate) fn enter_new(space: Home, resources: ResourceSet) -> Result<Pending, LockError> {
        let (request, backlog) = space.enter(resources)?;
        Ok(Pending::complete(space, Held::New(request), backlog))
    }

    /// Takes a place in line with a request that rests.
    #[inline(always)]
    pub(crate) fn again(
        space: Home,
        mut owner: Box<Owner>,
        tickets: Tickets,
    ) -> Result<Pending, LockError> {
        let renewed = space.renew(&mut owner, tickets)?;
        Pending::renewed(space, owner, renewed)
    }

    #[inline]
    fn renewed(space: Home, mut owner: Box<Owner>, renewed: Renewed) -> Result<Pending, LockError> {
        match renewed {
            Renewed::Alone => Ok(Pending::of(space, Held::Again(owner))),
            Renewed::Walks => {
                let backlog = space.walk_again(&mut owner);
                Ok(Pending::complete(space, Held::Again(owner), backlog))
            }
            Renewed::Overtaken => {
                let resources = owner.request.resources.clone();
                space.leave_for_good(Held::Again(owner));
                Pending::enter_new(space, resources)
            }
        }
    }

    /// Takes the place in line of a token.
    pub(crate) fn restore(
        space: Home,
        token: u64,
        resources: ResourceSet,
    ) -> Result<Pending, LockError> {
        let (request, backlog) = space.restore(token, resources)?;
        Ok(Pending::complete(space, Held::New(request), backlog))
    }

    #[inline(always)]
    fn complete(space: Home, held: Held, backlog: Backlog) -> Pending {
        if backlog.is_empty() {
            return Pending::of(space, held);
        }
        let pending = Pending::of(space.clone(), held);
        // A waker may panic. By now the request has an owner that takes it out of the table.
        space.complete(backlog, pin());
        pending
    }

    /// The handle of a request that has entered.
    #[inline(always)]
    pub(crate) fn of(space: Home, held: Held) -> Pending {
        Pending {
            subscription: Subscription::default(),
            state: State::Entered(Entered::new(space, held)),
        }
    }

    #[inline(always)]
    fn request(&self) -> &Arc<Request> {
        match &self.state {
            State::Entered(entered) => entered.request(),
            State::Resolved { request, .. } => request,
        }
    }

    /// The fencing token that the lock will have; see [`Lock::token`]. It is the place in line.
    #[must_use]
    pub fn token(&self) -> u64 {
        match &self.state {
            State::Entered(entered) => entered.request().ticket(),
            State::Resolved { token, .. } => *token,
        }
    }

    /// The requested resources, ordered by path, without the resources that another one covers.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.request().resources
    }

    /// Whether the request was granted. Once true, it stays true.
    #[must_use]
    #[inline(always)]
    pub fn is_acquired(&self) -> bool {
        match &self.state {
            State::Entered(entered) => entered.request().granted.is_set(),
            State::Resolved { .. } => true,
        }
    }

    /// The outstanding requests that this one waits for, and the one at the root, which holds its lock. There is none
    /// once this one is granted or the lock was returned.
    #[must_use]
    pub fn blockers(&self) -> Blockers {
        let space = match &self.state {
            State::Entered(entered) => Some(entered.space.clone()),
            State::Resolved { .. } => None,
        };
        Blockers::of_request(space, Arc::clone(self.request()))
    }

    /// The lock if the request was granted, or else the request with its place in line.
    ///
    /// # Errors
    /// The `Pending` itself if it still waits.
    ///
    /// # Panics
    /// If a poll has returned the lock already.
    #[inline(always)]
    pub fn try_acquired(self) -> Result<Lock, Pending> {
        if self.is_acquired() {
            Ok(self.into_lock())
        } else {
            Err(self)
        }
    }

    /// Blocks the thread until the request is granted. Spins for some microseconds, then parks.
    ///
    /// In async code await the `Pending` instead: blocking a thread of an async runtime stalls every task
    /// on that thread, perhaps also the task that holds the lock.
    ///
    /// # Panics
    /// If a poll has returned the lock already.
    #[inline(always)]
    pub fn wait(mut self) -> Lock {
        if !self.is_acquired() {
            self.block(None);
        }
        self.into_lock()
    }

    /// Blocks the thread until the request is granted, or until about `timeout` has passed.
    ///
    /// A zero timeout returns the lock if the request was granted already. Do not call this in async
    /// code; see [`wait`](Pending::wait).
    ///
    /// # Errors
    /// The `Pending` itself after the timeout. It has kept its place in line and can wait again.
    ///
    /// # Panics
    /// If a poll has returned the lock already.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Lock, Pending> {
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
        let request = match &self.state {
            State::Entered(entered) => entered.request(),
            State::Resolved { request, .. } => request,
        };
        block_on(&request.granted, &mut self.subscription, deadline);
    }

    /// Withdraws the request, or releases the lock if it was granted. Dropping it does the same.
    ///
    /// From then on the request delays no other request. Cost: as [`Lock::release`].
    pub fn withdraw(self) {}

    /// Withdraws the request, or releases the lock if it was granted, in steps of bounded length.
    ///
    /// Nothing happens before the first step, and the request may still be granted before it has left; that has
    /// no effect. [`Work::has_left`] says when the request delays no other one.
    pub fn withdraw_in_steps(self) -> Work {
        match self.state {
            State::Entered(entered) => entered.end_in_steps(),
            State::Resolved { .. } => Work::DONE,
        }
    }

    /// Only for a request that was granted.
    #[inline(always)]
    fn into_lock(self) -> Lock {
        match self.state {
            State::Entered(entered) => Lock(entered),
            State::Resolved { .. } => already_resolved(),
        }
    }
}

fn already_resolved() -> ! {
    panic!("a `Pending` was used again after it had resolved to its `Lock`")
}

impl Future for Pending {
    type Output = Lock;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lock> {
        let Pending {
            subscription,
            state,
        } = &mut *self;
        let State::Entered(entered) = &*state else {
            already_resolved();
        };
        let request = Arc::clone(entered.request());
        ready!(subscription.poll(&request.granted, context));
        let token = request.ticket();
        match mem::replace(state, State::Resolved { request, token }) {
            State::Entered(entered) => Poll::Ready(Lock(entered)),
            State::Resolved { .. } => already_resolved(),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("token", &self.token())
            .field("acquired", &self.is_acquired())
            .field("resources", &self.resources())
            .finish()
    }
}
