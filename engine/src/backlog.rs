//! What an operation leaves to do for other requests: walks, wake-ups, purges, and memory to free.
//!
//! Each part can be long, so each is done in steps. The [`Table`](crate::table::Table) does the walks.
//!
//! # Invariant
//! B1. The owner of a backlog completes it. The watches in it are in no chain, so no other thread serves them (E3).

use crate::budget::Budget;
use crate::event::{Garbage, NODE, Subscribers};
use crate::request::{DuePurge, Request, Watch};
use crate::sync::Arc;
use crate::waiter::{Waiter, Wakes};

#[derive(Default)]
pub(crate) struct Backlog {
    /// A chain of watches to serve, or the rest of it, the newest first.
    taken: Subscribers<Watch>,
    /// The watches to serve next, in this order, the oldest first.
    ready: Subscribers<Watch>,
    /// Tasks to wake because the table was closed.
    closed: Subscribers<Arc<Waiter>>,
    wakes: Wakes,
    purges: Vec<DuePurge>,
    garbage: Garbage<Watch>,
}

impl Backlog {
    pub(crate) fn of_close(closed: Option<Subscribers<Arc<Waiter>>>) -> Backlog {
        Backlog {
            closed: closed.unwrap_or_default(),
            ..Backlog::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.ready.is_empty() && self.is_served()
    }

    /// Whether it has no watches to serve.
    fn is_served(&self) -> bool {
        self.closed.is_empty()
            && self.wakes.is_empty()
            && self.purges.is_empty()
            && self.garbage.is_empty()
    }

    /// Adds a chain that was taken. Its watches come before all others. Only while no watch is left of the last
    /// chain that was added, as when a watch was just served.
    pub(crate) fn add_chain(&mut self, taken: Option<Subscribers<Watch>>) {
        debug_assert!(self.taken.is_empty());
        self.taken = taken.unwrap_or_default();
    }

    /// The next watch to serve. `None` if there is none, or if the budget is spent.
    pub(crate) fn next(&mut self, budget: &mut Budget) -> Option<Watch> {
        while !budget.is_spent() {
            if !self.taken.move_first(&mut self.ready) {
                return self.ready.next();
            }
            budget.spend(NODE);
        }
        None
    }

    /// Puts back a watch whose walk has paused.
    pub(crate) fn put_back(&mut self, watch: Watch) {
        self.ready.push(watch);
    }

    /// Adds the waiters of a request that was granted.
    pub(crate) fn add_granted(&mut self, waiters: Subscribers<Arc<Waiter>>, budget: &mut Budget) {
        waiters.for_each(|waiter| self.wakes.add(waiter, budget));
    }

    /// Adds the waiters of a request that was withdrawn.
    pub(crate) fn add_given_up(&mut self, waiters: Subscribers<Arc<Waiter>>) {
        self.wakes.add_retired(waiters);
    }

    /// Reports the watch of a request that was withdrawn.
    pub(crate) fn retire_watch(&mut self, request: &Request) {
        self.purges.extend(request.retire_watch(&mut self.garbage));
    }

    pub(crate) fn garbage(&mut self) -> &mut Garbage<Watch> {
        &mut self.garbage
    }

    /// Wakes all waiters of granted requests; then purges and frees memory as far as the budget allows. Needs no
    /// guard.
    pub(crate) fn clean_up(&mut self, budget: &mut Budget) {
        if self.is_served() {
            return;
        }
        while !budget.is_spent()
            && let Some(waiter) = self.closed.next()
        {
            self.wakes.add(waiter, budget);
        }
        self.wakes.wake();
        while !budget.is_spent()
            && let Some(purge) = self.purges.last_mut()
        {
            if purge.step(budget, &mut self.garbage) {
                self.purges.pop();
            }
        }
        self.garbage.drop_some(budget);
    }
}
