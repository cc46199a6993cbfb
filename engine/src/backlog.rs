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
use crate::waiter::Waiter;
use std::collections::VecDeque;

/// The nanoseconds to wake a waiter.
const WAKE: u64 = 1000;

/// Most operations leave nothing to do, or one watch to serve and one waiter to wake: that needs no memory.
#[derive(Default)]
pub(crate) struct Backlog {
    /// The oldest watch of the chain that was taken last. It is served once the others are in `ready`.
    first: Option<Arc<Watch>>,
    /// The first task to wake, in the order of the grants. To be woken once no guard is held: waking runs the code of
    /// an executor, which may call back into the engine.
    wake: Option<Arc<Waiter>>,
    parts: Option<Box<Parts>>,
}

#[derive(Default)]
struct Parts {
    /// The other watches of the chain that was taken last, or the rest of them, the newest first.
    chain: Nodes<Watch>,
    /// The watches to serve next, in this order, the oldest first.
    ready: Nodes<Watch>,
    /// Tasks to wake after the first one.
    wakes: VecDeque<Arc<Waiter>>,
    /// Tasks to wake because the table was closed.
    closed: Subscribers<Waiter>,
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
        self.parts.get_or_insert_default()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
            && self.wake.is_none()
            && self.parts.as_ref().is_none_or(|parts| parts.is_empty())
    }

    /// Adds a chain that was taken. Its watches come before all others. Only while no watch is left of the last
    /// chain that was added, as when a watch was just served.
    #[inline]
    pub(crate) fn add_chain(&mut self, taken: Option<Subscribers<Watch>>) {
        if let Some(Subscribers { first, chain }) = taken.filter(|taken| !taken.is_empty()) {
            debug_assert!(self.first.is_none());
            self.first = first;
            if !chain.is_empty() {
                let parts = self.parts();
                debug_assert!(parts.chain.is_empty());
                parts.chain = chain;
            }
        }
    }

    /// The next watch to serve. `None` if there is none, or if the budget is spent.
    pub(crate) fn next(&mut self, budget: &mut Budget) -> Option<Arc<Watch>> {
        if budget.is_spent() {
            return None;
        }
        let Some(parts) = &mut self.parts else {
            return self.first.take();
        };
        while parts.chain.move_first(&mut parts.ready) {
            budget.spend(NODE);
            if budget.is_spent() {
                return None;
            }
        }
        self.first.take().or_else(|| parts.ready.next())
    }

    /// Puts back a watch whose walk has paused.
    pub(crate) fn put_back(&mut self, watch: Arc<Watch>) {
        self.parts().ready.push(watch);
    }

    /// Adds the waiter of a request that was granted, and counts the wake-up.
    pub(crate) fn add_granted(&mut self, waiter: Option<Arc<Waiter>>, budget: &mut Budget) {
        if let Some(waiter) = waiter {
            budget.spend(WAKE);
            self.add_wake(waiter);
        }
    }

    /// Adds the waiter of a request that was withdrawn. It is dropped in its turn, which runs foreign code, too.
    pub(crate) fn add_given_up(&mut self, waiter: Option<Arc<Waiter>>) {
        if let Some(waiter) = waiter {
            waiter.retire();
            self.add_wake(waiter);
        }
    }

    /// Adds a waiter to wake.
    pub(crate) fn add_wake(&mut self, waiter: Arc<Waiter>) {
        let parts = self.parts.as_ref();
        if self.wake.is_none() && parts.is_none_or(|parts| parts.wakes.is_empty()) {
            self.wake = Some(waiter);
        } else {
            self.parts().wakes.push_back(waiter);
        }
    }

    fn next_wake(&mut self) -> Option<Arc<Waiter>> {
        (self.wake.take()).or_else(|| self.parts.as_mut()?.wakes.pop_front())
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
    #[inline]
    pub(crate) fn add_garbage(&mut self, garbage: Garbage<Watch>) {
        if !garbage.is_empty() {
            self.parts().garbage.append(garbage);
        }
    }

    /// Wakes all waiters of granted requests; then purges and frees memory as far as the budget allows. Needs no
    /// guard. If a waker panics, the others stay.
    pub(crate) fn clean_up(&mut self, budget: &mut Budget) {
        while let Some(waiter) = self.next_wake() {
            waiter.wake();
        }
        if let Some(parts) = &mut self.parts {
            parts.clean_up(budget);
        }
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.chain.is_empty()
            && self.ready.is_empty()
            && self.wakes.is_empty()
            && self.closed.is_empty()
            && self.purges.is_empty()
            && self.garbage.is_empty()
    }

    fn clean_up(&mut self, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some(waiter) = self.closed.next()
        {
            budget.spend(WAKE);
            waiter.wake();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;
    use crate::resource::{Resource, ResourceSet};
    use crate::sync::pin;
    use crate::table::Table;
    use crate::walker::Met;
    use std::task::Waker;

    #[test]
    fn a_release_that_grants_one_request_allocates_no_lists() {
        let table = Table::new(1, 1);
        let enter = || {
            let only = Resource::write(Path::from(["a"]));
            let (request, _) =
                (table.enter(ResourceSet::One(only), &mut Met::default())).expect("open");
            request
        };
        let (first, second) = (enter(), enter());
        let waiter = Arc::new(Waiter::new(Waker::noop().clone()));
        assert!(!second.granted.subscribe(waiter));
        let (mut backlog, budget) = (Backlog::default(), &mut Budget::unlimited());
        assert!(table.leave_in_part(&first, &mut 1, &mut backlog, budget, &pin()));
        assert!(backlog.first.is_some() && backlog.parts.is_none());
        table.serve(&mut backlog, budget, pin());
        assert!(second.granted.is_set() && backlog.parts.is_none());
    }
}
