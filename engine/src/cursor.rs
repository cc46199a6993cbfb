//! Keys of the lock table, and the walk of a request over the part of it that can conflict.
//!
//! A walk visits, for each resource in turn, the table of writes and then, for a write, the table
//! of reads; in each table it visits *spans*:
//!
//! ```text
//!   span   0            1      2               depth
//!        ┌────────────┬──────┬──────────┬───┬────────┐
//!        │ the path   │ root │ ancestor │ … │ parent │
//!        │ and below  │      │ at 1     │   │        │
//!        └────────────┴──────┴──────────┴───┴────────┘
//! ```

use crate::path::Path;
use std::cmp::Ordering;

/// Orders the entries of one table: by path, then the youngest first.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) path: Path,
    pub(crate) birth: u64,
    /// Tells apart requests of one birth.
    pub(crate) identity: usize,
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

/// Where a walk goes on: everything that it depends on.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// Which of the request's resources.
    pub(crate) resource: u32,
    /// Which of the tables that the resource meets.
    pub(crate) table: u32,
    pub(crate) span: u32,
    /// The last entry visited in that span; `None` at its start.
    pub(crate) after: Option<Key>,
}

impl Cursor {
    pub(crate) const START: Cursor = Cursor {
        resource: 0,
        table: 0,
        span: 0,
        after: None,
    };

    /// Past the path itself and what is below it, in the table of writes.
    pub(crate) const PAST_OWN_WRITES: Cursor = Cursor {
        span: 1,
        ..Cursor::START
    };
}

/// A part of a table whose entries all conflict with a resource that meets the table.
pub(crate) struct Span {
    pub(crate) path: Path,
    /// Whether the entries below the path belong to it, or only those at the path.
    subtree: bool,
}

impl Span {
    /// The span with this number in the walk for `path`.
    pub(crate) fn new(path: &Path, number: u32) -> Span {
        match number.checked_sub(1) {
            None => Span {
                path: path.clone(),
                subtree: true,
            },
            Some(level) => Span {
                path: path.prefix(level as usize),
                subtree: false,
            },
        }
    }

    /// The number of the next span at an ancestor that may have entries, given the first entry
    /// after those of this one, at `beyond`.
    ///
    /// An ancestor between here and `beyond` has none, or `beyond` would not be the first. So a deep
    /// path is not looked up level by level, if nothing is locked above it.
    pub(crate) fn next(path: &Path, number: u32, beyond: &Path) -> u32 {
        let (common, is_ancestor) = path.common(beyond);
        let level = if is_ancestor {
            common
        } else if *path > *beyond {
            // All deeper ancestors sort after `beyond`.
            common + 1
        } else {
            // All of them sort before it.
            path.depth()
        };
        (level as u32 + 1).max(number + 1)
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        if self.subtree {
            self.path.contains(&key.path)
        } else {
            self.path == key.path
        }
    }
}

/// One bit for each depth at which a table ever had an entry; the last for all from 63 on. Spans
/// at depths that nobody ever locked are not looked up.
#[derive(Clone, Copy)]
pub(crate) struct Marks(pub(crate) u64);

impl Marks {
    /// The mark of a depth.
    pub(crate) fn of(depth: usize) -> u64 {
        1 << depth.min(63)
    }

    /// How many spans there are to look at: if nothing above the path is marked, only the first.
    pub(crate) fn spans(self, path: &Path) -> u32 {
        let depth = path.depth();
        let above = self.0 & (Marks::of(depth) - 1) != 0 || depth > 63;
        if above { depth as u32 + 1 } else { 1 }
    }

    /// Whether the span with this number may have entries.
    pub(crate) fn may_have(self, path: &Path, number: u32) -> bool {
        match number.checked_sub(1) {
            None => self.0 >= Marks::of(path.depth()),
            Some(level) => self.0 & Marks::of(level as usize) != 0,
        }
    }
}
