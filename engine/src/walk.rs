//! The walk of a request over the parts of the lists in which conflicts can be.
//!
//! For each resource in turn, a walk visits the list of writes and then, for a write, the list of reads.
//! In each list it visits *spans*, in the order of the keys, and skips the spans that have no entries:
//!
//! ```text
//!   ┌──────┬──────────┬───┬────────┬────────────┐
//!   │ root │ ancestor │ … │ parent │ the path   │
//!   │      │ at 1     │   │        │ and below  │
//!   └──────┴──────────┴───┴────────┴────────────┘
//!      0        1       …  depth - 1   depth         the level of the span
//! ```
//!
//! So a walk only goes forward. Where a span ends, the next one begins or lies ahead.
//!
//! The resources of a request are ordered by path. The ancestors that a resource shares with the resource
//! before it were visited for that one, so the walk skips them.

use crate::key::{Key, Marks};
use crate::path::{Path, Prefix};
use crate::resource::{Mode, Resource};

/// Where a walk goes on: everything that it depends on.
///
/// It stands before a span, or behind an entry of the span.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// The index of one of the request's resources.
    resource: u32,
    /// The span: the ancestor at this depth, or the path of the resource and what is below it. One more at the
    /// end of the list.
    level: u32,
    /// One of the lists that the resource meets.
    mode: Mode,
    /// The last entry visited in the span; `None` at its start.
    after: Option<Key>,
}

impl Cursor {
    pub(crate) const START: Cursor = Cursor {
        resource: 0,
        level: 0,
        mode: Mode::Write,
        after: None,
    };

    /// The entry on which it stands, and the list of that entry.
    pub(crate) fn place(&self) -> Option<(Mode, &Key)> {
        Some((self.mode, self.after.as_ref()?))
    }
}

/// A cursor that moves from span to span over the resources of a request.
pub(crate) struct Walk<'a> {
    resources: &'a [Resource],
    at: Cursor,
    /// The last prefix of the path that was looked up; no deeper than the span. So a walk scans the bytes of the
    /// path once for each list.
    prefix: Prefix,
    /// Where the span begins. Its path is that prefix.
    first: Key,
}

impl<'a> Walk<'a> {
    /// A span begins behind the entries that were born after `births`. If that is the ticket of the walking request,
    /// they belong to later requests.
    pub(crate) fn new(resources: &'a [Resource], births: u64, from: Cursor) -> Walk<'a> {
        Walk {
            resources,
            at: from,
            prefix: Prefix::ROOT,
            first: Key::first(Path::root(), births),
        }
    }

    /// The list in which the cursor is; `None` at the end of the walk.
    pub(crate) fn list(&self) -> Option<Mode> {
        let is_there = (self.at.resource as usize) < self.resources.len();
        is_there.then_some(self.at.mode)
    }

    /// Goes on to the next list, if the cursor is in one.
    pub(crate) fn next_list(&mut self) {
        self.at.level = 0;
        self.at.after = None;
        self.prefix = Prefix::ROOT;
        if self.at.mode == Mode::Write && self.resource().mode == Mode::Write {
            self.at.mode = Mode::Read;
        } else {
            self.at.mode = Mode::Write;
            self.at.resource += 1;
        }
    }

    fn resource(&self) -> &'a Resource {
        &self.resources[self.at.resource as usize]
    }

    /// The number of bytes of the path that is walked for.
    pub(crate) fn path_bytes(&self) -> usize {
        self.resource().path.len()
    }

    fn depth(&self) -> usize {
        self.resource().path.depth()
    }

    /// Moves to the first span of the list, from the cursor on, that may have entries. `false` if there is no
    /// such span.
    pub(crate) fn next_span(&mut self, marks: Marks) -> bool {
        let depth = self.depth();
        let first_from = |level: u32| match marks.first_from(level as usize) {
            // The cast fits: a path has at most MAX_DEPTH segments.
            Some(marked) if level as usize <= depth => Some(marked.min(depth) as u32),
            _ => None,
        };
        let Some(mut level) = first_from(self.at.level) else {
            return false;
        };
        let is_start = self.at.level == 0 && self.at.after.is_none();
        if is_start && (level as usize) < depth {
            let unshared = self.first_unshared();
            match first_from(level.max(unshared)) {
                Some(first) => level = first,
                None => return false,
            }
        }
        self.at.level = level;
        true
    }

    /// The level of the first ancestor that the resource before this one did not share, or not visit.
    fn first_unshared(&self) -> u32 {
        let before = self.at.resource.checked_sub(1);
        match before.map(|before| &self.resources[before as usize]) {
            Some(before) if self.at.mode == Mode::Write || before.mode == Mode::Write => {
                let shared = self.resource().path.shared(Prefix::ROOT, &before.path);
                shared.depth as u32 + 1
            }
            _ => 0,
        }
    }

    /// Whether the span is the path of the resource and what is below it.
    pub(crate) fn is_at_subtree(&self) -> bool {
        self.at.level as usize == self.depth()
    }

    /// Finds where the span begins. Returns the number of bytes of its path.
    pub(crate) fn begin_span(&mut self) -> usize {
        let path = &self.resource().path;
        self.prefix = path.grow(self.prefix, self.at.level as usize);
        self.first.path.cut(path, self.prefix);
        self.prefix.len
    }

    /// Where the span begins.
    pub(crate) fn first(&self) -> &Key {
        &self.first
    }

    /// The last entry visited in the span; `None` at its start.
    pub(crate) fn after(&self) -> Option<&Key> {
        self.at.after.as_ref()
    }

    /// Whether an entry at this path, which is not before the span, belongs to it.
    pub(crate) fn holds(&self, other: &Path) -> bool {
        let own = &self.resource().path;
        if self.is_at_subtree() {
            own.contains(other)
        } else {
            own.is_at(self.prefix, other)
        }
    }

    /// Leaves the span. `beyond` is the path of the first entry behind it.
    ///
    /// A span that sorts before `beyond` has no entries, or `beyond` would not be the first. So a deep path is
    /// not searched level by level if nothing is locked above it.
    pub(crate) fn leave_span(&mut self, beyond: Option<&Path>) {
        let (path, depth) = (&self.resource().path, self.depth());
        let end = depth + 1;
        let next = match beyond {
            Some(beyond) if !self.is_at_subtree() && path.begins(self.prefix, beyond) => {
                let shared = path.shared(self.prefix, beyond);
                self.prefix = shared;
                if shared.depth == depth || shared.depth == beyond.depth() {
                    // It is an entry of this span.
                    shared.depth
                } else if path > beyond {
                    // The deeper spans sort behind `beyond`.
                    shared.depth + 1
                } else {
                    end
                }
            }
            _ => end,
        };
        self.at.after = None;
        self.at.level = next as u32;
    }

    /// Stops before the span, or before the next list.
    pub(crate) fn stop(self) -> Cursor {
        self.at
    }

    /// Stops at an entry of the span.
    pub(crate) fn stop_at(self, key: Key) -> Cursor {
        Cursor {
            after: Some(key),
            ..self.at
        }
    }
}
