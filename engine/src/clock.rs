//! The clock: one counter per lock manager, from which every request draws its ticket.
//!
//! It is the only line of memory that every request must write. Closing is a bit of the same word, so
//! each ticket shows whether it was drawn before the manager was closed or after. A restored request does not draw
//! its ticket: the clock takes it, and passes it.

use crate::error::LockError;
use crate::sync::{AtomicU64, Ordering};

/// Set in the clock when the manager is closed, hence in every ticket drawn from then on.
pub(crate) const CLOSED: u64 = 1 << 63;

/// A clock takes no number from here on. So as many numbers are left to be drawn: tickets have 62 bits.
pub(crate) const LIMIT: u64 = 1 << 61;

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

    /// Draws so many successive numbers, larger than all numbers drawn before. Returns the first.
    pub(crate) fn draw(&self, count: u64) -> u64 {
        // AcqRel: draws are read-modify-writes of one word, so an earlier draw happens before a
        // later one. This edge makes the entries of an earlier ticket visible to the walk of a later
        // one; no other fence is needed for that.
        self.0.fetch_add(count, Ordering::AcqRel)
    }

    /// Whether the clock can take this number now.
    pub(crate) fn check(&self, number: u64) -> Result<(), LockError> {
        allow(number, self.now())
    }

    /// Takes a number that was checked, as if a draw had returned it.
    pub(crate) fn take(&self, number: u64) -> Result<(), LockError> {
        allow(number, self.raise(number))
    }

    /// Makes every later draw return a larger number than this one. A clock never goes back.
    pub(crate) fn skip_to(&self, number: u64) -> Result<(), LockError> {
        allow(number, self.now() & CLOSED)?;
        allow(number, self.raise(number) & CLOSED)
    }

    /// Returns the number of the next draw before that.
    fn raise(&self, number: u64) -> u64 {
        // AcqRel, as in `draw`: such a number has its place in the order of the draws. A closed clock compares as
        // larger than any number, so it stays as it is.
        self.0.fetch_max(number + 1, Ordering::AcqRel)
    }

    /// Marks every later ticket as a refusal.
    pub(crate) fn close(&self) {
        // AcqRel, as in `draw`: a thread that drains sees every request that drew its ticket before.
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }
}

/// Whether a clock with this next number can take another number.
fn allow(number: u64, next: u64) -> Result<(), LockError> {
    if next & CLOSED != 0 {
        Err(LockError::Closed)
    } else if (next..LIMIT).contains(&number) {
        Ok(())
    } else {
        Err(LockError::TokenOutOfRange {
            least: next,
            limit: LIMIT,
        })
    }
}
