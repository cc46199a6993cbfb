//! The entries of the lock table: each outstanding request under each of its resources, in order; and
//! the search for the requests that another one has to wait for.
//!
//! There are two ordered lists, one of writes and one of reads. So every entry that a walk visits conflicts
//! with the resource it walks for: a read never steps over another read.
//!
//! # Invariants
//! T1. A request is inserted under *all* its keys before any thread can draw its ticket.
//! T2. Only its owner removes an entry, before its watchers are advanced.
//! T3. The earlier, conflicting, outstanding requests of a request only become fewer. So a walk never has to
//!     go back: it may stop at one of them and go on from there.
//! T4. A depth is marked before an entry of that depth is inserted, and never unmarked.
//!
//! # No request is missed
//! If the ticket of R is smaller than that of S, then R's number was drawn from the clock before S's, and
//! R was published before it was drawn. Draws are read-modify-writes of one word. So R's marks and entries
//! happen before S's walk, which sees every entry that is present throughout.

use crate::budget::Budget;
use crate::clock::Clock;
use crate::key::{Key, Marks};
use crate::request::Request;
use crate::resource::{Mode, Resource};
use crate::sync::{Arc, AtomicU64, CachePadded, Guard, Inserted, List, Ordering, fence, identity};
use crate::walk::{Cursor, Walk};
use std::hash::RandomState;
use std::ops::Bound;

/// A request with this many resources helps to reclaim memory when it leaves, and again after each
/// [`RECLAIM_EVERY`] more. The epochs alone reclaim four entries for each operation, and would fall ever
/// further behind.
const RECLAIM_FROM: usize = 4;
const RECLAIM_EVERY: usize = 256;
/// The nanoseconds of such a help.
const RECLAIM: u64 = 50_000;

pub(crate) struct Entries {
    writes: Section,
    reads: Section,
    /// Hides the addresses in the places of listings.
    pub(crate) secret: RandomState,
}

/// All entries of one mode.
struct Section {
    list: List<Key, Arc<Request>>,
    /// See [`Marks`]. Read by every walk, written a few times in the life of a manager.
    marks: CachePadded<AtomicU64>,
}

/// The request for which the table is walked.
pub(crate) struct Walker<'a> {
    pub(crate) resources: &'a [Resource],
    pub(crate) ticket: u64,
    /// The request itself, if it is in the table.
    pub(crate) own: Option<&'a Arc<Request>>,
}

impl<'a> Walker<'a> {
    pub(crate) fn of(request: &'a Arc<Request>) -> Walker<'a> {
        Walker {
            resources: &request.resources,
            ticket: request.ticket(),
            own: Some(request),
        }
    }

    /// Whether it has to wait for another request that conflicts.
    fn waits_for(&self, other: &Arc<Request>, clock: &Clock) -> bool {
        !self.own.is_some_and(|own| Arc::ptr_eq(own, other))
            && other.order(clock) < self.ticket
            && !other.released.is_set()
    }
}

/// Where a walk ends or pauses.
pub(crate) enum Found<'g> {
    /// A request that the walker has to wait for, and the cursor that stands on it.
    Blocker(Cursor, &'g Arc<Request>),
    /// There is no such request, and there never will be.
    Nothing,
    /// The budget is spent. The walk goes on at this cursor.
    Paused(Cursor),
}

impl Entries {
    pub(crate) fn new() -> Entries {
        Entries {
            writes: Section::new(),
            reads: Section::new(),
            secret: RandomState::new(),
        }
    }

    /// The number of entries; approximate while other threads insert and remove.
    pub(crate) fn len(&self) -> usize {
        self.writes.list.len() + self.reads.list.len()
    }

    /// The entries of one mode, in order.
    pub(crate) fn list(&self, mode: Mode) -> &List<Key, Arc<Request>> {
        &self.section(mode).list
    }

    fn section(&self, mode: Mode) -> &Section {
        match mode {
            Mode::Write => &self.writes,
            Mode::Read => &self.reads,
        }
    }

    /// Inserts entries, beginning with the one of this index. Once all are inserted, publishes the request and
    /// returns the start of its walk.
    pub(crate) fn publish(
        &self,
        request: &Arc<Request>,
        inserted: &mut usize,
        clock: &Clock,
        budget: &mut Budget,
        guard: &Guard,
    ) -> Option<Cursor> {
        let [only] = &*request.resources else {
            while let Some(resource) = request.resources.get(*inserted) {
                if budget.is_spent() {
                    return None;
                }
                self.section(resource.mode).insert(resource, request, guard);
                *inserted += 1;
                budget.search(resource.path.as_bytes().len());
            }
            request.publish(clock);
            return Some(Cursor::START);
        };
        *inserted = 1;
        budget.search(only.path.as_bytes().len());
        let own = self.section(only.mode).insert(only, request, guard);
        let ticket = request.publish(clock);
        // If no other ticket was drawn between our birth and our ticket, then every entry at our path that
        // sorts before ours has our birth or a later one, hence a later ticket. So only entries behind ours
        // matter, and one step shows whether there are any in our subtree.
        let own_writes_are_clear = only.mode == Mode::Write
            && ticket == request.birth
            && !own.next_is(|next| only.path.contains(&next.path));
        Some(if own_writes_are_clear {
            Cursor::PAST_OWN_WRITES
        } else {
            Cursor::START
        })
    }

    /// Removes entries of a request of which the first `left` ones are inserted, the last one first: a request is
    /// listed at its first entry. Only its owner may call this (T2).
    pub(crate) fn remove(
        &self,
        request: &Arc<Request>,
        left: &mut usize,
        budget: &mut Budget,
        guard: &Guard,
    ) {
        for (index, resource) in request.resources[..*left].iter().enumerate().rev() {
            let key = key_of(resource, request);
            self.section(resource.mode).list.remove(&key, guard);
            *left = index;
            budget.search(resource.path.as_bytes().len());
            if index % RECLAIM_EVERY == RECLAIM_FROM - 1 {
                guard.flush();
                budget.spend(RECLAIM);
            }
            if budget.is_spent() {
                return;
            }
        }
    }

    /// The next request, from the cursor on, that the walker has to wait for.
    pub(crate) fn next_blocker<'g>(
        &'g self,
        walker: &Walker<'_>,
        clock: &Clock,
        cursor: Cursor,
        budget: &mut Budget,
        guard: &'g Guard,
    ) -> Found<'g> {
        let mut walk = Walk::new(walker.resources, cursor);
        while let Some((path, span)) = walk.next_span(|mode| self.section(mode).marks()) {
            // Entries born after the ticket was drawn are later requests, and sort before this key.
            let first = Key::first(span.path(path), walker.ticket);
            let bound = walk
                .after()
                .map_or(Bound::Included(&first), Bound::Excluded);
            let mut entry = self.section(walk.mode()).list.seek(bound, guard);
            budget.search(first.path.as_bytes().len());
            while let Some(here) = entry
                .as_ref()
                .filter(|here| span.holds(&first.path, &here.key().path))
            {
                if walker.waits_for(here.value(), clock) {
                    fence_after_walk();
                    return Found::Blocker(walk.stop_at(here.key()), here.value());
                }
                budget.step(first.path.as_bytes().len());
                if budget.is_spent() {
                    fence_after_walk();
                    return Found::Paused(walk.stop_at(here.key()));
                }
                entry = here.next();
            }
            walk.leave_span(path, entry.as_ref().map(|beyond| &beyond.key().path));
            if budget.is_spent() {
                fence_after_walk();
                return Found::Paused(walk.stop());
            }
        }
        fence_after_walk();
        Found::Nothing
    }
}

/// Pairs with the removal of entries that the walk no longer met. On some machines the skiplist
/// reads with consume ordering, which orders only the data reached through the pointer. The data that the
/// last holder wrote is elsewhere.
fn fence_after_walk() {
    fence(Ordering::Acquire);
}

impl Section {
    fn new() -> Section {
        Section {
            list: List::new(),
            marks: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn marks(&self) -> Marks {
        Marks(self.marks.load(Ordering::Relaxed))
    }

    fn mark(&self, resource: &Resource) {
        // T4. Relaxed: the draw publishes the mark, as it publishes the entry. A mark that another request
        // has set is enough: if we read it as set, then so does every walk with a later ticket.
        let mark = Marks::of(resource.path.depth());
        if self.marks.load(Ordering::Relaxed) & mark == 0 {
            self.marks.fetch_or(mark, Ordering::Relaxed);
        }
    }

    fn insert<'a, 'g>(
        &'a self,
        resource: &Resource,
        request: &Arc<Request>,
        guard: &'g Guard,
    ) -> Inserted<'a, 'g, Key, Arc<Request>> {
        self.mark(resource);
        self.list
            .insert(key_of(resource, request), Arc::clone(request), guard)
    }
}

fn key_of(resource: &Resource, request: &Arc<Request>) -> Key {
    Key {
        path: resource.path.clone(),
        birth: request.birth,
        identity: identity(request),
    }
}
