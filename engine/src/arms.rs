//! The arms of held locks: each is told when another request begins to wait for its lock.
//!
//! They are in a list of the table, under the ticket of the lock. So a request has no field for them, a lock without
//! arms costs nothing more, and a narrowed lock keeps its arms with its ticket. A bit in the word of *released* says
//! that a request may have arms.
//!
//! ```text
//!   arm                                   watch, of a request that has to wait for the lock
//!   insert the arm                        announce in the word of `released`
//!   ARMED in the word of `released`       push the watch
//!   if a watch was announced before:      if ARMED: tell the arms
//!     does a request wait? tell the arm
//! ```
//!
//! # Invariants
//! A1. An arm is in the list before ARMED is set. The waker of a task is in its place before the task looks whether
//!     the arm was told.
//! A2. A request that watches announces before it looks for ARMED. A thread that tells an arm sets that in the word
//!     before it takes the waker.
//!
//! # No request is missed
//! The announcement and ARMED are read-modify-writes of one word, so one of them comes first. If ARMED does, then the
//! watching request sees it, and with it the arm. If the announcement does, then the arming thread sees it, and with it
//! the entries of the request, which were inserted before. So its walk meets the request, unless that has left. In the
//! same way, telling an arm and the look of its task are read-modify-writes of the word of the arm.

use crate::sync::{Arc, AtomicU32, Guard, List, Ordering, Slot, identity};
use crate::waiter::Waiter;
use std::ops::Bound;
use std::task::Waker;

/// What an arm is told.
pub(crate) const WANTED: u32 = 1;
pub(crate) const RELEASED: u32 = 2;

pub(crate) struct Arm {
    /// What it was told since the last look.
    told: AtomicU32,
    /// The task that waits for it, unless it was woken since.
    waiter: Slot<Waiter>,
}

impl Arm {
    pub(crate) fn new() -> Arm {
        Arm {
            told: AtomicU32::new(0),
            waiter: Slot::new(),
        }
    }

    /// Returns the task to wake.
    pub(crate) fn tell(&self, what: u32) -> Option<Arc<Waiter>> {
        // A2. Release: the task that looks sees what was done before. Acquire: if its look came before, its waker is in
        // the place.
        self.told.fetch_or(what, Ordering::AcqRel);
        self.waiter.take()
    }

    /// Makes this the waker to wake, and returns what the arm was told since the last look.
    pub(crate) fn look(&self, waker: &Waker) -> u32 {
        self.waiter.put(Arc::new(Waiter::new(waker.clone())));
        // A1. AcqRel: pairs with `tell`.
        self.told.swap(0, Ordering::AcqRel)
    }

    /// Forgets the waker.
    pub(crate) fn forget(&self) {
        drop(self.waiter.take());
    }
}

/// The arms of all locks of a table, by the ticket of the lock.
pub(crate) struct Arms(List<(u64, usize), Arc<Arm>>);

impl Arms {
    pub(crate) fn new() -> Arms {
        Arms(List::new())
    }

    pub(crate) fn add(&self, ticket: u64, arm: &Arc<Arm>, guard: &Guard) {
        self.0
            .insert((ticket, identity(arm)), Arc::clone(arm), guard);
    }

    pub(crate) fn remove(&self, ticket: u64, arm: &Arc<Arm>, guard: &Guard) {
        self.0.remove(&(ticket, identity(arm)), guard);
    }

    /// Tells all arms of a lock. Gives the tasks to wake to the caller.
    pub(crate) fn tell(
        &self,
        ticket: u64,
        what: u32,
        guard: &Guard,
        mut wake: impl FnMut(Arc<Waiter>),
    ) {
        let mut entry = self.0.seek(Bound::Included(&(ticket, 0)), guard);
        while let Some(here) = entry.filter(|here| here.key().0 == ticket) {
            if let Some(waiter) = here.value().tell(what) {
                wake(waiter);
            }
            entry = here.next();
        }
    }
}
