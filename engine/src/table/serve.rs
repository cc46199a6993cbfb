//! The end of a request, and the work for others that follows: the watches on it are served.

use super::{Blocker, Table, Walked};
use crate::arms::{RELEASED, WANTED};
use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::clock::CLOSED;
use crate::event::{Garbage, NODE};
use crate::request::{Request, Watch};
use crate::sync::{Arc, Guard, pin};
use crate::waiter::finish;
use crate::walker::Walker;

impl Table {
    /// Ends a request whose entries have been removed.
    pub(crate) fn end(&self, request: &Arc<Request>, backlog: &mut Backlog) {
        let tell = || self.tell_arms(request.last_ticket(), RELEASED, backlog);
        let taken = request.released.set_and_tell(tell);
        backlog.add_chain(taken);
        // `granted` is set after `released`, so that a listing never reports this as a grant. The waiters
        // taken here belong to tasks that no longer wait.
        if !request.granted.is_set()
            && let Some(given_up) = request.granted.set()
        {
            self.settle(request);
            backlog.retire_watch(request);
            backlog.add_given_up(given_up);
        }
    }

    /// Tells the arms of the lock with this ticket.
    #[cold]
    fn tell_arms(&self, ticket: u64, what: u32, backlog: &mut Backlog) {
        let wake = |waiter| backlog.add_wake(waiter);
        self.arms.tell(ticket, what, &pin(), wake);
    }

    /// Does a part of a backlog: advances the requests in it and those found on the way, then wakes and cleans up.
    ///
    /// All grants come before the first wake, so that a thread that spins or polls does not wait for the
    /// wake-ups of others.
    pub(crate) fn serve(&self, backlog: &mut Backlog, budget: &mut Budget, guard: Guard) {
        while let Some(mut watch) = backlog.next(budget) {
            let cursor = watch.take_cursor();
            let request = &watch.request;
            if request.released.is_set() {
                request.forget_watched();
                budget.spend(NODE);
                continue;
            }
            match self.walk_on(&mut Walker::of(request), cursor, budget, &guard) {
                Walked::Free => self.grant(request, backlog, budget),
                Walked::Blocked(cursor, blocker) => self.watch(watch.at(cursor), blocker, backlog),
                Walked::Paused(cursor) => backlog.put_back(watch.at(cursor)),
            }
        }
        drop(guard);
        backlog.clean_up(budget);
    }

    /// Does all of a backlog.
    #[inline]
    pub(crate) fn complete(&self, backlog: Backlog, guard: Guard) {
        if !backlog.is_empty() {
            self.complete_parts(backlog, guard);
        }
    }

    fn complete_parts(&self, mut backlog: Backlog, guard: Guard) {
        let mut guard = Some(guard);
        finish(|| {
            let guard = guard.take().unwrap_or_else(pin);
            self.serve(&mut backlog, &mut Budget::unlimited(), guard);
            backlog.is_empty()
        });
    }

    fn grant(&self, request: &Request, backlog: &mut Backlog, budget: &mut Budget) {
        let waiter = request.granted.set();
        // `None`: it was withdrawn at this moment.
        if let Some(waiter) = waiter {
            self.settle(request);
            request.forget_watched();
            backlog.add_granted(waiter, budget);
        }
    }

    /// Takes a request off the count of waiting requests (R4).
    pub(super) fn settle(&self, request: &Request) {
        if request.is_counted() {
            self.waiting.sub(1);
        }
    }

    /// Lets the request wait until the blocker is released. If that has happened meanwhile, adds the watches of the
    /// blocker to the backlog.
    pub(super) fn watch(&self, watch: Arc<Watch>, blocker: Blocker, backlog: &mut Backlog) {
        let Blocker {
            request: blocker,
            ticket,
            place,
        } = blocker;
        let request = &Arc::clone(&watch.request);
        if request.about_to_watch(&blocker, ticket) && request.is_counted() {
            self.waiting.add(1);
        }
        let mut garbage = Garbage::default();
        let missed = blocker.released.enter(place, watch, &mut garbage);
        backlog.add_garbage(garbage);
        // A2. The last request of a closed table only waits for the others to end.
        if blocker.released.is_armed() && request.ticket() < CLOSED {
            self.tell_arms(ticket, WANTED, backlog);
        }
        if missed.is_none() && request.released.is_set() {
            backlog.retire_watch(request);
        }
        backlog.add_chain(missed);
    }
}
