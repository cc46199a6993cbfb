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
use crate::resource::{Resource, Wanted};
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
        wanted: Wanted<R>,
    ) -> Result<Entering, LockError> {
        space.next_ticket()?;
        if let Some(owner) = space.find_alone(&wanted) {
            return Ok(Entering(State::Again(space, owner)));
        }
        let entry = space.begin(wanted.into_set())?;
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
mod tests {
    use super::*;
    use crate::budget::SPENT;
    use crate::{LockManager, Resource};

    const BUDGET: usize = 20;
    /// The longest part in these tests, in nanoseconds: an entry is removed and memory reclaimed.
    const LONGEST_PART: u64 = 70_000;

    /// Does all steps. Each spends about its budget, and the count of the steps shows that all is counted.
    fn step_to_the_end(mut step: impl FnMut() -> bool) {
        let before = SPENT.get();
        let mut steps = 0;
        let mut is_done = false;
        while !is_done {
            let before = SPENT.get();
            is_done = step();
            let spent = SPENT.get() - before;
            assert!(
                spent <= BUDGET as u64 * 1000 + LONGEST_PART,
                "a step has spent {spent} ns"
            );
            steps += 1;
        }
        assert!(steps > 5, "{steps} steps for {} ns", SPENT.get() - before);
    }

    fn work_to_the_end(mut work: Work) {
        step_to_the_end(|| work.step(BUDGET));
    }

    fn enter_to_the_end(entering: &mut Entering) {
        // Kept, since dropping it takes the request out again at once.
        let mut entered = None;
        step_to_the_end(|| {
            entered = entering.step(BUDGET);
            entered.is_some()
        });
    }

    fn deep(name: usize) -> Vec<Resource> {
        let segments = (0..200).map(|depth| format!("{depth}"));
        let path: Vec<String> = segments.chain([name.to_string()]).collect();
        (0..5)
            .map(|i| {
                let above: Vec<String> = [vec![i.to_string()], path.clone()].concat();
                Resource::write(above)
            })
            .collect()
    }

    #[test]
    fn no_step_exceeds_its_budget_by_more_than_a_part_with_deep_waiters() {
        let locks = LockManager::new();
        let holder = locks.enqueue([Resource::write(Vec::<String>::new())]);
        let holder = holder.expect("open");
        let waiters: Vec<_> = (0..500)
            .map(|i| locks.enqueue(deep(i)).expect("open"))
            .collect();
        work_to_the_end(holder.withdraw_in_steps());
        assert!(waiters.iter().all(Pending::is_acquired));
        let mut entering = (locks.enqueue_in_steps((0..20).flat_map(deep))).expect("open");
        enter_to_the_end(&mut entering);
    }

    #[test]
    fn no_step_exceeds_its_budget_by_more_than_a_part_with_100_000_waiters() {
        let locks = LockManager::new();
        let enqueue = |resource| locks.enqueue([resource]).expect("open");
        let holder = enqueue(Resource::write(["a"]));
        let readers: Vec<_> = (0..100_000)
            .map(|_| enqueue(Resource::read(["a"])))
            .collect();
        work_to_the_end(holder.withdraw_in_steps());
        assert!(readers.iter().all(Pending::is_acquired));
    }

    /// The purge begins when half of the waiters have been withdrawn. It keeps the others, and drops the old chain.
    #[test]
    fn no_step_exceeds_its_budget_by_more_than_a_part_in_a_purge_of_100_000() {
        let locks = LockManager::new();
        let enqueue = |resource| locks.enqueue([resource]).expect("open");
        let _holder = enqueue(Resource::write(["a"]));
        let readers: Vec<_> = (0..100_000)
            .map(|_| enqueue(Resource::read(["a"])))
            .collect();
        let mut longest = 0;
        for reader in readers {
            let before = SPENT.get();
            let mut work = reader.withdraw_in_steps();
            let mut steps = 0;
            while !work.is_done() {
                let before = SPENT.get();
                work.step(BUDGET);
                assert!(SPENT.get() - before <= BUDGET as u64 * 1000 + LONGEST_PART);
                steps += 1;
            }
            longest = longest.max(steps);
            assert!(SPENT.get() - before < 100_000 * 1000);
        }
        assert!(longest > 100, "a purge took only {longest} steps");
    }

    #[test]
    fn no_step_exceeds_its_budget_by_more_than_a_part_in_a_set_of_4096() {
        let locks = LockManager::new();
        let set = || (0..4096).map(|i| Resource::write([i.to_string()]));
        let mut entering = locks.enqueue_in_steps(set()).expect("open");
        enter_to_the_end(&mut entering);
        let pending = locks.enqueue(set()).expect("open");
        work_to_the_end(pending.withdraw_in_steps());
        let mut lock = locks.blocking_lock(set()).expect("open");
        let below = (0..4096).map(|i| Resource::read([i.to_string(), "x".to_owned()]));
        work_to_the_end(lock.narrow_in_steps(below).expect("covered"));
        assert_eq!(locks.stats().resources, 4096);
    }
}
