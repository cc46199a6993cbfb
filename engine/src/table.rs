//! The lock table: how requests enter it, wait in it and leave it.
//!
//! A request that has to wait watches one other request, the first one on its walk over the [`Entries`].
//! The thread that ends that other request *serves* the watch: the walk goes on, to the next request to
//! watch or to the grant. Release and withdrawal are the same operation.

mod serve;

use crate::arms::Arms;
use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::clock::{CLOSED, Clock};
use crate::entries::Entries;
use crate::error::LockError;
use crate::event::{Announced, Event};
use crate::path::Path;
use crate::request::{Request, Watch};
use crate::resource::{Resource, ResourceSet};
use crate::stats::Stats;
use crate::sync::{Arc, CachePadded, Counter, Guard, pin};
use crate::waiter::Waiter;
use crate::walk::Cursor;
use crate::walker::{Found, Met, Walker};
use std::ops::Range;

pub(crate) struct Table {
    pub(crate) clock: CachePadded<Clock>,
    pub(crate) entries: Entries,
    /// The number of resources beyond the first of each request. The number of requests follows from it
    /// and the lengths of the lists, at no cost for a request of one resource.
    beyond_first: CachePadded<Counter>,
    /// The number of waiting requests.
    waiting: CachePadded<Counter>,
    pub(crate) arms: Arms,
    /// Set when the table is closed.
    pub(crate) closed: Event<Waiter>,
}

/// A request that enters.
pub(crate) struct Entry {
    pub(crate) request: Arc<Request>,
    /// The number of its entries in the table. They are the first ones.
    pub(crate) inserted: usize,
    /// Where its walk goes on after a pause.
    walk: Option<Cursor>,
}

impl Entry {
    /// A request that has its place in line, and that has not walked yet.
    pub(crate) fn walks(request: Arc<Request>) -> Entry {
        Entry {
            inserted: request.resources.len(),
            request,
            walk: Some(Cursor::START),
        }
    }
}

/// How far a walk has come.
enum Walked {
    /// The request may be granted.
    Free,
    /// It must watch another one. The cursor stands there.
    Blocked(Cursor, Blocker),
    /// The budget is spent. The walk goes on at this cursor.
    Paused(Cursor),
}

/// A request to watch: the watch is announced, and the request had this ticket after that.
struct Blocker {
    request: Arc<Request>,
    ticket: u64,
    place: Announced,
}

impl Table {
    /// An empty table. Each list has so many pairs of counters, a power of two.
    pub(crate) fn new(first_token: u64, counters: usize) -> Table {
        Table {
            clock: CachePadded::new(Clock::new(first_token)),
            entries: Entries::new(counters),
            beyond_first: CachePadded::new(Counter::new()),
            waiting: CachePadded::new(Counter::new()),
            arms: Arms::new(),
            closed: Event::new(),
        }
    }

    /// The ticket of the next request, or a smaller one.
    #[inline(always)]
    pub(crate) fn next_ticket(&self) -> Result<u64, LockError> {
        let now = self.clock.now();
        if now & CLOSED == 0 {
            Ok(now)
        } else {
            Err(LockError::Closed)
        }
    }

    /// Begins to enter a request for these resources.
    #[inline(always)]
    pub(crate) fn begin(&self, resources: ResourceSet) -> Result<Entry, LockError> {
        let birth = self.next_ticket()?;
        Ok(Entry {
            request: Arc::new(Request::new(resources, birth.cast_signed())),
            inserted: 0,
            walk: None,
        })
    }

    /// Does a part of the entering; `None` if there is more to do. At the end the request is granted, or it watches
    /// another one. A refused request must leave again.
    ///
    /// The caller completes the backlog once the request has an owner that takes it out again: a waker may panic.
    #[inline(always)]
    pub(crate) fn enter_in_part(
        &self,
        entry: &mut Entry,
        met: Option<&mut Met>,
        backlog: &mut Backlog,
        budget: &mut Budget,
        guard: &Guard,
    ) -> Option<Result<(), LockError>> {
        let Entry {
            request,
            inserted,
            walk,
        } = entry;
        let is_first_walk = walk.is_none();
        let (newest, cursor) = match walk.take() {
            Some(cursor) => (None, cursor),
            None => {
                let before = *inserted;
                let newest = (self.entries).publish(request, inserted, &self.clock, budget, guard);
                self.count_beyond_first(before..*inserted, Counter::add);
                (newest?, Cursor::START)
            }
        };
        if request.ticket() & CLOSED != 0 && is_first_walk {
            return Some(Err(LockError::Closed));
        }
        let mut walker = Walker {
            newest: newest.as_ref(),
            met,
            ..Walker::of(request)
        };
        match self.walk_on(&mut walker, cursor, budget, guard) {
            Walked::Free => {
                request.granted.set_without_subscribers();
                if !is_first_walk {
                    self.settle(request);
                }
            }
            Walked::Blocked(cursor, blocker) => {
                self.watch(Watch::new(request, cursor), blocker, backlog);
            }
            Walked::Paused(cursor) => {
                *walk = Some(cursor);
                if request.pauses() && request.is_counted() {
                    self.waiting.add(1);
                }
                return None;
            }
        }
        Some(Ok(()))
    }

    /// Enters a request for these resources. The backlog is as for [`Table::enter_in_part`].
    #[inline(always)]
    pub(crate) fn enter(
        &self,
        resources: ResourceSet,
        met: &mut Met,
    ) -> Result<(Arc<Request>, Backlog), LockError> {
        self.enter_to_the_end(self.begin(resources)?, met)
    }

    /// Enters a request that has this ticket from the start. The backlog is as for [`Table::enter_in_part`].
    ///
    /// The clock passes the ticket only after all entries are inserted (T1). Before, each other ticket is smaller, so
    /// the request counts as a later one. If the clock has passed the ticket meanwhile, the request leaves again;
    /// until then later requests may have to wait for it.
    pub(crate) fn restore(
        &self,
        ticket: u64,
        resources: ResourceSet,
        met: &mut Met,
    ) -> Result<(Arc<Request>, Backlog), LockError> {
        self.clock.check(ticket)?;
        // Born at its ticket: it sorts before the earlier requests at its paths, and a birth is at most a ticket.
        let request = Arc::new(Request::with_ticket(
            resources,
            ticket.cast_signed(),
            ticket,
        ));
        let mut inserted = 0;
        self.insert_in_part(&request, &mut inserted, &mut Budget::unlimited(), &pin());
        if let Err(error) = self.set_clock(|clock| clock.take(ticket)) {
            self.leave(&request);
            return Err(error);
        }
        self.enter_to_the_end(Entry::walks(request), met)
    }

    /// The next ticket is larger than this one.
    pub(crate) fn skip_to(&self, ticket: u64) -> Result<(), LockError> {
        self.set_clock(|clock| clock.skip_to(ticket))
    }

    /// Changes the clock in another way than by a draw.
    fn set_clock<R>(&self, change: impl FnOnce(&Clock) -> R) -> R {
        let changed = change(&self.clock);
        // Numbers that were drawn before, for requests that rest, are too small or must be refused.
        self.entries.counters.void_reserves();
        changed
    }

    #[inline(always)]
    fn enter_to_the_end(
        &self,
        mut entry: Entry,
        met: &mut Met,
    ) -> Result<(Arc<Request>, Backlog), LockError> {
        let mut backlog = Backlog::default();
        let guard = pin();
        let budget = &mut Budget::unlimited();
        loop {
            match self.enter_in_part(&mut entry, Some(met), &mut backlog, budget, &guard) {
                None => {}
                Some(Ok(())) => return Ok((entry.request, backlog)),
                Some(Err(error)) => {
                    drop(guard);
                    self.leave(&entry.request);
                    return Err(error);
                }
            }
        }
    }

    /// Inserts entries of a request that has or gets its ticket without a draw, beginning with the one of this index;
    /// `true` once all are inserted.
    pub(crate) fn insert_in_part(
        &self,
        request: &Arc<Request>,
        inserted: &mut usize,
        budget: &mut Budget,
        guard: &Guard,
    ) -> bool {
        let before = *inserted;
        let is_inserted = (self.entries).insert_all(request, inserted, budget, guard);
        self.count_beyond_first(before..*inserted, Counter::add);
        is_inserted
    }

    /// Walks for the next life of a request that has rested, over all of every span, and notes the requests that it
    /// meets. The backlog is as for [`Table::enter_in_part`].
    pub(crate) fn walk_again(&self, request: &Arc<Request>, met: &mut Met, backlog: &mut Backlog) {
        let guard = pin();
        let budget = &mut Budget::unlimited();
        let mut cursor = Cursor::START;
        loop {
            // An entry that was born after the ticket was drawn is later now, and may be earlier than the next life.
            let mut walker = Walker {
                births: Walker::ALL_BIRTHS,
                met: Some(met),
                ..Walker::of(request)
            };
            match self.walk_on(&mut walker, cursor, budget, &guard) {
                Walked::Free => return request.granted.set_without_subscribers(),
                Walked::Blocked(cursor, blocker) => {
                    return self.watch(Watch::new(request, cursor), blocker, backlog);
                }
                Walked::Paused(at) => cursor = at,
            }
        }
    }

    /// Walks on to a blocker, and announces a watch there. Passes the blockers that have ended meanwhile.
    #[inline(always)]
    fn walk_on(
        &self,
        walker: &mut Walker<'_>,
        mut cursor: Cursor,
        budget: &mut Budget,
        guard: &Guard,
    ) -> Walked {
        loop {
            let found = (self.entries).next_blocker(walker, &self.clock, cursor, budget, guard);
            match found {
                Found::Nothing => return Walked::Free,
                Found::Paused(cursor) => return Walked::Paused(cursor),
                Found::Blocker(at, request, ticket) => {
                    let place = request.released.announce();
                    // R5: with another ticket it rests, or it has begun another life. That life is later.
                    if let Some(place) = place.filter(|_| request.ticket() == ticket) {
                        let blocker = Blocker {
                            request,
                            ticket,
                            place,
                        };
                        return Walked::Blocked(at, blocker);
                    }
                    cursor = at;
                }
            }
        }
    }

    /// Removes the entries of a request that rests. Only its owner may call this.
    pub(crate) fn remove(&self, request: &Arc<Request>) {
        debug_assert!(request.rests());
        let mut inserted = request.resources.len();
        self.count_beyond_first(0..inserted, Counter::sub);
        let budget = &mut Budget::unlimited();
        let guard = pin();
        while inserted > 0 {
            (self.entries).remove(request, &mut inserted, budget, &guard);
        }
    }

    /// Ends a request: releases it, or withdraws it if it still waits.
    pub(crate) fn leave(&self, request: &Arc<Request>) {
        let mut backlog = Backlog::default();
        let mut inserted = request.resources.len();
        let budget = &mut Budget::unlimited();
        let guard = pin();
        while !self.leave_in_part(request, &mut inserted, &mut backlog, budget, &guard) {}
        self.complete(backlog, guard);
    }

    /// Does a part of the leaving of a request whose first `inserted` entries are in the table; `true` once it is no
    /// longer outstanding.
    #[inline(always)]
    pub(crate) fn leave_in_part(
        &self,
        request: &Arc<Request>,
        inserted: &mut usize,
        backlog: &mut Backlog,
        budget: &mut Budget,
        guard: &Guard,
    ) -> bool {
        let before = *inserted;
        // T2: the requests that are granted below find these entries gone.
        self.entries.remove(request, inserted, budget, guard);
        self.count_beyond_first(*inserted..before, Counter::sub);
        let has_left = *inserted == 0;
        if has_left {
            self.end(request, backlog);
        }
        has_left
    }

    /// Counts the entries of these indices without the first entry of the request.
    fn count_beyond_first(&self, entries: Range<usize>, count: impl Fn(&Counter, usize)) {
        if entries.end > 1 {
            count(&self.beyond_first, entries.end - entries.start.max(1));
        }
    }

    /// Whether a request for these resources would be granted at once.
    pub(crate) fn is_free(&self, resources: &[Resource]) -> Result<bool, LockError> {
        let now = self.next_ticket()?;
        let mut walker = Walker::of_set(resources, now, now);
        let (guard, budget) = (pin(), &mut Budget::unlimited());
        let mut cursor = Cursor::START;
        loop {
            let found =
                (self.entries).next_blocker(&mut walker, &self.clock, cursor, budget, &guard);
            match found {
                Found::Nothing => return Ok(true),
                Found::Blocker(..) => return Ok(false),
                Found::Paused(at) => cursor = at,
            }
        }
    }

    /// Refuses requests from now on. The caller completes the backlog.
    pub(crate) fn close(&self) -> Backlog {
        self.set_clock(Clock::close);
        // This happens even if another thread has closed the clock: that thread may be suspended at this point.
        Backlog::of_close(self.closed.set())
    }

    /// A request for the root. It is later than all requests that were not refused, and has no entries:
    /// it is granted when the table has drained.
    pub(crate) fn begin_last(&self) -> Entry {
        let everything = ResourceSet::One(Resource::write(Path::root()));
        Entry {
            request: Arc::new(Request::with_ticket(everything, i64::MAX, CLOSED)),
            inserted: 0,
            walk: Some(Cursor::START),
        }
    }

    /// The statistics, given the numbers of requests that rest and of their resources.
    pub(crate) fn stats(&self, (resting, their_resources): (usize, usize)) -> Stats {
        let waiting = self.waiting.get();
        let entries = self.entries.len();
        let requests = entries.saturating_sub(self.beyond_first.get());
        let (requests, resources) = (
            requests.saturating_sub(resting),
            entries.saturating_sub(their_resources),
        );
        let clock = self.clock.now();
        Stats {
            acquired: requests.saturating_sub(waiting),
            waiting,
            resources,
            last_token: (clock & !CLOSED) - 1,
            closed: clock & CLOSED != 0,
        }
    }
}

#[cfg(test)]
mod tests;
