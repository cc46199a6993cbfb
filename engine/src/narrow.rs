//! A lock that is narrowed: another request takes the place of its request, for a part of the resources.
//!
//! ```text
//!            insert the entries of the new request      PUBLISHING: it delays no request
//!            its ticket word ← the ticket of the old    from here on it stands for the lock
//!            remove the entries of the old request
//!            set `released` of the old, serve           the watches walk on, and meet the new one
//! ```
//!
//! # Invariants
//! N1. One word, the ticket of the new request, decides which of the two belongs to the lock. The other one belongs to
//!     the `Work`, which takes it out of the table.
//! N2. Each entry of the new request lies behind the entry of the old one that covers it, in every walk.
//! N3. The new request has its ticket before an entry of the old one is removed.
//! N4. For each resource a walk finds its place in the list of reads after it has visited the list of writes. What it
//!     knows of the list of reads from the resource before is older.
//!
//! # No request overtakes
//! Let S be a later request that conflicts with the new request. Then it conflicts with the old one, at the entry
//! that covers. The walk of S comes to that entry first (N2). If the entry is there, S waits for the old request
//! until that is released, and its walk goes on from there to the entry of the new one. If the entry is gone, then
//! the new request has all its entries, their marks and its ticket (N3), and the walk meets it. So the walk must not
//! know anything about a place before it comes there: it goes forward only, reads the marks anew for each span, and
//! takes the step of [`Newest`](crate::walker::Newest) behind the ancestors. It may use the place where its last span
//! in the same list ended: if the covering entry was there at that time, it lies at that place or behind it, and so does
//! the new one. But if a write becomes a read, the covering entry is in the other list (N4).
//!
//! N2 holds because walks visit, for each of their resources, the writes before the reads, and in each list a path
//! before the paths below it. At the same path and in the same list, the new request was born before the old one, and
//! the youngest comes first.

use crate::budget::Budget;
use crate::request::Request;
use crate::resource::ResourceSet;
use crate::sync::{Arc, Guard};
use crate::table::Table;

pub(crate) struct Narrowing {
    old: Arc<Request>,
    new: Arc<Request>,
    /// The number of entries of the new request in the table. They are the first ones.
    inserted: usize,
}

impl Narrowing {
    /// For a granted request and a set that its resources cover.
    pub(crate) fn new(old: &Arc<Request>, resources: ResourceSet) -> Narrowing {
        Narrowing {
            old: Arc::clone(old),
            new: Arc::new(old.narrowed(resources)),
            inserted: 0,
        }
    }

    /// The request that takes the place of the old one.
    pub(crate) fn narrowed(&self) -> &Arc<Request> {
        &self.new
    }

    /// Does a part of the insertion. At its end it returns the request that has to leave, and the number of its
    /// entries: the old one, or the new one if that was given up.
    pub(crate) fn step(
        &mut self,
        table: &Table,
        budget: &mut Budget,
        guard: &Guard,
    ) -> Option<(Arc<Request>, usize)> {
        let is_given_up = self.new.is_given_up();
        if !is_given_up && !table.insert_in_part(&self.new, &mut self.inserted, budget, guard) {
            return None;
        }
        // N1, N3.
        // The lock goes on in both cases, and its arms with it.
        if self.new.succeed() {
            self.old.released.disarm();
            Some((Arc::clone(&self.old), self.old.resources.len()))
        } else {
            self.new.released.disarm();
            Some((Arc::clone(&self.new), self.inserted))
        }
    }
}
