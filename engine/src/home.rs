//! Homes: the references that keep a space of paths alive, each on lines of memory of its own.
//!
//! Every lock counts a reference to its space. A single count would be a line of memory that every lock and every
//! release of all threads write. So a space has several homes, and a lock counts a reference to the home of the thread
//! that made it.
//!
//! ```text
//!   Lock ────────► a home ────────► Space
//!   LockManager ─► all homes ─────────▲
//! ```

use crate::sync::{Arc, CachePadded, thread_number};
use std::ops::Deref;

const HOMES: usize = 8;

/// A reference to a space, counted at one of its homes.
///
/// The padding moves the content to other lines than the count, which lies before it.
pub(crate) struct Home<S>(Arc<CachePadded<Arc<S>>>);

impl<S> Home<S> {
    pub(crate) fn new(space: Arc<S>) -> Home<S> {
        Home(Arc::new(CachePadded::new(space)))
    }
}

impl<S> Clone for Home<S> {
    #[inline]
    fn clone(&self) -> Home<S> {
        Home(Arc::clone(&self.0))
    }
}

impl<S> Deref for Home<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.0
    }
}

/// All homes of a space.
pub(crate) struct Homes<S>(CachePadded<[Home<S>; HOMES]>);

impl<S> Homes<S> {
    pub(crate) fn new(space: S) -> Homes<S> {
        let space = Arc::new(space);
        let home = |_| Home::new(Arc::clone(&space));
        Homes(CachePadded::new(std::array::from_fn(home)))
    }

    /// The home of the thread.
    #[inline]
    pub(crate) fn of_thread(&self) -> &Home<S> {
        &self.0[thread_number() % HOMES]
    }

    /// The references to each home, with the one of `self`.
    #[cfg(test)]
    pub(crate) fn references(&self) -> [usize; HOMES] {
        std::array::from_fn(|number| Arc::strong_count(&self.0[number].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_one_home_and_the_homes_share_no_line() {
        let homes = Homes::new(());
        let own = homes.of_thread();
        assert!(std::ptr::eq(own, homes.of_thread()));
        let mut lines: Vec<usize> = (homes.0.iter())
            .map(|home| Arc::as_ptr(&home.0).addr())
            .collect();
        lines.sort_unstable();
        for pair in lines.windows(2) {
            // The line of the content, and before it the line of the count.
            assert!(pair[1] - pair[0] >= 2 * align_of::<CachePadded<()>>());
        }
    }
}
