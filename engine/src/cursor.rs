//! Keys of the lock table, and the walk of a request over the part of it that can conflict.
//!
//! A walk visits, for each resource in turn, *spans* of the table. Writes meet everybody, so the
//! spans of the table of writes come first; a write also visits the same spans of the table of reads.
//!
//! ```text
//!   span   0            1       2              depth         depth + 1 …
//!        ┌────────────┬───────┬──────────┬───┬────────────┐
//!        │ the path   │ root  │ ancestor │ … │ parent     │  again, in the table of reads
//!        │ and below  │       │ at 1     │   │            │
//!        └────────────┴───────┴──────────┴───┴────────────┘
//! ```

use crate::path::Path;
use crate::resource::{Mode, Resource};
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
    pub(crate) resource: u32,
    pub(crate) span: u32,
    /// The last entry visited in that span; `None` at its start.
    pub(crate) after: Option<Key>,
}

impl Cursor {
    pub(crate) const START: Cursor = Cursor {
        resource: 0,
        span: 0,
        after: None,
    };

    /// Past the path itself and what is below it, in the table of writes.
    pub(crate) const PAST_OWN_WRITES: Cursor = Cursor {
        resource: 0,
        span: 1,
        after: None,
    };
}

/// A part of one table whose entries all conflict with a resource.
pub(crate) struct Span {
    pub(crate) mode: Mode,
    pub(crate) path: Path,
    /// Whether the entries below the path belong to it, or only those at the path.
    pub(crate) subtree: bool,
}

impl Span {
    /// How many spans the walk of a resource has.
    pub(crate) fn count(resource: &Resource) -> usize {
        let in_one_table = resource.path.depth() + 1;
        match resource.mode {
            Mode::Read => in_one_table,
            Mode::Write => 2 * in_one_table,
        }
    }

    /// In which table the span with this number lies, and at which depth, if at an ancestor.
    pub(crate) fn place(resource: &Resource, number: usize) -> (Mode, Option<usize>) {
        let in_one_table = resource.path.depth() + 1;
        let mode = if number < in_one_table { Mode::Write } else { Mode::Read };
        (mode, (number % in_one_table).checked_sub(1))
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        if self.subtree {
            self.path.contains(&key.path)
        } else {
            self.path == key.path
        }
    }
}
