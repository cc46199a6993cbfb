//! The lock table: how requests enter it, wait in it and leave it.
//!
//! A request that has to wait watches one other request, the first one on its walk over the [`Entries`].
//! The thread that ends that other request *serves* the watch: the walk goes on, to the next request to
//! watch or to the grant. Release and withdrawal are the same operation.

use crate::arms::{Arms, RELEASED, WANTED};
use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::clock::{CLOSED, Clock};
use crate::entries::{Entries, Found, Met, Walker};
use crate::error::LockError;
use crate::event::{Announced, Event, Garbage, NODE};
use crate::path::Path;
use crate::request::{Request, Watch};
use crate::resource::{Resource, ResourceSet};
use crate::stats::Stats;
use crate::sync::{Arc, CachePadded, Counter, Guard, pin};
use crate::waiter::{Waiter, finish};
use crate::walk::Cursor;
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

    /// Begins the next life of a request that rests and that `met` something on its last walk, or may have. It walks
    /// over all of every span. A refused request must leave. The backlog is as for [`Table::enter_in_part`].
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

    /// Ends a request whose entries have been removed.
    pub(crate) fn end(&self, request: &Arc<Request>, backlog: &mut Backlog) {
        let tell = || self.tell_arms(request.last_ticket(), RELEASED, backlog);
        let taken = request.released.set_and_tell(tell);
        backlog.add_chain(taken);
        // `granted` is set after `released`, so that a listing never reports this as a grant. The waiters
        // taken here belong to tasks that no longer wait.
        if !request.granted.is_set()
            && let Some(given_up) = request.granted.set()
        {
            self.settle(request);
            backlog.retire_watch(request);
            backlog.add_given_up(given_up);
        }
    }

    /// Tells the arms of the lock with this ticket.
    #[cold]
    fn tell_arms(&self, ticket: u64, what: u32, backlog: &mut Backlog) {
        let wake = |waiter| backlog.add_wake(waiter);
        self.arms.tell(ticket, what, &pin(), wake);
    }

    /// Does a part of a backlog: advances the requests in it and those found on the way, then wakes and cleans up.
    ///
    /// All grants come before the first wake, so that a thread that spins or polls does not wait for the
    /// wake-ups of others.
    pub(crate) fn serve(&self, backlog: &mut Backlog, budget: &mut Budget, guard: Guard) {
        while let Some(mut watch) = backlog.next(budget) {
            let cursor = watch.take_cursor();
            let request = &watch.request;
            if request.released.is_set() {
                request.forget_watched();
                budget.spend(NODE);
                continue;
            }
            match self.walk_on(&mut Walker::of(request), cursor, budget, &guard) {
                Walked::Free => self.grant(request, backlog, budget),
                Walked::Blocked(cursor, blocker) => self.watch(watch.at(cursor), blocker, backlog),
                Walked::Paused(cursor) => backlog.put_back(watch.at(cursor)),
            }
        }
        drop(guard);
        backlog.clean_up(budget);
    }

    /// Does all of a backlog.
    #[inline]
    pub(crate) fn complete(&self, backlog: Backlog, guard: Guard) {
        if !backlog.is_empty() {
            self.complete_parts(backlog, guard);
        }
    }

    fn complete_parts(&self, mut backlog: Backlog, guard: Guard) {
        let mut guard = Some(guard);
        finish(|| {
            let guard = guard.take().unwrap_or_else(pin);
            self.serve(&mut backlog, &mut Budget::unlimited(), guard);
            backlog.is_empty()
        });
    }

    fn grant(&self, request: &Request, backlog: &mut Backlog, budget: &mut Budget) {
        let waiter = request.granted.set();
        // `None`: it was withdrawn at this moment.
        if let Some(waiter) = waiter {
            self.settle(request);
            request.forget_watched();
            backlog.add_granted(waiter, budget);
        }
    }

    /// Takes a request off the count of waiting requests (R4).
    fn settle(&self, request: &Request) {
        if request.is_counted() {
            self.waiting.sub(1);
        }
    }

    /// Lets the request wait until the blocker is released. If that has happened meanwhile, adds the watches of the
    /// blocker to the backlog.
    fn watch(&self, watch: Arc<Watch>, blocker: Blocker, backlog: &mut Backlog) {
        let Blocker {
            request: blocker,
            ticket,
            place,
        } = blocker;
        let request = &Arc::clone(&watch.request);
        if request.about_to_watch(&blocker, ticket) && request.is_counted() {
            self.waiting.add(1);
        }
        let mut garbage = Garbage::default();
        let missed = blocker.released.enter(place, watch, &mut garbage);
        backlog.add_garbage(garbage);
        // A2. The last request of a closed table only waits for the others to end.
        if blocker.released.is_armed() && request.ticket() < CLOSED {
            self.tell_arms(ticket, WANTED, backlog);
        }
        if missed.is_none() && request.released.is_set() {
            backlog.retire_watch(request);
        }
        backlog.add_chain(missed);
    }

    /// Whether a request for these resources would be granted at once.
    pub(crate) fn is_free(&self, resources: &[Resource]) -> Result<bool, LockError> {
        let now = self.next_ticket()?;
        let mut walker = Walker {
            resources,
            ticket: now,
            births: now,
            own: None,
            newest: None,
            met: None,
        };
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
mod tests {
    use super::*;
    use crate::resource::Mode;

    fn enter(table: &Table, mode: Mode) -> Arc<Request> {
        let path = Path::from(["a"]);
        enter_one(table, Resource { path, mode })
    }

    fn enter_one(table: &Table, resource: Resource) -> Arc<Request> {
        let entered = table.enter(ResourceSet::One(resource), &mut Met::default());
        entered.unwrap().0
    }

    #[test]
    fn withdrawn_requests_do_not_pile_up_behind_a_held_lock() {
        let table = Table::new(1, 1);
        let holder = enter(&table, Mode::Write);
        for _ in 0..10_000 {
            table.leave(&enter(&table, Mode::Read));
            assert!(holder.released.chained() < 40);
        }
        let waiting: Vec<_> = (0..10_000).map(|_| enter(&table, Mode::Read)).collect();
        assert!(holder.released.chained() >= 10_000);
        for request in &waiting {
            table.leave(request);
        }
        assert!(
            holder.released.chained() < 40,
            "no request has entered since"
        );
        table.leave(&holder);
    }

    #[test]
    fn the_requests_of_a_long_queue_leave_in_any_order() {
        let table = Table::new(1, 1);
        let mut queue: Vec<_> = (0..50_000).map(|_| enter(&table, Mode::Write)).collect();
        for request in queue.drain(..).rev() {
            table.leave(&request);
        }
        assert_eq!(table.stats((0, 0)).resources, 0);
    }

    #[test]
    fn a_parent_waits_for_its_children_one_after_another() {
        let table = Table::new(1, 1);
        let child = |i: u32| Resource::write(["a".to_owned(), i.to_string()]);
        let children: Vec<_> = (0..1000).map(|i| enter_one(&table, child(i))).collect();
        let parent = enter(&table, Mode::Write);
        for child in &children {
            assert!(!parent.granted.is_set());
            table.leave(child);
        }
        assert!(parent.granted.is_set());
        table.leave(&parent);
    }
}
