//! The keys that order the lists of the lock table, and the depths at which the lists have entries.

use crate::path::Path;
use std::cmp::Ordering;

/// Orders the entries of one list: by path, then the youngest first.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) path: Path,
    /// Signed: each narrowing of a lock goes one back, also behind the first number of the clock.
    pub(crate) birth: i64,
    /// Tells apart requests with the same birth. Never 0.
    pub(crate) identity: usize,
}

impl Key {
    /// Sorts before all keys at the path that were born before the ticket was drawn, and behind the younger
    /// ones.
    pub(crate) fn first(path: Path, ticket: u64) -> Key {
        Key {
            path,
            // A ticket above all births is that of the last request of a closed manager.
            birth: i64::try_from(ticket).unwrap_or(i64::MAX),
            identity: 0,
        }
    }

    /// Sorts behind all keys at the path.
    pub(crate) fn last(path: Path) -> Key {
        Key {
            path,
            birth: i64::MIN,
            identity: usize::MAX,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.path
            .cmp(&other.path)
            .then_with(|| other.birth.cmp(&self.birth))
            .then_with(|| self.identity.cmp(&other.identity))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The depths at which a list has ever had an entry: a bit for each. The last bit stands for all depths
/// from 63 on.
///
/// Depths that were never locked are not searched.
#[derive(Clone, Copy)]
pub(crate) struct Marks(pub(crate) u64);

impl Marks {
    const LAST: usize = 63;

    /// The mark of a depth.
    pub(crate) fn of(depth: usize) -> u64 {
        1 << depth.min(Marks::LAST)
    }

    /// The marks of all depths above this one.
    pub(crate) fn above(depth: usize) -> u64 {
        Marks::of(depth) - 1
    }

    /// The first depth from this one on that may have entries.
    pub(crate) fn first_from(self, depth: usize) -> Option<usize> {
        match self.0 >> depth.min(Marks::LAST) {
            0 => None,
            _ if depth >= Marks::LAST => Some(depth),
            rest => Some(depth + rest.trailing_zeros() as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_below_zero_sort_between_the_first_and_the_last_key_of_a_path() {
        let path = || Path::from(["a"]);
        let narrowed = Key {
            path: path(),
            birth: -500,
            identity: 7,
        };
        for ticket in [1, 1 << 62, 1 << 63] {
            assert!(Key::first(path(), ticket) < narrowed);
        }
        assert!(narrowed < Key::last(path()));
    }

    #[test]
    fn marks_find_the_next_depth_in_use() {
        let marks = Marks(Marks::of(0) | Marks::of(3) | Marks::of(62));
        let found = [0, 1, 3, 4, 62, 63, 64].map(|depth| marks.first_from(depth));
        let depths = [Some(0), Some(3), Some(3), Some(62), Some(62), None, None];
        assert_eq!(found, depths);
        let deep = Marks(Marks::of(80));
        assert_eq!(deep.first_from(1), Some(63));
        assert_eq!(deep.first_from(70), Some(70));
        assert!(Marks(0).first_from(0).is_none());
    }
}
