//! Operations in steps: [`Work`], the rest of an operation, and [`Entering`], a request that enters.
//!
//! ```text
//!   Entering ── insert entries ── publish ── walk ──► Pending, and the Work for others that it met
//!
//!   Work ── remove entries ── set `released` ──► backlog: chains ── walks ── wake-ups ── purges ── memory
//!              not has_left                         has_left                                     is_done
//! ```

use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::error::LockError;
use crate::lock::Pending;
use crate::request::Request;
use crate::resource::ResourceSet;
use crate::sync::{Arc, pin};
use crate::table::{Entry, Table};
use crate::waiter::finish;
use std::fmt;
use std::mem;

/// The rest of an operation, to be done in steps of bounded length.
///
/// Made by [`Lock::release_in_steps`](crate::Lock::release_in_steps),
/// [`Pending::withdraw_in_steps`](crate::Pending::withdraw_in_steps),
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
    table: Arc<Table>,
    /// The request that leaves, and the number of its entries that are still in the table.
    leaving: Option<(Arc<Request>, usize)>,
    backlog: Backlog,
}

impl Work {
    pub(crate) const DONE: Work = Work(None);

    /// The work of a request that leaves, and whose first `inserted` entries are in the table.
    pub(crate) fn leaving(table: Arc<Table>, request: Arc<Request>, inserted: usize) -> Work {
        Work(Some(Left {
            table,
            leaving: Some((request, inserted)),
            backlog: Backlog::default(),
        }))
    }

    pub(crate) fn of(table: Arc<Table>, backlog: Backlog) -> Work {
        let leaving = None;
        Work((!backlog.is_empty()).then_some(Left {
            table,
            leaving,
            backlog,
        }))
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

    /// Whether the request that was released or withdrawn has left the table. What remains is the work for others.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.0.as_ref().is_none_or(|left| left.leaving.is_none())
    }

    /// Whether all is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

impl Left {
    /// Does a part; `true` if nothing is left.
    fn step(&mut self, budget: &mut Budget) -> bool {
        let guard = pin();
        if let Some((request, inserted)) = &mut self.leaving {
            if !(self.table).leave_in_part(request, inserted, &mut self.backlog, budget, &guard) {
                return false;
            }
            self.leaving = None;
        }
        self.table.serve(&mut self.backlog, budget, guard);
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
    Enters(Arc<Table>, Entry),
    /// The lock manager was closed meanwhile, so the request leaves again.
    Refused(Work),
    Ended,
}

impl Entering {
    pub(crate) fn new(table: Arc<Table>, resources: ResourceSet) -> Result<Entering, LockError> {
        let entry = table.begin(resources)?;
        Ok(Entering(State::Enters(table, entry)))
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
    /// [`LockError::Closed`] if the lock manager was closed before the request had its place in line. By then nothing is
    /// left of it.
    ///
    /// # Panics
    /// If an earlier step has returned the result.
    pub fn step(&mut self, budget: usize) -> Option<Result<(Pending, Work), LockError>> {
        match &mut self.0 {
            State::Enters(table, entry) => {
                let mut backlog = Backlog::default();
                let budget = &mut Budget::new(budget);
                let entered = table.enter_in_part(entry, &mut backlog, budget, &pin())?;
                let State::Enters(table, entry) = mem::replace(&mut self.0, State::Ended) else {
                    unreachable!("just matched");
                };
                match entered {
                    Ok(()) => {
                        let pending = Pending::of(Arc::clone(&table), entry.request);
                        Some(Ok((pending, Work::of(table, backlog))))
                    }
                    Err(_) => {
                        self.0 = State::Refused(entry.leave_in_steps(table));
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
            State::Enters(table, entry) => entry.leave_in_steps(table),
            State::Refused(work) => work,
            State::Ended => Work::DONE,
        }
    }
}

impl Entry {
    fn leave_in_steps(self, table: Arc<Table>) -> Work {
        Work::leaving(table, self.request, self.inserted)
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if let State::Enters(table, entry) = mem::replace(&mut self.0, State::Ended) {
            drop(entry.leave_in_steps(table));
        }
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").finish_non_exhaustive()
    }
}
