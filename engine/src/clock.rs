//! The clock: one counter per lock manager, from which every request draws its ticket.
//!
//! It is the only line of memory that every request must write. Closing is a bit of the same word, so
//! each ticket shows whether it was drawn before the manager was closed or after.

use crate::sync::{AtomicU64, Ordering};

/// Set in the clock when the manager is closed, hence in every ticket drawn from then on.
pub(crate) const CLOSED: u64 = 1 << 63;

pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// A clock whose first number is `first`.
    pub(crate) fn new(first: u64) -> Clock {
        Clock(AtomicU64::new(first))
    }

    /// The number of the next draw, or a smaller one.
    pub(crate) fn now(&self) -> u64 {
        // Relaxed: a birth only needs to be a lower bound.
        self.0.load(Ordering::Relaxed)
    }

    /// Draws a number, larger than all numbers drawn before.
    pub(crate) fn draw(&self) -> u64 {
        // AcqRel: draws are read-modify-writes of one word, so an earlier draw happens before a
        // later one. This edge makes the entries of an earlier ticket visible to the walk of a later
        // one; no other fence is needed for that.
        self.0.fetch_add(1, Ordering::AcqRel)
    }

    /// Marks every later ticket as a refusal.
    pub(crate) fn close(&self) {
        // AcqRel, as in `draw`: a thread that drains sees every request that drew its ticket before.
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }
}
