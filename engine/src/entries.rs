//! The entries of the lock table: each outstanding request under each of its resources, in order;
//! and the walk of a request over those that conflict.
//!
//! There are two ordered lists, one of writes and one of reads, so that everything that a walk
//! visits conflicts with the resource it walks for: a read never steps over another read.
//!
//! # Invariants
//! T1. A request is inserted under *all* its keys before anybody can draw its ticket.
//! T2. Only its owner removes an entry, before its watchers are advanced.
//! T3. The earlier, conflicting, outstanding requests of a request only become fewer. So what a
//!     walk has passed stays passed, and the walk may stop at one of them and go on from there.
//! T4. A depth is marked before an entry of that depth is inserted, and never unmarked.
//!
//! # Nobody is missed
//! If the ticket of R is smaller than that of S, R's number was drawn from the clock before S's,
//! and R was published before it was drawn. Draws are read-modify-writes of one word, so R's marks
//! and entries happen before S's walk, which sees every entry that is present throughout.

use crate::clock::{CLOSED, Clock};
use crate::cursor::{Cursor, Key, Marks, Span};
use crate::request::Request;
use crate::resource::{Mode, Resource};
use crate::stats::{RequestInfo, RequestState};
use crate::sync::{
    Arc, AtomicU64, CachePadded, Guard, Inserted, List, Ordering, fence, identity, pin,
};
use std::ops::Bound;

/// A request of so many resources helps to reclaim memory when it leaves, and again after so many
/// more: the epochs alone reclaim four entries for each operation, and fall behind for ever if there
/// are more.
const RECLAIM_FROM: usize = 4;
const RECLAIM_EVERY: usize = 256;

pub(crate) struct Entries {
    writes: Section,
    reads: Section,
}

/// All entries of one mode.
struct Section {
    list: List<Key, Arc<Request>>,
    /// See [`Marks`]. Read by every walk, written a few times in the life of a manager.
    marks: CachePadded<AtomicU64>,
}

/// For whom the table is walked.
pub(crate) struct Walk<'a> {
    pub(crate) resources: &'a [Resource],
    pub(crate) ticket: u64,
    /// The request itself, if it is in the table.
    pub(crate) own: Option<&'a Arc<Request>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn of(request: &'a Arc<Request>) -> Walk<'a> {
        Walk {
            resources: &request.resources,
            ticket: request.ticket(),
            own: Some(request),
        }
    }

    /// Whether it has to wait for another request that conflicts.
    fn waits_for(&self, other: &Arc<Request>, clock: &Clock) -> bool {
        !self.own.is_some_and(|own| Arc::ptr_eq(own, other))
            && other.order(clock) < self.ticket
            && !other.released.has_happened()
    }
}

impl Entries {
    pub(crate) fn new() -> Entries {
        Entries {
            writes: Section::new(),
            reads: Section::new(),
        }
    }

    /// How many there are; approximate while others insert and remove.
    pub(crate) fn len(&self) -> usize {
        self.writes.list.len() + self.reads.list.len()
    }

    fn section(&self, mode: Mode) -> &Section {
        match mode {
            Mode::Write => &self.writes,
            Mode::Read => &self.reads,
        }
    }

    /// Inserts all entries, then publishes the request. Returns where its walk starts.
    pub(crate) fn publish(&self, request: &Arc<Request>, clock: &Clock, guard: &Guard) -> Cursor {
        let [only] = &*request.resources else {
            for resource in request.resources.iter() {
                self.section(resource.mode).insert(resource, request, guard);
            }
            request.publish(clock);
            return Cursor::START;
        };
        let own = self.section(only.mode).insert(only, request, guard);
        let ticket = request.publish(clock);
        // If nobody drew between our birth and our ticket, then every entry at our path that sorts
        // before ours was born later or with us, hence drew later: only what sorts after ours
        // matters, and one step shows whether there is anything of our subtree.
        let own_writes_are_clear = only.mode == Mode::Write
            && ticket == request.birth
            && !own.next_is(|next| only.path.contains(&next.path));
        if own_writes_are_clear {
            Cursor::PAST_OWN_WRITES
        } else {
            Cursor::START
        }
    }

    /// Removes all entries of a request. By its owner (T2).
    pub(crate) fn remove(&self, request: &Arc<Request>, guard: &Guard) {
        for (index, resource) in request.resources.iter().enumerate() {
            let key = Key::of(resource, request);
            self.section(resource.mode).list.remove(&key, guard);
            if index % RECLAIM_EVERY == RECLAIM_FROM - 1 {
                guard.flush();
            }
        }
    }

    /// The next request, from the cursor on, that a walk has to wait for, and the cursor that
    /// stands on it. `None`: there is none, nor will there ever be.
    pub(crate) fn next_blocker<'g>(
        &'g self,
        walk: &Walk<'_>,
        clock: &Clock,
        cursor: Cursor,
        guard: &'g Guard,
    ) -> Option<(Cursor, &'g Arc<Request>)> {
        let mut from = cursor;
        let rest = walk
            .resources
            .iter()
            .enumerate()
            .skip(from.resource as usize);
        for (index, resource) in rest {
            for (table, mode) in resource
                .mode
                .meets()
                .iter()
                .enumerate()
                .skip(from.table as usize)
            {
                let section = self.section(*mode);
                let marks = Marks(section.marks.load(Ordering::Relaxed));
                let spans = marks.spans(&resource.path);
                let mut number = from.span;
                while number < spans {
                    if !marks.may_have(&resource.path, number) {
                        number += 1;
                        continue;
                    }
                    let span = Span::new(&resource.path, number);
                    let bound = match &from.after {
                        Some(key) => Bound::Excluded(key),
                        // What was born after the ticket was drawn is later, and sorts before this.
                        None => Bound::Included(&Key::first(&span, walk.ticket)),
                    };
                    let mut entry = section.list.seek(bound, guard);
                    while let Some(here) = entry.as_ref().filter(|here| span.holds(here.key())) {
                        let other = here.value();
                        if walk.waits_for(other, clock) {
                            let cursor = Cursor {
                                resource: index as u32,
                                table: table as u32,
                                span: number,
                                after: Some(here.key().clone()),
                            };
                            fence_after_walk();
                            return Some((cursor, other));
                        }
                        entry = here.next();
                    }
                    from.after = None;
                    number = match entry {
                        _ if number == 0 => 1,
                        Some(beyond) => Span::next(&resource.path, number, &beyond.key().path),
                        None => spans,
                    };
                }
                from.span = 0;
            }
            from.table = 0;
        }
        fence_after_walk();
        None
    }

    /// The next outstanding request after the given place of the listing, and its place.
    ///
    /// A request is listed at the first of its resources. Each step pins anew: a listing may be
    /// read slowly.
    pub(crate) fn next_listed(
        &self,
        place: &mut Option<(Mode, Option<Key>)>,
    ) -> Option<RequestInfo> {
        let guard = pin();
        while let Some((mode, after)) = place {
            let bound = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut entry = self.section(*mode).list.seek(bound, &guard);
            while let Some(here) = entry {
                let first = &here.value().resources[0];
                if first.mode == *mode
                    && first.path == here.key().path
                    && let Some(info) = info(here.value())
                {
                    *after = Some(here.key().clone());
                    return Some(info);
                }
                entry = here.next();
            }
            *place = (*mode == Mode::Write).then_some((Mode::Read, None));
        }
        None
    }
}

/// Pairs with the removal of entries that the walk did not meet any more. The skiplist reads with
/// consume ordering on some machines, which orders only what is reached through it; what the last
/// holder wrote is elsewhere.
fn fence_after_walk() {
    fence(Ordering::Acquire);
}

/// What a listing says of a request; `None` if it is entering, refused or gone.
fn info(request: &Request) -> Option<RequestInfo> {
    let token = request.ticket();
    let acquired = request.granted.has_happened();
    // In this order: a withdrawal also makes `granted` happen, after `released`.
    if token >= CLOSED || request.released.has_happened() {
        return None;
    }
    let blocker = request.waits_for();
    Some(RequestInfo {
        token,
        resources: request.resources.to_vec(),
        state: if acquired {
            RequestState::Acquired
        } else {
            RequestState::Waiting
        },
        waits_for: (!acquired && blocker != 0).then_some(blocker),
    })
}

impl Section {
    fn new() -> Section {
        Section {
            list: List::new(),
            marks: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn mark(&self, resource: &Resource) {
        // T4. Relaxed: the mark is published by the draw, as the entry is. That another has set it
        // is as good: once read as set, it reads as set for whoever draws later.
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
            .insert(Key::of(resource, request), Arc::clone(request), guard)
    }
}

impl Key {
    fn of(resource: &Resource, request: &Arc<Request>) -> Key {
        Key {
            path: resource.path.clone(),
            birth: request.birth,
            identity: identity(request),
        }
    }

    /// Sorts before the keys of the path that were born at that time or earlier.
    fn first(span: &Span, birth: u64) -> Key {
        Key {
            path: span.path.clone(),
            birth,
            identity: 0,
        }
    }
}
