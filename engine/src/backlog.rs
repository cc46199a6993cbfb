//! What an operation leaves to do for other requests: walks, wake-ups, purges, and memory to free.
//!
//! Each part can be long, so each is done in steps. The [`Table`](crate::table::Table) does the walks.
//!
//! # Invariant
//! B1. The owner of a backlog completes it. The watches in it are in no chain, so no other thread serves them (E3).

use crate::budget::Budget;
use crate::event::{Garbage, NODE, Nodes, Subscribers};
use crate::request::{DuePurge, Request, Watch};
use crate::sync::Arc;
use crate::waiter::{Waiter, Wakes};

/// Most operations leave nothing to do, so an empty backlog is one word.
#[derive(Default)]
pub(crate) struct Backlog(Option<Box<Parts>>);

#[derive(Default)]
struct Parts {
    /// A chain of watches to serve, or the rest of it, the newest first.
    taken: Subscribers<Watch>,
    /// The watches to serve next, in this order, the oldest first. The first one of `taken` comes before them.
    ready: Nodes<Watch>,
    /// Tasks to wake because the table was closed.
    closed: Subscribers<Waiter>,
    wakes: Wakes,
    purges: Vec<DuePurge>,
    garbage: Garbage<Watch>,
}

impl Backlog {
    pub(crate) fn of_close(closed: Option<Subscribers<Waiter>>) -> Backlog {
        let mut backlog = Backlog::default();
        if let Some(closed) = closed.filter(|closed| !closed.is_empty()) {
            backlog.parts().closed = closed;
        }
        backlog
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.is_empty())
    }

    /// Adds a chain that was taken. Its watches come before all others. Only while no watch is left of the last
    /// chain that was added, as when a watch was just served.
    #[inline]
    pub(crate) fn add_chain(&mut self, taken: Option<Subscribers<Watch>>) {
        if let Some(taken) = taken.filter(|taken| !taken.is_empty()) {
            let parts = self.parts();
            debug_assert!(parts.taken.is_empty());
            parts.taken = taken;
        }
    }

    /// The next watch to serve. `None` if there is none, or if the budget is spent.
    pub(crate) fn next(&mut self, budget: &mut Budget) -> Option<Arc<Watch>> {
        let parts = self.0.as_mut()?;
        while !budget.is_spent() {
            if !parts.taken.chain.move_first(&mut parts.ready) {
                return parts.taken.first.take().or_else(|| parts.ready.next());
            }
            budget.spend(NODE);
        }
        None
    }

    /// Puts back a watch whose walk has paused.
    pub(crate) fn put_back(&mut self, watch: Arc<Watch>) {
        self.parts().ready.push(watch);
    }

    /// Adds the waiter of a request that was granted.
    pub(crate) fn add_granted(&mut self, waiter: Option<Arc<Waiter>>, budget: &mut Budget) {
        if let Some(waiter) = waiter {
            self.parts().wakes.add(waiter, budget);
        }
    }

    /// Adds a waiter to wake.
    pub(crate) fn add_wake(&mut self, waiter: Arc<Waiter>) {
        // Not counted: a lock has few arms.
        (self.parts().wakes).add(waiter, &mut Budget::unlimited());
    }

    /// Adds the waiter of a request that was withdrawn.
    pub(crate) fn add_given_up(&mut self, waiter: Option<Arc<Waiter>>) {
        if let Some(waiter) = waiter {
            self.parts().wakes.add_retired(waiter);
        }
    }

    /// Reports the watch of a request that was withdrawn, and adds the purge that is due because of that.
    pub(crate) fn retire_watch(&mut self, request: &Request) {
        let mut garbage = Garbage::default();
        if let Some(purge) = request.retire_watch(&mut garbage) {
            self.parts().purges.push(purge);
        }
        self.add_garbage(garbage);
    }

    /// Adds a part of a chain that no thread needs any more.
    pub(crate) fn add_garbage(&mut self, garbage: Garbage<Watch>) {
        if !garbage.is_empty() {
            self.parts().garbage.append(garbage);
        }
    }

    /// Wakes all waiters of granted requests; then purges and frees memory as far as the budget allows. Needs no
    /// guard.
    pub(crate) fn clean_up(&mut self, budget: &mut Budget) {
        if let Some(parts) = &mut self.0
            && !parts.is_served()
        {
            parts.clean_up(budget);
        }
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.ready.is_empty() && self.is_served()
    }

    /// Whether there are no parts but watches.
    fn is_served(&self) -> bool {
        self.closed.is_empty()
            && self.wakes.is_empty()
            && self.purges.is_empty()
            && self.garbage.is_empty()
    }

    fn clean_up(&mut self, budget: &mut Budget) {
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
