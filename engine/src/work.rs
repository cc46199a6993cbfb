//! Operations in steps: [`Work`], the rest of an operation, and [`Entering`], a request that enters.
//!
//! ```text
//!   Entering ── insert entries ── publish ── walk ──► Pending, and the Work for others that it met
//!
//!   Work of a narrowed lock ── insert entries of the new request ──┐
//!                                                                  ▼
//!   Work ── remove entries ── set `released` ──► backlog: chains ── walks ── wake-ups ── purges ── memory
//!              not has_left                         has_left                                     is_done
//! ```

use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::error::LockError;
use crate::lock::Pending;
use crate::narrow::Narrowing;
use crate::request::Request;
use crate::resource::{Requested, Resource};
use crate::reuse::{Held, Home, Owner, Renewed, Tickets};
use crate::sync::{Arc, pin};
use crate::table::Entry;
use crate::waiter::finish;
use std::borrow::Borrow;
use std::fmt;
use std::mem;

/// The rest of an operation, to be done in steps of bounded length.
///
/// Made by [`Lock::release_in_steps`](crate::Lock::release_in_steps),
/// [`Lock::narrow_in_steps`](crate::Lock::narrow_in_steps), [`Pending::withdraw_in_steps`](crate::Pending::withdraw_in_steps),
/// [`LockManager::close_in_steps`](crate::LockManager::close_in_steps) and [`Entering`]. A release grants the
/// requests that waited only for it, and it goes on with the walks of those that wait for others as well. Many
/// requests of deep paths behind one lock are seconds of work. An async task that must not take that long does a step,
/// lets other tasks run, and does the next step.
///
/// Dropping a `Work` completes it at once.
///
/// # Between the steps
/// All guarantees of the lock manager hold, with one exception. A request that the `Work` has not reached yet still
/// waits: it keeps its place in line and can be withdrawn, and it is granted later than it could be, at the latest at
/// the end of the `Work`. It is never granted earlier than it may be. So a `Work` that is kept without stepping it
/// delays the requests in it. A `Work` that is leaked, as by [`mem::forget`], strands them: they wait until they
/// are withdrawn.
///
/// The order in which several `Work`s take their steps does not matter, and they may belong to several threads.
///
/// # Panics
/// If a waker panics, the panic continues out of the step, or out of the drop. The rest stays in the `Work`, and the
/// next step goes on behind that waker.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let writer = locks.blocking_lock([Resource::write(["a"])])?;
/// let reader = locks.enqueue([Resource::read(["a", "b"])])?;
/// let mut work = writer.release_in_steps();
/// while !work.step(100) {
///     // … at most about 100 µs have passed; other tasks may run …
/// }
/// assert!(reader.is_acquired());
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
#[must_use = "dropping a `Work` completes it at once"]
pub struct Work(Option<Left>);

/// What is left to do.
struct Left {
    space: Home,
    own: Own,
    backlog: Backlog,
}

/// What is left to do for the request itself.
enum Own {
    /// The request ends. It may rest instead of leaving.
    Ends(Held),
    Narrows(Narrowing),
    /// The request leaves. The number is that of its entries that are still in the table.
    Leaves(Arc<Request>, usize),
    HasLeft,
}

impl Work {
    pub(crate) const DONE: Work = Work(None);

    /// The work of a request that ends.
    pub(crate) fn ending(space: Home, held: Held) -> Work {
        Work(Some(Left::new(space, Own::Ends(held))))
    }

    /// The work of a request that has not entered, and whose first `inserted` entries are in the table.
    pub(crate) fn leaving(space: Home, request: Arc<Request>, inserted: usize) -> Work {
        Work(Some(Left::new(space, Own::Leaves(request, inserted))))
    }

    pub(crate) fn narrowing(space: Home, narrowing: Narrowing) -> Work {
        Work(Some(Left::new(space, Own::Narrows(narrowing))))
    }

    pub(crate) fn of(space: Home, backlog: Backlog) -> Work {
        let left = |backlog| Left {
            backlog,
            ..Left::new(space, Own::HasLeft)
        };
        Work((!backlog.is_empty()).then(|| left(backlog)))
    }

    /// Does a part of the work. Returns whether all is done.
    ///
    /// `budget` is the length of the step in units of about one microsecond. A step does at least one part of the
    /// work, even with a budget of 0, and ends with the part that exceeds the budget. A part is, for example, the
    /// search of one place in the table; the longest ones are about 50 units, where memory is reclaimed. The wake-ups
    /// of all requests that a step has granted belong to it.
    ///
    /// Cost of a step, besides its parts: constant.
    pub fn step(&mut self, budget: usize) -> bool {
        if let Some(left) = &mut self.0
            && left.step(&mut Budget::new(budget))
        {
            self.0 = None;
        }
        self.is_done()
    }

    /// Whether the request that was released or withdrawn, or the old request of a narrowed lock, has left the table.
    /// What remains is the work for others.
    #[must_use]
    pub fn has_left(&self) -> bool {
        (self.0.as_ref()).is_none_or(|left| matches!(left.own, Own::HasLeft))
    }

    /// Whether all is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

impl Left {
    fn new(space: Home, own: Own) -> Left {
        Left {
            space,
            own,
            backlog: Backlog::default(),
        }
    }

    /// Does a part; `true` if nothing is left.
    fn step(&mut self, budget: &mut Budget) -> bool {
        self.own = match mem::replace(&mut self.own, Own::HasLeft) {
            Own::Ends(held) => match self.space.try_rest(held) {
                None => {
                    // Perhaps it has driven out another one, of few resources.
                    budget.search(0);
                    Own::HasLeft
                }
                Some(request) => {
                    let inserted = request.resources.len();
                    Own::Leaves(request, inserted)
                }
            },
            own => own,
        };
        let guard = pin();
        if let Own::Narrows(narrowing) = &mut self.own {
            let Some((request, inserted)) = narrowing.step(&self.space, budget, &guard) else {
                return false;
            };
            self.own = Own::Leaves(request, inserted);
        }
        if let Own::Leaves(request, inserted) = &mut self.own {
            if budget.is_spent()
                || !(self.space).leave_in_part(request, inserted, &mut self.backlog, budget, &guard)
            {
                return false;
            }
            self.own = Own::HasLeft;
        }
        self.space.serve(&mut self.backlog, budget, guard);
        self.backlog.is_empty()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(left) = &mut self.0 {
            finish(|| left.step(&mut Budget::unlimited()));
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("has_left", &self.has_left())
            .field("is_done", &self.is_done())
            .finish()
    }
}

/// A request that enters the lock table in steps, made by
/// [`LockManager::enqueue_in_steps`](crate::LockManager::enqueue_in_steps).
///
/// It takes its place in line during one of its steps, once all its resources are in the table. Before, it delays no
/// other request. Dropping it earlier leaves nothing behind: it takes the request out again at once;
/// [`withdraw_in_steps`](Entering::withdraw_in_steps) does so in steps.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let accounts = (0..1000).map(|i| Resource::write(["accounts".to_owned(), i.to_string()]));
/// let mut entering = locks.enqueue_in_steps(accounts)?;
/// let (pending, work) = loop {
///     // A step of about 100 µs.
///     if let Some(entered) = entering.step(100) {
///         break entered?;
///     }
/// };
/// assert!(pending.is_acquired() && work.is_done());
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
#[must_use = "dropping an `Entering` withdraws the request"]
pub struct Entering(State);

enum State {
    /// A request that rests, and that was alone when it was found.
    Again(Home, Box<Owner>),
    Enters(Home, Entry),
    /// The lock manager was closed meanwhile, so the request leaves again.
    Refused(Work),
    Ended,
}

impl Entering {
    pub(crate) fn new<R: Borrow<Resource> + Into<Resource>>(
        space: Home,
        requested: Requested<R>,
    ) -> Result<Entering, LockError> {
        space.next_ticket()?;
        if let Some(owner) = space.find_alone(&requested) {
            return Ok(Entering(State::Again(space, owner)));
        }
        let entry = space.begin(requested.into_set())?;
        Ok(Entering(State::Enters(space, entry)))
    }

    /// Does a part of the entering. `None` if there is more to do.
    ///
    /// At the end it returns the request, which was granted or stands in line behind the first request that it has
    /// to wait for; and the work for other requests, which is rarely any: when it met a request that was ending at
    /// this moment.
    ///
    /// `budget` is as for [`Work::step`].
    ///
    /// # Errors
    /// [`LockError::Closed`] if the lock manager was closed before the request had its place in line. By then
    /// nothing is left of it.
    ///
    /// # Panics
    /// If an earlier step has returned the result.
    pub fn step(&mut self, budget: usize) -> Option<Result<(Pending, Work), LockError>> {
        match &mut self.0 {
            State::Again(..) => {
                let State::Again(space, mut owner) = mem::replace(&mut self.0, State::Ended) else {
                    unreachable!("just matched");
                };
                // With a drawn ticket it is not overtaken.
                match space.renew(&mut owner, Tickets::Drawn) {
                    Ok(Renewed::Alone) => {
                        let pending = Pending::of(space, Held::Again(owner));
                        Some(Ok((pending, Work::DONE)))
                    }
                    // An insertion came between. The request has its place in line, and walks in steps.
                    Ok(Renewed::Walks | Renewed::Overtaken) => {
                        let request = Arc::clone(&owner.request);
                        space.forget(Held::Again(owner));
                        self.0 = State::Enters(space, Entry::walks(request));
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
            State::Enters(space, entry) => {
                let mut backlog = Backlog::default();
                let budget = &mut Budget::new(budget);
                let entered = space.enter_in_part(entry, None, &mut backlog, budget, &pin())?;
                let State::Enters(space, entry) = mem::replace(&mut self.0, State::Ended) else {
                    unreachable!("just matched");
                };
                match entered {
                    Ok(()) => {
                        let held = Held::New(entry.request);
                        let pending = Pending::of(space.clone(), held);
                        Some(Ok((pending, Work::of(space, backlog))))
                    }
                    Err(_) => {
                        self.0 = State::Refused(entry.leave_in_steps(space));
                        None
                    }
                }
            }
            State::Refused(work) => {
                let is_done = work.step(budget);
                is_done.then(|| {
                    self.0 = State::Ended;
                    Err(LockError::Closed)
                })
            }
            State::Ended => panic!("an `Entering` was used again after it had returned its result"),
        }
    }

    /// Withdraws the request. Dropping it does the same at once.
    pub fn withdraw_in_steps(mut self) -> Work {
        match mem::replace(&mut self.0, State::Ended) {
            State::Enters(space, entry) => entry.leave_in_steps(space),
            State::Refused(work) => work,
            State::Again(space, owner) => {
                space.put_back(owner);
                Work::DONE
            }
            State::Ended => Work::DONE,
        }
    }
}

impl Entry {
    fn leave_in_steps(self, space: Home) -> Work {
        Work::leaving(space, self.request, self.inserted)
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        match mem::replace(&mut self.0, State::Ended) {
            State::Enters(space, entry) => drop(entry.leave_in_steps(space)),
            State::Again(space, owner) => space.put_back(owner),
            State::Refused(_) | State::Ended => {}
        }
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
