//! The lock table: how requests enter it, wait in it and leave it.
//!
//! A request that has to wait watches one other request, the first one on its walk over the [`Entries`].
//! The thread that ends that other request *serves* the watch: the walk goes on, to the next request to
//! watch or to the grant. Release and withdrawal are the same operation.

use crate::clock::{CLOSED, Clock};
use crate::entries::{Entries, Walker};
use crate::error::LockError;
use crate::event::{Event, Subscribers};
use crate::path::Path;
use crate::request::{Request, Watch};
use crate::resource::{Resource, ResourceSet};
use crate::stats::Stats;
use crate::sync::{Arc, CachePadded, Counter, Guard, pin};
use crate::waiter::{Waiter, Wakes};
use crate::walk::Cursor;

pub(crate) struct Table {
    pub(crate) clock: CachePadded<Clock>,
    pub(crate) entries: Entries,
    /// The number of resources beyond the first of each request. The number of requests follows from it
    /// and the lengths of the lists, at no cost for a request of one resource.
    beyond_first: CachePadded<Counter>,
    /// The number of waiting requests.
    waiting: CachePadded<Counter>,
    /// Set when the table is closed.
    pub(crate) closed: Event<Arc<Waiter>>,
}

impl Table {
    pub(crate) fn new(first_token: u64) -> Table {
        Table {
            clock: CachePadded::new(Clock::new(first_token)),
            entries: Entries::new(),
            beyond_first: CachePadded::new(Counter::new()),
            waiting: CachePadded::new(Counter::new()),
            closed: Event::new(),
        }
    }

    /// Enters a request for these resources. The caller must wake the wakers once the request has an owner
    /// that takes it out again: a waker may panic.
    pub(crate) fn enter(&self, resources: ResourceSet) -> Result<(Arc<Request>, Wakes), LockError> {
        let birth = self.clock.now();
        if birth & CLOSED != 0 {
            return Err(LockError::Closed);
        }
        let request = Arc::new(Request::new(resources, birth));
        let guard = pin();
        let cursor = self.entries.publish(&request, &self.clock, &guard);
        if let beyond_first @ 1.. = request.resources.len() - 1 {
            self.beyond_first.add(beyond_first);
        }
        if request.ticket() & CLOSED != 0 {
            drop(guard);
            self.leave(&request);
            return Err(LockError::Closed);
        }
        let wakes = match self.next_blocker(&Walker::of(&request), cursor, &guard) {
            None => {
                request.granted.set_without_subscribers();
                Wakes::default()
            }
            Some((cursor, blocker)) => {
                let missed = self.watch(&request, cursor, blocker);
                self.serve(missed, guard)
            }
        };
        Ok((request, wakes))
    }

    /// Ends a request: releases it, or withdraws it if it still waits.
    pub(crate) fn leave(&self, request: &Arc<Request>) {
        let guard = pin();
        // T2: the requests that are granted below find these entries gone.
        self.entries.remove(request, &guard);
        if let beyond_first @ 1.. = request.resources.len() - 1 {
            self.beyond_first.sub(beyond_first);
        }
        self.end(request, guard);
    }

    /// Ends a request whose entries have been removed.
    pub(crate) fn end(&self, request: &Arc<Request>, guard: Guard) {
        let watches = request.released.set();
        // `granted` is set after `released`, so that a listing never reports this as a grant. The waiters
        // taken here belong to tasks that no longer wait. Dropping their wakers runs foreign code, so that
        // comes last.
        let _given_up = if request.granted.is_set() {
            None
        } else {
            let given_up = request.granted.set();
            if given_up.is_some() {
                self.settle(request);
                request.retire_watch();
            }
            given_up
        };
        self.serve(watches, guard).wake();
    }

    /// Advances the requests that watched an ended one, and the requests found on the way. Returns the waiters
    /// to wake.
    ///
    /// All grants come before the first wake, so that a thread that spins or polls does not wait for the
    /// wake-ups of others.
    fn serve(&self, watches: Option<Subscribers<Watch>>, guard: Guard) -> Wakes {
        if watches.as_ref().is_none_or(Subscribers::is_empty) {
            return Wakes::default();
        }
        // The newest comes first, the last is served first.
        let mut watches: Vec<Watch> = watches.into_iter().flatten().collect();
        let mut wakes = Wakes::default();
        while let Some(Watch { request, cursor }) = watches.pop() {
            if request.released.is_set() {
                request.forget_watched();
                continue;
            }
            match self.next_blocker(&Walker::of(&request), cursor, &guard) {
                None => wakes.add(self.grant(&request)),
                Some((cursor, blocker)) => {
                    watches.extend(self.watch(&request, cursor, blocker).into_iter().flatten());
                }
            }
        }
        drop(guard);
        wakes
    }

    fn grant(&self, request: &Request) -> impl Iterator<Item = Arc<Waiter>> + use<> {
        let waiters = request.granted.set();
        // `None`: it was withdrawn at this moment.
        if waiters.is_some() {
            self.settle(request);
            request.forget_watched();
        }
        waiters.into_iter().flatten()
    }

    /// Takes a request off the count of waiting requests (R4).
    fn settle(&self, request: &Request) {
        if request.is_counted() {
            self.waiting.sub(1);
        }
    }

    /// Lets the request wait until the blocker is released. The caller must serve the result.
    fn watch(
        &self,
        request: &Arc<Request>,
        cursor: Cursor,
        blocker: &Arc<Request>,
    ) -> Option<Subscribers<Watch>> {
        if request.about_to_watch(blocker) && request.is_counted() {
            self.waiting.add(1);
        }
        let watch = Watch {
            request: Arc::clone(request),
            cursor,
        };
        let missed = blocker.released.subscribe(watch);
        if missed.is_none() && request.released.is_set() {
            request.retire_watch();
        }
        missed
    }

    fn next_blocker<'g>(
        &'g self,
        walker: &Walker<'_>,
        cursor: Cursor,
        guard: &'g Guard,
    ) -> Option<(Cursor, &'g Arc<Request>)> {
        self.entries
            .next_blocker(walker, &self.clock, cursor, guard)
    }

    /// Whether a request for these resources would be granted at once.
    pub(crate) fn is_free(&self, resources: &[Resource]) -> Result<bool, LockError> {
        let now = self.clock.now();
        if now & CLOSED != 0 {
            return Err(LockError::Closed);
        }
        let walker = Walker {
            resources,
            ticket: now,
            own: None,
        };
        let guard = pin();
        let blocker = self.next_blocker(&walker, Cursor::START, &guard);
        Ok(blocker.is_none())
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self) {
        self.clock.close();
        // This happens even if another thread has closed the clock: that thread may be suspended at this point.
        let mut wakes = Wakes::default();
        wakes.add(self.closed.set().into_iter().flatten());
        wakes.wake();
    }

    /// A request for the root. It is later than all requests that were not refused, and has no entries:
    /// it is granted when the table has drained.
    pub(crate) fn enter_last(&self) -> (Arc<Request>, Wakes) {
        let everything = ResourceSet::One(Resource::write(Path::root()));
        let request = Arc::new(Request::with_ticket(everything, CLOSED, CLOSED));
        let watch = Watch {
            request: Arc::clone(&request),
            cursor: Cursor::START,
        };
        let wakes = self.serve(Some(Subscribers::one(watch)), pin());
        (request, wakes)
    }

    pub(crate) fn stats(&self) -> Stats {
        let waiting = self.waiting.get();
        let resources = self.entries.len();
        let requests = resources.saturating_sub(self.beyond_first.get());
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
        let resource = Resource { path, mode };
        table.enter(ResourceSet::One(resource)).unwrap().0
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
            "no request has entered since"
        );
        table.leave(&holder);
    }

    #[test]
    fn the_requests_of_a_long_queue_leave_in_any_order() {
        let table = Table::new(1);
        let mut queue: Vec<_> = (0..50_000).map(|_| enter(&table, Mode::Write)).collect();
        for request in queue.drain(..).rev() {
            table.leave(&request);
        }
        assert_eq!(table.stats().resources, 0);
    }

    #[test]
    fn a_parent_waits_for_its_children_one_after_another() {
        let table = Table::new(1);
        let child = |i: u32| Resource::write(["a".to_owned(), i.to_string()]);
        let children: Vec<_> = (0..1000)
            .map(|i| table.enter(ResourceSet::One(child(i))).unwrap().0)
            .collect();
        let parent = enter(&table, Mode::Write);
        for child in &children {
            assert!(!parent.granted.is_set());
            table.leave(child);
        }
        assert!(parent.granted.is_set());
        table.leave(&parent);
    }
}
