//! The clock: one counter per lock manager, from which every request draws its ticket.
//!
//! It is the one line of memory that every request must write. Closing is a bit of the same word,
//! so that each ticket is drawn either before the manager was closed or after, and says which.

use crate::sync::{AtomicU64, Ordering};

/// Set in the clock once the manager is closed, hence in every ticket drawn from then on.
pub(crate) const CLOSED: u64 = 1 << 63;

pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// The first number drawn is `first`.
    pub(crate) fn new(first: u64) -> Clock {
        Clock(AtomicU64::new(first))
    }

    /// The number that the next draw gives, or a smaller one.
    pub(crate) fn now(&self) -> u64 {
        // Relaxed: a lower bound is all that a birth needs to be.
        self.0.load(Ordering::Relaxed)
    }

    /// Draws a number: larger than any drawn before.
    pub(crate) fn draw(&self) -> u64 {
        // AcqRel: draws are read-modify-writes of one word, so an earlier draw happens before a
        // later one. This is the edge that makes the entries of an earlier ticket visible to the
        // walk of a later one; nothing else in the engine needs a fence for that.
        self.0.fetch_add(1, Ordering::AcqRel)
    }

    /// Marks every later ticket as refused.
    pub(crate) fn close(&self) {
        // AcqRel, as in `draw`: what drew its ticket before is visible to whoever drains.
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }
}
