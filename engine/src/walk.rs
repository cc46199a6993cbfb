//! The walk of a request over the parts of the lists in which conflicts can be.
//!
//! For each resource in turn, a walk visits the list of writes and then, for a write, the list of reads.
//! In each list it visits *spans*, and skips the spans that have no entries:
//!
//! ```text
//!   ┌────────────┬──────┬──────────┬───┬────────┐
//!   │ the path   │ root │ ancestor │ … │ parent │
//!   │ and below  │      │ at 1     │   │        │
//!   └────────────┴──────┴──────────┴───┴────────┘
//!      Subtree     Ancestor(0)  (1)   …  (depth - 1)
//! ```

use crate::key::{Key, Marks};
use crate::path::Path;
use crate::resource::{Mode, Resource};

/// A part of a list whose entries all conflict with the resource that is walked for.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    /// The entries at the path of the resource and below it.
    Subtree,
    /// The entries at the ancestor of this depth, without those below it.
    Ancestor(u32),
}

impl Span {
    /// The first span from this one on that may have entries. `None` if there is no such span, as behind the parent.
    fn or_next(self, path: &Path, marks: Marks) -> Option<Span> {
        let depth = match self {
            Span::Subtree if marks.any_from(path.depth()) => return Some(Span::Subtree),
            Span::Subtree => 0,
            Span::Ancestor(depth) => depth as usize,
        };
        let next = marks.first_from(depth)?;
        // The cast fits: a path has at most MAX_DEPTH segments.
        (next < path.depth()).then_some(Span::Ancestor(next as u32))
    }

    fn next(self) -> Span {
        match self {
            Span::Subtree => Span::Ancestor(0),
            Span::Ancestor(depth) => Span::Ancestor(depth + 1),
        }
    }

    /// The path of the span in a walk for this path.
    pub(crate) fn path(self, path: &Path) -> Path {
        match self {
            Span::Subtree => path.clone(),
            Span::Ancestor(depth) => path.prefix(depth as usize),
        }
    }

    /// Whether an entry at `other` belongs to the span whose path is `own`.
    pub(crate) fn holds(self, own: &Path, other: &Path) -> bool {
        match self {
            Span::Subtree => own.contains(other),
            Span::Ancestor(_) => own == other,
        }
    }
}

/// Where a walk goes on: everything that it depends on.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// The index of one of the request's resources.
    resource: u32,
    /// One of the lists that the resource meets.
    mode: Mode,
    span: Span,
    /// The last entry visited in that span; `None` at its start.
    after: Option<Key>,
}

impl Cursor {
    pub(crate) const START: Cursor = Cursor {
        resource: 0,
        mode: Mode::Write,
        span: Span::Subtree,
        after: None,
    };

    /// Behind the subtree of the first resource, in the list of writes.
    pub(crate) const PAST_OWN_WRITES: Cursor = Cursor {
        span: Span::Ancestor(0),
        ..Cursor::START
    };
}

/// A cursor that moves from span to span over the resources of a request.
pub(crate) struct Walk<'a> {
    resources: &'a [Resource],
    at: Cursor,
    /// The marks of the list in which the cursor is; `None` until they are read.
    marks: Option<Marks>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(resources: &'a [Resource], from: Cursor) -> Walk<'a> {
        Walk {
            resources,
            at: from,
            marks: None,
        }
    }

    /// Moves to the first span from the cursor on that may have entries: the path of the resource, and
    /// the span. Reads the marks of a list when it comes there.
    pub(crate) fn next_span(&mut self, marks: impl Fn(Mode) -> Marks) -> Option<(&'a Path, Span)> {
        loop {
            let resource = self.resources.get(self.at.resource as usize)?;
            let marks = *self.marks.get_or_insert_with(|| marks(self.at.mode));
            if let Some(span) = self.at.span.or_next(&resource.path, marks) {
                self.at.span = span;
                return Some((&resource.path, span));
            }
            self.next_list(resource.mode);
        }
    }

    fn next_list(&mut self, mode: Mode) {
        self.marks = None;
        self.at.span = Span::Subtree;
        self.at.after = None;
        if mode == Mode::Write && self.at.mode == Mode::Write {
            self.at.mode = Mode::Read;
        } else {
            self.at.mode = Mode::Write;
            self.at.resource += 1;
        }
    }

    /// Leaves the span. `beyond` is the path of the first entry behind it.
    ///
    /// An ancestor that sorts between the span and `beyond` has no entries, or `beyond` would not be the
    /// first. So a deep path is not searched level by level if nothing is locked above it.
    pub(crate) fn leave_span(&mut self, path: &Path, beyond: Option<&Path>) {
        let next = self.at.span.next();
        self.at.after = None;
        self.at.span = match (self.at.span, beyond) {
            (Span::Subtree, _) => next,
            (Span::Ancestor(_), None) => Span::Ancestor(path.depth() as u32),
            (Span::Ancestor(depth), Some(beyond)) => {
                let (common, is_ancestor) = path.common(beyond);
                let first = if is_ancestor {
                    common
                } else if *path > *beyond {
                    // All deeper ancestors sort behind `beyond`.
                    common + 1
                } else {
                    // All deeper ancestors sort before `beyond`.
                    path.depth()
                };
                Span::Ancestor((first as u32).max(depth + 1))
            }
        };
    }

    /// The list of the span.
    pub(crate) fn mode(&self) -> Mode {
        self.at.mode
    }

    /// The last entry visited in the span; `None` at its start.
    pub(crate) fn after(&self) -> Option<&Key> {
        self.at.after.as_ref()
    }

    /// Stops where it is.
    pub(crate) fn stop(self) -> Cursor {
        self.at
    }

    /// Stops at an entry of the span.
    pub(crate) fn stop_at(self, key: &Key) -> Cursor {
        Cursor {
            after: Some(key.clone()),
            ..self.at
        }
    }
}
