//! The entries of the lock table: each outstanding request under each of its resources, in order; and
//! the search for the requests that another one has to wait for.
//!
//! There are two ordered lists, one of writes and one of reads. So every entry that a walk visits conflicts
//! with the resource it walks for: a read never steps over another read.
//!
//! # Invariants
//! T1. A request is inserted under *all* its keys before any thread can draw its ticket, or before the clock takes it.
//! T2. Only its owner removes an entry, before its watchers are advanced.
//! T3. The earlier, conflicting, outstanding requests of a request only become fewer. So a walk never has to
//!     go back: it may stop at one of them and go on from there.
//! T4. A depth is marked before an entry of that depth is inserted, and never unmarked.
//!
//! A request that rests is later than every other one. Its owner keeps its entries in the table, and they count as
//! inserted when its next life is published. So T1 to T3 hold for each life.
//!
//! # No request is missed
//! If the ticket of R is smaller than that of S, then R's number was drawn from the clock before S's, and
//! R was published before it was drawn. Draws are read-modify-writes of one word. So R's marks and entries
//! happen before S's walk, which sees every entry that is present throughout.

use crate::budget::Budget;
use crate::clock::Clock;
use crate::counters::{Counters, Zones};
use crate::key::{Key, Marks};
use crate::request::Request;
use crate::resource::{Mode, Resource};
use crate::sync::{
    Arc, AtomicU64, CachePadded, Entry, Guard, Inserted, List, Ordering, TRY_STEPS_EVERY, fence,
    identity,
};
use crate::walk::{Cursor, Walk};
use crate::walker::{Behind, Found, Newest, Walker};
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
    /// What was inserted, for requests that rest.
    pub(crate) counters: Counters,
    /// Hides the addresses in the places of listings.
    pub(crate) secret: RandomState,
}

/// All entries of one mode.
struct Section {
    list: List<Key, Arc<Request>>,
    /// See [`Marks`]. Read by every walk, written a few times in the life of a manager.
    marks: CachePadded<AtomicU64>,
}

impl Entries {
    /// An empty table. Each list has so many pairs of counters, a power of two.
    pub(crate) fn new(counters: usize) -> Entries {
        Entries {
            writes: Section::new(),
            reads: Section::new(),
            counters: Counters::new(counters),
            secret: RandomState::new(),
        }
    }

    fn marks(&self) -> [u64; 2] {
        [&self.writes, &self.reads].map(|section| section.marks.load(Ordering::SeqCst))
    }

    /// The zones of some resources, in which a request is interested from now on. `None` if a path is too deep.
    pub(crate) fn zones(&self, resources: &[Resource]) -> Option<Zones> {
        Zones::new(resources, self.marks(), &self.counters)
    }

    /// A sum that has changed when an entry was inserted in the zones. `None` if the zones have grown.
    #[inline]
    pub(crate) fn near(&self, zones: &Zones) -> Option<u64> {
        (self.marks() == zones.marks).then(|| self.counters.sum(zones))
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
    /// returns what the first step of its walk needs.
    pub(crate) fn publish<'g>(
        &'g self,
        request: &Arc<Request>,
        inserted: &mut usize,
        clock: &Clock,
        budget: &mut Budget,
        guard: &'g Guard,
    ) -> Option<Option<Newest<'g>>> {
        let [only] = &*request.resources else {
            if !self.insert_all(request, inserted, budget, guard) {
                return None;
            }
            request.publish(clock);
            return Some(None);
        };
        *inserted = 1;
        budget.search(only.path.len());
        let own = self.insert(only, request, guard);
        let ticket = request.publish(clock);
        let is_newest = only.mode == Mode::Write && ticket.cast_signed() == request.birth;
        Some(is_newest.then_some(Newest(own)))
    }

    /// Inserts entries, beginning with the one of this index; `false` if the budget is spent before the last one.
    pub(crate) fn insert_all(
        &self,
        request: &Arc<Request>,
        inserted: &mut usize,
        budget: &mut Budget,
        guard: &Guard,
    ) -> bool {
        while let Some(resource) = request.resources.get(*inserted) {
            if budget.is_spent() {
                return false;
            }
            self.insert(resource, request, guard);
            *inserted += 1;
            budget.search(resource.path.len());
        }
        true
    }

    fn insert<'g>(
        &'g self,
        resource: &Resource,
        request: &Arc<Request>,
        guard: &'g Guard,
    ) -> Inserted<'g, 'g, Key, Arc<Request>> {
        let inserted = (self.section(resource.mode)).insert(resource, request, guard);
        self.counters.count(resource);
        inserted
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
            budget.search(resource.path.len());
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
    ///
    /// The walk pauses once the budget is spent, but not before it has visited an entry or left a span.
    pub(crate) fn next_blocker(
        &self,
        walker: &mut Walker<'_>,
        clock: &Clock,
        cursor: Cursor,
        budget: &mut Budget,
        guard: &Guard,
    ) -> Found {
        let mut walk = Walk::new(walker.resources, walker.births, cursor);
        let mut fronts = [Front::START, Front::START];
        while let Some(mode) = walk.list() {
            let section = self.section(mode);
            let front = &mut fronts[mode as usize];
            // N4.
            front.is_old = mode == Mode::Read;
            budget.scan(walk.path_bytes());
            let mut marks = section.marks();
            while walk.next_span(marks) {
                if mode == Mode::Write && walk.is_at_subtree() {
                    match walker.look_behind_own(clock) {
                        Behind::Clear => break,
                        Behind::Blocker(key, request, ticket) => {
                            fence_after_walk();
                            return Found::Blocker(walk.stop_at(key), request, ticket);
                        }
                        Behind::Unknown => {}
                    }
                }
                let path_bytes = walk.begin_span();
                let mut entry = section.enter_span(&walk, front, budget, guard);
                while let Some(here) = entry.as_ref().filter(|here| walk.holds(&here.key().path)) {
                    if let Some(ticket) = walker.waits_for(here.value(), clock) {
                        fence_after_walk();
                        let request = Arc::clone(here.value());
                        return Found::Blocker(walk.stop_at(here.key().clone()), request, ticket);
                    }
                    budget.step(path_bytes);
                    if budget.is_spent() {
                        fence_after_walk();
                        return Found::Paused(walk.stop_at(here.key().clone()));
                    }
                    entry = here.next();
                }
                walk.leave_span(entry.as_ref().map(|beyond| &beyond.key().path));
                if budget.is_spent() {
                    fence_after_walk();
                    return Found::Paused(walk.stop());
                }
                front.near = entry.map_or(Near::End, Near::At);
                front.is_old = false;
                marks = section.marks();
            }
            walk.next_list();
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

    /// Read anew for each span.
    fn marks(&self) -> Marks {
        // Pairs with the removal of an entry that the walk no longer met: the removing thread may have inserted
        // another one before, further along the walk and perhaps the first of its depth.
        fence(Ordering::Acquire);
        Marks(self.marks.load(Ordering::Relaxed))
    }

    fn mark(&self, resource: &Resource) {
        // T4. SeqCst: the owner of a request that takes a number from its reserve looks at the marks next (R6). For
        // all other walks the draw publishes the mark, as it publishes the entry. A mark that another request has set
        // is enough: if we read it as set, then so does every walk with a later ticket.
        let mark = Marks::of(resource.path.depth());
        if self.marks.load(Ordering::SeqCst) & mark == 0 {
            self.marks.fetch_or(mark, Ordering::SeqCst);
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

    /// The first entry at or behind the place where the span begins.
    // Most requests enter no span, and are faster without this code in their way.
    #[inline(never)]
    fn enter_span<'g>(
        &'g self,
        walk: &Walk<'_>,
        front: &mut Front<'g>,
        budget: &mut Budget,
        guard: &'g Guard,
    ) -> Option<OwnEntry<'g>> {
        let first = walk.first();
        let path_bytes = first.path.len();
        budget.step(path_bytes);
        match &front.near {
            Near::Unknown => {}
            Near::End if front.is_old => {}
            Near::At(entry) if front.is_old && entry.key() >= first => {}
            Near::End => return None,
            Near::At(entry) if entry.key() >= first => return Some(entry.clone()),
            Near::At(entry) => {
                let mut next = entry.next()?;
                for _ in 1..front.steps {
                    if next.key() >= first {
                        return Some(next);
                    }
                    budget.step(path_bytes);
                    next = next.next()?;
                }
                if next.key() >= first {
                    return Some(next);
                }
                front.fail();
            }
        }
        budget.search(path_bytes);
        let bound = walk.after().map_or(Bound::Included(first), Bound::Excluded);
        self.list.seek(bound, guard)
    }
}

/// An entry of a section.
type OwnEntry<'g> = Entry<'g, 'g, Key, Arc<Request>>;

/// How far a walk has come in a list.
struct Front<'g> {
    near: Near<'g>,
    /// Since that place was found, the walk has visited the other list, for another resource. So entries that it needs
    /// may have been inserted before the place (N4).
    is_old: bool,
    /// The number of steps to try before a search: one, but several after each [`TRY_STEPS_EVERY`]th failure, and
    /// then as long as they lead to the span.
    steps: u32,
    failures: u32,
}

impl Front<'_> {
    /// A step costs about a tenth of a search.
    const STEPS: u32 = 12;

    const START: Front<'static> = Front {
        near: Near::Unknown,
        is_old: false,
        steps: 1,
        failures: 0,
    };

    /// The steps did not lead to the span.
    fn fail(&mut self) {
        self.failures += 1;
        let is_due = self.failures.is_multiple_of(TRY_STEPS_EVERY);
        self.steps = if is_due { Front::STEPS } else { 1 };
    }
}

/// The place in a list where the last span of the walk in that list ended.
///
/// The walk only goes forward, and it needs only entries that are there throughout (T3), or that take the place of such
/// an entry in the same list (N2). So all that it still needs lies there or behind, however much time has passed and
/// however many entries were inserted meanwhile. There is one exception (N4): a write that becomes a read moves from the
/// other list to this one.
enum Near<'g> {
    Unknown,
    /// The first entry behind the span.
    At(OwnEntry<'g>),
    /// There was no entry behind the span.
    End,
}

fn key_of(resource: &Resource, request: &Arc<Request>) -> Key {
    Key {
        path: resource.path.clone(),
        birth: request.birth,
        identity: identity(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::SPENT;
    use crate::path::Path;
    use crate::resource::ResourceSet;
    use crate::sync::pin;
    use crate::table::Table;
    use crate::walker::Met;

    #[test]
    fn a_writer_meets_the_writer_before_it_without_a_search() {
        let table = Table::new(1, 1);
        let cost_of_entering = || {
            let only = Resource::write(Path::from(["a"]));
            let before = SPENT.get();
            (table.enter(ResourceSet::One(only), &mut Met::default())).expect("open");
            SPENT.get() - before
        };
        let granted_at_once = cost_of_entering();
        assert!(cost_of_entering() <= granted_at_once);
    }

    #[test]
    fn ancestors_beside_siblings_cost_steps_and_no_searches() {
        const DEPTH: usize = 1000;
        let table = Table::new(1, 1);
        let branch = |depth: usize| std::iter::repeat_n("m", depth);
        let mut beside = Vec::new();
        for depth in 0..DEPTH {
            beside.push(Resource::write(branch(depth).chain(["a"])));
            beside.push(Resource::read(branch(depth).chain(["b"])));
        }
        let beside = ResourceSet::collect(beside).expect("within the limits");
        table.enter(beside, &mut Met::default()).expect("open");
        let deep = [Resource::write(Path::from_iter(branch(DEPTH)))];
        let mut walker = Walker::of_set(&deep, table.clock.now(), Walker::ALL_BIRTHS);
        // 2000 searches would cost 3 ms.
        let budget = &mut Budget::new(600);
        let guard = pin();
        let found =
            (table.entries).next_blocker(&mut walker, &table.clock, Cursor::START, budget, &guard);
        assert!(matches!(found, Found::Nothing), "the budget is spent");
    }
}
