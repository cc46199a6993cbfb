//! [`Pending`]: a request with a place in line.

use super::{Entered, Lock};
use crate::backlog::Backlog;
use crate::blockers::Blockers;
use crate::error::LockError;
use crate::request::Request;
use crate::resource::{Requested, Resource, ResourceSet};
use crate::reuse::{Held, Home, Owner, Renewed, Tickets};
use crate::sync::{Arc, pin};
use crate::waiter::{Subscription, block_on};
use crate::work::Work;
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

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
        requested: Requested<R>,
    ) -> Result<Pending, LockError> {
        match space.find(&requested) {
            Some(owner) => Pending::again(space, owner, Tickets::Any),
            None => Pending::enter_new(space, requested.into_set()),
        }
    }

    /// Takes a place in line, if the set looks free.
    pub(crate) fn try_enter<R: Borrow<Resource> + Into<Resource>>(
        space: &Home,
        requested: Requested<R>,
    ) -> Result<Option<Pending>, LockError> {
        let Some(owner) = space.find(&requested) else {
            let resources = requested.into_set();
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
    pub(super) fn renewed(
        space: Home,
        mut owner: Box<Owner>,
        renewed: Renewed,
    ) -> Result<Pending, LockError> {
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
