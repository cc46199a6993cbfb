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
use crate::cursor::{Cursor, Key, Span};
use crate::error::LockError;
use crate::path::Path;
use crate::request::{Request, Watch};
use crate::event::Event;
use crate::resource::{Mode, Resource, ResourceSet};
use crate::stats::{RequestInfo, RequestState, Stats};
use crate::sync::{
    Arc, AtomicIsize, AtomicU64, AtomicUsize, CachePadded, Guard, Inserted, List, Ordering, fence,
    pin,
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
    /// Requests that had to wait and still do. Signed: a grant may be counted before its wait.
    waiting: CachePadded<AtomicIsize>,
    /// Happens when the table is closed.
    pub(crate) closed: Event<Arc<Waiter>>,
}

/// All entries of one mode.
struct Section {
    list: List<Key, Arc<Request>>,
    /// One bit for each depth at which there ever was an entry; the last for all from 63 on.
    /// Read by every walk, written a few times in the life of a manager: ancestors at depths that
    /// nobody ever locked are not looked up.
    depths: CachePadded<AtomicU64>,
}

/// The watches to serve and the waiters to wake that an operation has collected.
#[derive(Default)]
struct Work {
    /// The last is served first.
    watches: Vec<Watch>,
    wakes: Wakes,
}

impl Table {
    pub(crate) fn new(first_token: u64) -> Table {
        Table {
            clock: CachePadded::new(Clock::new(first_token)),
            writes: Section::new(),
            reads: Section::new(),
            beyond_first: CachePadded::new(AtomicUsize::new(0)),
            waiting: CachePadded::new(AtomicIsize::new(0)),
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
        self.serve(guard, |work, guard| self.advance(&request, cursor, work, guard));
        Ok(request)
    }

    /// Inserts all entries, then publishes the request. Returns where its walk starts.
    fn insert(&self, request: &Arc<Request>, guard: &Guard) -> Cursor {
        let [only] = &*request.resources else {
            for resource in request.resources.iter() {
                self.section(resource.mode).insert(resource, request, guard);
            }
            self.beyond_first.fetch_add(request.resources.len() - 1, Ordering::Relaxed);
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

    /// The part of leaving that needs no entries in the table.
    pub(crate) fn end(&self, request: &Arc<Request>, guard: Guard) {
        self.serve(guard, |work, _| {
            work.watches.extend(request.released.happen().into_iter().flatten());
            // After `released`, so that a listing never takes this for a grant.
            if !request.granted.has_happened() && request.granted.happen().is_some() {
                self.settle(request);
                request.bury_watch();
            }
        });
    }

    /// Takes a request off the count of those waiting, if it was on it (R4).
    fn settle(&self, request: &Request) {
        if request.waits_for() != 0 && request.ticket() < CLOSED {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Does the work, and what follows from it, then wakes those who were granted.
    ///
    /// All grants come first: a waiter that spins or polls need not wait for the waking of others.
    fn serve(&self, guard: Guard, first: impl FnOnce(&mut Work, &Guard)) {
        let mut work = Work::default();
        first(&mut work, &guard);
        while let Some(watch) = work.watches.pop() {
            self.advance(&watch.request, watch.cursor, &mut work, &guard);
        }
        drop(guard);
        drop(work.wakes);
    }

    /// Goes on with the walk of a request: it ends up watching the next request that it has to wait
    /// for, or granted.
    fn advance(&self, request: &Arc<Request>, cursor: Cursor, work: &mut Work, guard: &Guard) {
        if request.released.has_happened() {
            return;
        }
        let own = Some(request);
        let ticket = request.ticket();
        let Some((cursor, blocker)) = self.next_blocker(&request.resources, own, ticket, cursor, guard)
        else {
            return self.grant(request, work);
        };
        if request.about_to_watch(blocker) && ticket < CLOSED {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let watch = Watch {
            request: Arc::clone(request),
            cursor,
        };
        match blocker.released.subscribe(watch) {
            // It is gone. Our watch is in the list, unless another thread already serves it.
            Some(missed) => work.watches.extend(missed),
            None if request.released.has_happened() => request.bury_watch(),
            None => {}
        }
    }

    fn grant(&self, request: &Arc<Request>, work: &mut Work) {
        // Pairs with the removal of the entries that the walk did not meet any more: the skiplist
        // reads with consume ordering on some machines, which orders only what it points to, and
        // what the last holder wrote is elsewhere.
        fence(Ordering::Acquire);
        if let Some(waiters) = request.granted.happen() {
            self.settle(request);
            request.stop_watching();
            work.wakes.add(waiters);
        }
    }

    /// The next request, from the cursor on, that conflicts with these resources, comes before the
    /// ticket and is not released; with the cursor that stands on it.
    fn next_blocker<'g>(
        &'g self,
        resources: &[Resource],
        own: Option<&Arc<Request>>,
        ticket: u64,
        cursor: Cursor,
        guard: &'g Guard,
    ) -> Option<(Cursor, &'g Arc<Request>)> {
        let Cursor { resource: first, span: mut from, mut after } = cursor;
        for (index, resource) in resources.iter().enumerate().skip(first as usize) {
            for number in from as usize..Span::count(resource) {
                let (mode, ancestor) = Span::place(resource, number);
                let section = self.section(mode);
                if !section.may_have(ancestor, resource) {
                    continue;
                }
                let span = Span {
                    mode,
                    path: ancestor.map_or_else(|| resource.path.clone(), |level| resource.path.prefix(level)),
                    subtree: ancestor.is_none(),
                };
                let mut entry = match after.take() {
                    Some(key) => section.list.seek(Bound::Excluded(&key), guard),
                    // What was born after our ticket was drawn is later, and sorts before this.
                    None => section.list.seek(Bound::Included(&Key::first(span.path.clone(), ticket)), guard),
                };
                while let Some(here) = entry.filter(|here| span.holds(here.key())) {
                    let other = here.value();
                    let is_own = own.is_some_and(|own| Arc::ptr_eq(own, other));
                    if !is_own && other.order(&self.clock) < ticket && !other.released.has_happened() {
                        let cursor = Cursor {
                            resource: index as u32,
                            span: number as u32,
                            after: Some(here.key().clone()),
                        };
                        return Some((cursor, other));
                    }
                    entry = here.next();
                }
            }
            from = 0;
        }
        None
    }

    /// Whether a request for these resources would be granted if it came now.
    pub(crate) fn is_free(&self, resources: &[Resource]) -> bool {
        let guard = pin();
        let now = self.clock.now();
        self.next_blocker(resources, None, now, Cursor::START, &guard).is_none()
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self) {
        if self.clock.close() {
            Wakes::default().add(self.closed.happen().into_iter().flatten());
        }
    }

    /// A request for everything that comes after all that were not refused, and that nobody meets:
    /// it is granted when the table has drained.
    pub(crate) fn enter_last(&self) -> Arc<Request> {
        let everything = ResourceSet::One(Resource::write(Path::root()));
        let request = Arc::new(Request::with_ticket(everything, CLOSED, CLOSED));
        self.serve(pin(), |work, guard| self.advance(&request, Cursor::START, work, guard));
        request
    }

    pub(crate) fn stats(&self) -> Stats {
        let waiting = self.waiting.load(Ordering::Relaxed).max(0).unsigned_abs();
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
    pub(crate) fn next_listed(&self, place: &mut Option<(Mode, Option<Key>)>) -> Option<RequestInfo> {
        let guard = pin();
        while let Some((mode, after)) = place {
            let bound = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut entry = self.section(*mode).list.seek(bound, &guard);
            while let Some(here) = entry {
                let first = &here.value().resources[0];
                if first.mode == *mode && first.path == here.key().path
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
        state: if acquired { RequestState::Acquired } else { RequestState::Waiting },
        waits_for: (!acquired && blocker != 0).then_some(blocker),
    })
}

impl Section {
    fn new() -> Section {
        Section {
            list: List::new(),
            depths: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn insert<'a, 'g>(&'a self, resource: &Resource, request: &Arc<Request>, guard: &'g Guard) -> Inserted<'a, 'g, Key, Arc<Request>> {
        // T4. Relaxed: the mark is published by the draw, as the entry is. That another has set it
        // is as good: once read as set, it reads as set for whoever draws later.
        let mark = 1 << resource.path.depth().min(63);
        if self.depths.load(Ordering::Relaxed) & mark == 0 {
            self.depths.fetch_or(mark, Ordering::Relaxed);
        }
        self.list.insert(Key::of(resource, request), Arc::clone(request), guard)
    }

    /// Whether there can be entries at the ancestor of that depth or, for none, at the path or
    /// below it.
    fn may_have(&self, ancestor: Option<usize>, resource: &Resource) -> bool {
        let depths = self.depths.load(Ordering::Relaxed);
        match ancestor {
            Some(level) => depths & (1 << level.min(63)) != 0,
            None => depths >> resource.path.depth().min(63) != 0,
        }
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
    fn first(path: Path, birth: u64) -> Key {
        Key { path, birth, identity: 0 }
    }
}
