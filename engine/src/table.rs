//! The lock table: every outstanding request under each of its resources, and how requests enter
//! it, advance in it and leave it.
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
use crate::error::LockError;
use crate::event::{Event, Subscribers};
use crate::path::Path;
use crate::request::{Request, Watch};
use crate::resource::{Mode, Resource, ResourceSet};
use crate::stats::{RequestInfo, RequestState, Stats};
use crate::sync::{
    Arc, AtomicU64, AtomicUsize, CachePadded, Guard, Inserted, List, Ordering, fence, pin,
};
use crate::waiter::{Waiter, Wakes};
use std::ops::Bound;

pub(crate) struct Table {
    pub(crate) clock: CachePadded<Clock>,
    writes: Section,
    reads: Section,
    /// Resources beyond the first of each request: with the lengths of the lists, this counts the
    /// requests, and costs a request of one resource nothing.
    beyond_first: CachePadded<AtomicUsize>,
    /// Requests that had to wait and still do.
    waiting: CachePadded<AtomicUsize>,
    /// Happens when the table is closed.
    pub(crate) closed: Event<Arc<Waiter>>,
}

/// All entries of one mode.
struct Section {
    list: List<Key, Arc<Request>>,
    /// See [`Marks`]. Read by every walk, written a few times in the life of a manager.
    marks: CachePadded<AtomicU64>,
}

/// For whom the table is walked.
struct Walk<'a> {
    resources: &'a [Resource],
    ticket: u64,
    /// The request itself, if it is in the table.
    own: Option<&'a Arc<Request>>,
}

impl<'a> Walk<'a> {
    fn of(request: &'a Arc<Request>) -> Walk<'a> {
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

impl Table {
    pub(crate) fn new(first_token: u64) -> Table {
        Table {
            clock: CachePadded::new(Clock::new(first_token)),
            writes: Section::new(),
            reads: Section::new(),
            beyond_first: CachePadded::new(AtomicUsize::new(0)),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            closed: Event::new(),
        }
    }

    fn section(&self, mode: Mode) -> &Section {
        match mode {
            Mode::Write => &self.writes,
            Mode::Read => &self.reads,
        }
    }

    /// Queues a request for these resources.
    pub(crate) fn enter(&self, resources: ResourceSet) -> Result<Arc<Request>, LockError> {
        let birth = self.clock.now();
        if birth & CLOSED != 0 {
            return Err(LockError::Closed);
        }
        let request = Arc::new(Request::new(resources, birth));
        let guard = pin();
        let cursor = self.insert(&request, &guard);
        if request.ticket() & CLOSED != 0 {
            drop(guard);
            self.leave(&request);
            return Err(LockError::Closed);
        }
        match self.next_blocker(&Walk::of(&request), cursor, &guard) {
            None => request.granted.happen_unseen(),
            Some((cursor, blocker)) => {
                let missed = self.watch(&request, cursor, blocker);
                self.serve(missed, guard);
            }
        }
        Ok(request)
    }

    /// Inserts all entries, then publishes the request. Returns where its walk starts.
    fn insert(&self, request: &Arc<Request>, guard: &Guard) -> Cursor {
        let [only] = &*request.resources else {
            for resource in request.resources.iter() {
                self.section(resource.mode).insert(resource, request, guard);
            }
            self.beyond_first
                .fetch_add(request.resources.len() - 1, Ordering::Relaxed);
            request.publish(&self.clock);
            return Cursor::START;
        };
        let own = self.section(only.mode).insert(only, request, guard);
        let ticket = request.publish(&self.clock);
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

    /// Ends a request: releases it, or withdraws it if it still waits.
    pub(crate) fn leave(&self, request: &Arc<Request>) {
        let guard = pin();
        // T2: whoever is advanced below does not meet these entries again.
        for resource in request.resources.iter() {
            let key = Key::of(resource, request);
            self.section(resource.mode).list.remove(&key, &guard);
        }
        if let Some(beyond_first @ 1..) = request.resources.len().checked_sub(1) {
            self.beyond_first.fetch_sub(beyond_first, Ordering::Relaxed);
        }
        self.end(request, guard);
    }

    /// The part of leaving that is not about entries.
    pub(crate) fn end(&self, request: &Arc<Request>, guard: Guard) {
        let watches = request.released.happen();
        // After `released`, so that a listing never takes this for a grant.
        if !request.granted.has_happened() && request.granted.happen().is_some() {
            self.settle(request);
            request.bury_watch();
        }
        if watches.as_ref().is_some_and(|watches| !watches.is_empty()) {
            self.serve(watches, guard);
        }
    }

    /// Advances the requests that watched one that is gone, and those found on the way; then wakes
    /// those that were granted.
    ///
    /// All grants come before the first wake: who spins or polls need not wait for other wake-ups.
    fn serve(&self, watches: Option<Subscribers<Watch>>, guard: Guard) {
        // The newest comes first, the last is served first.
        let mut watches: Vec<Watch> = watches.into_iter().flatten().collect();
        let mut wakes = Wakes::default();
        while let Some(Watch { request, cursor }) = watches.pop() {
            if request.released.has_happened() {
                continue;
            }
            match self.next_blocker(&Walk::of(&request), cursor, &guard) {
                None => wakes.add(self.grant(&request)),
                Some((cursor, blocker)) => {
                    watches.extend(self.watch(&request, cursor, blocker).into_iter().flatten());
                }
            }
        }
        drop(guard);
        wakes.wake();
    }

    fn grant(&self, request: &Request) -> impl Iterator<Item = Arc<Waiter>> + use<> {
        let waiters = request.granted.happen();
        // Otherwise it was withdrawn at this moment.
        if waiters.is_some() {
            self.settle(request);
            request.forget_watched();
        }
        waiters.into_iter().flatten()
    }

    /// Takes a request off the count of those waiting (R4).
    fn settle(&self, request: &Request) {
        if request.is_counted() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets the request wait until the blocker is released. The result is to be served.
    fn watch(
        &self,
        request: &Arc<Request>,
        cursor: Cursor,
        blocker: &Arc<Request>,
    ) -> Option<Subscribers<Watch>> {
        if request.about_to_watch(blocker) && request.is_counted() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let watch = Watch {
            request: Arc::clone(request),
            cursor,
        };
        let missed = blocker.released.subscribe(watch);
        if missed.is_none() && request.released.has_happened() {
            request.bury_watch();
        }
        missed
    }

    /// The next request, from the cursor on, that a walk has to wait for, and the cursor that
    /// stands on it. `None`: there is none, nor will there ever be.
    fn next_blocker<'g>(
        &'g self,
        walk: &Walk<'_>,
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
                for number in from.span..marks.spans(&resource.path) {
                    if !marks.may_have(&resource.path, number) {
                        continue;
                    }
                    let span = Span::new(&resource.path, number);
                    let bound = match &from.after {
                        Some(key) => Bound::Excluded(key),
                        // What was born after the ticket was drawn is later, and sorts before this.
                        None => Bound::Included(&Key::first(&span, walk.ticket)),
                    };
                    let mut entry = section.list.seek(bound, guard);
                    while let Some(here) = entry.filter(|here| span.holds(here.key())) {
                        let other = here.value();
                        if walk.waits_for(other, &self.clock) {
                            let cursor = Cursor {
                                resource: index as u32,
                                table: table as u32,
                                span: number,
                                after: Some(here.key().clone()),
                            };
                            return Some((cursor, other));
                        }
                        entry = here.next();
                    }
                    from.after = None;
                }
                from.span = 0;
            }
            from.table = 0;
        }
        // Pairs with the removal of entries that the walk did not meet any more. The skiplist reads
        // with consume ordering on some machines, which orders only what is reached through it;
        // what the last holder wrote is elsewhere.
        fence(Ordering::Acquire);
        None
    }

    /// Whether a request for these resources would be granted if it came now.
    pub(crate) fn is_free(&self, resources: &[Resource]) -> bool {
        let walk = Walk {
            resources,
            ticket: self.clock.now(),
            own: None,
        };
        self.next_blocker(&walk, Cursor::START, &pin()).is_none()
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self) {
        if self.clock.close() {
            let mut wakes = Wakes::default();
            wakes.add(self.closed.happen().into_iter().flatten());
            wakes.wake();
        }
    }

    /// A request for everything that comes after all that were not refused, and that nobody meets:
    /// it is granted when the table has drained.
    pub(crate) fn enter_last(&self) -> Arc<Request> {
        let everything = ResourceSet::One(Resource::write(Path::root()));
        let request = Arc::new(Request::with_ticket(everything, CLOSED, CLOSED));
        let watch = Watch {
            request: Arc::clone(&request),
            cursor: Cursor::START,
        };
        self.serve(Some(Subscribers::one(watch)), pin());
        request
    }

    pub(crate) fn stats(&self) -> Stats {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let resources = self.writes.list.len() + self.reads.list.len();
        let requests = resources.saturating_sub(self.beyond_first.load(Ordering::Relaxed));
        let clock = self.clock.now();
        Stats {
            acquired: requests.saturating_sub(waiting),
            waiting,
            resources,
            last_token: (clock & !CLOSED) - 1,
            closed: clock & CLOSED != 0,
        }
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

    fn insert<'a, 'g>(
        &'a self,
        resource: &Resource,
        request: &Arc<Request>,
        guard: &'g Guard,
    ) -> Inserted<'a, 'g, Key, Arc<Request>> {
        // T4. Relaxed: the mark is published by the draw, as the entry is. That another has set it
        // is as good: once read as set, it reads as set for whoever draws later.
        let mark = Marks::of(resource.path.depth());
        if self.marks.load(Ordering::Relaxed) & mark == 0 {
            self.marks.fetch_or(mark, Ordering::Relaxed);
        }
        self.list
            .insert(Key::of(resource, request), Arc::clone(request), guard)
    }
}

impl Key {
    fn of(resource: &Resource, request: &Arc<Request>) -> Key {
        Key {
            path: resource.path.clone(),
            birth: request.birth,
            identity: crate::sync::identity(request),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn enter(table: &Table, mode: Mode) -> Arc<Request> {
        let path = Path::from(["a"]);
        let resource = Resource { path, mode };
        table.enter(ResourceSet::One(resource)).unwrap()
    }

    #[test]
    fn withdrawn_requests_do_not_pile_up_behind_a_held_lock() {
        let table = Table::new(1);
        let holder = enter(&table, Mode::Write);
        for _ in 0..10_000 {
            table.leave(&enter(&table, Mode::Read));
            assert!(holder.released.subscribers() < 40);
        }
        let waiting: Vec<_> = (0..10_000).map(|_| enter(&table, Mode::Read)).collect();
        assert!(holder.released.subscribers() >= 10_000);
        for request in &waiting {
            table.leave(request);
        }
        assert!(
            holder.released.subscribers() < 40,
            "without anybody coming or going"
        );
        table.leave(&holder);
    }

    #[test]
    fn a_long_queue_is_left_in_any_order() {
        let table = Table::new(1);
        let mut queue: Vec<_> = (0..50_000).map(|_| enter(&table, Mode::Write)).collect();
        for request in queue.drain(..).rev() {
            table.leave(&request);
        }
        assert_eq!(table.stats().resources, 0);
    }

    #[test]
    fn a_parent_moves_along_its_children() {
        let table = Table::new(1);
        let child = |i: u32| Resource::write(["a".to_owned(), i.to_string()]);
        let children: Vec<_> = (0..1000)
            .map(|i| table.enter(ResourceSet::One(child(i))).unwrap())
            .collect();
        let parent = enter(&table, Mode::Write);
        for child in &children {
            assert!(!parent.granted.has_happened());
            table.leave(child);
        }
        assert!(parent.granted.has_happened());
        table.leave(&parent);
    }
}
