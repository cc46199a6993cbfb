//! Reuse: a request that rests is locked again without touching the lists.
//!
//! A [`Space`] is a lock table together with the requests that rest in it. A request rests in one of the [`Places`],
//! where a later lock of the same set finds it, or in a [`PreparedSet`](crate::PreparedSet). The core of the engine,
//! from the table down, works without this module: to it, a request that rests is later than every other one.
//!
//! ```text
//!   lock ── find ──► in a place: take the owner ──► again ── near is unchanged ──────────────► granted
//!    │                                                └───── walk: nothing else is there ────► granted, `alone_at` is known
//!    │                                                       nothing earlier is there ───────► granted
//!    └─── not found: a new request                           an earlier one is there ────────► waits
//!
//!   release ── it was granted at once ──► admitted, or locked again: rests in its place; the owner that was there leaves
//!       └───── it waited, or is watched, or is not admitted: leaves
//! ```
//!
//! # Invariants
//! O1. The thread that has the [`Owner`] of a request owns the request. An owner is in one place, or in one handle.
//! O2. `alone_at` is a sum of the counters near the request, taken before a walk over all of every span that met no
//!     other entry. Entries of requests that rest count as met: their next lives insert nothing.
//! O3. The numbers in reserve were drawn by one draw, at whose end the request was alone. They are void after a walk,
//!     after the counters have changed, and after each change of the clock that is not a draw.
//!
//! # Why an unchanged sum is enough
//! Let S conflict with R, and let S be earlier than this life of R. If R has drawn its ticket, then S drew before, so
//! the counts of S (C1) happen before R's look at the sum. If R sees the sum `alone_at`, then S was counted before that
//! sum was taken (C2, and C3 for entries below R). So the walk that followed would have met the entries of S. It met
//! none, so S has left.
//!
//! # Numbers in reserve
//! A request that is alone draws more numbers than it needs, for its next lives. These neither draw nor write any other
//! line that is shared. Let [n, n + k) be the numbers of such a draw. Each S that conflicts with R and has not left has
//! a larger ticket than all of them, or it is counted after R's sum. When R takes the next number, it writes the number
//! and then looks at the sum; S counts and then walks (R6). So either R sees the count and gives the number back, or S
//! sees the number, which is smaller than its own, and waits. A number that was given back is a short withdrawal: if S has
//! announced its watch meanwhile, R leaves, which serves S; otherwise S sees that R rests (R5).
//!
//! Numbers that were drawn before a walk are void although the walk met nothing: an S with a larger ticket may have come
//! and gone before. Closing, skipping and restoring tokens change all sums after they have changed the clock.
//!
//! # Lock-freedom
//! A place is changed by one swap. A thread that is suspended with an owner in its hands hides one request that could be
//! locked again; other threads insert a new one. No thread waits for a place, a counter or a hint.

mod owner;
mod places;
mod prepared;

pub(crate) use owner::{Owner, hash};
pub use prepared::{PreparedLock, PreparedPending, PreparedSet};

use crate::backlog::Backlog;
use crate::clock::CLOSED;
use crate::counters::Counters;
use crate::error::LockError;
use crate::request::Request;
use crate::resource::{Resource, ResourceSet};
use crate::stats::Stats;
use crate::sync::{Arc, BoxSlot, FEWEST_COUNTERS, List, identity, pin};
use crate::table::Table;
use crate::walker::Met;
use places::Places;
use std::borrow::Borrow;
use std::ops::{Bound, Deref};

/// Which tickets a lock may take.
#[derive(Clone, Copy)]
pub(crate) enum Tickets {
    /// Also a number in reserve.
    Any,
    /// A new one. A try that took a number and gave it back could make another try fail in between, and then fail
    /// because of that one.
    Drawn,
}

/// How the next life of a request has begun.
pub(crate) enum Renewed {
    /// It is alone, and granted.
    Alone,
    /// It has its place in line, and must walk.
    Walks,
    /// It has given back its ticket, and a watch was announced before. So it must leave, and another one must enter.
    Overtaken,
}

/// A lock table, and the requests that rest in it. Owners do not refer to it, so there is no cycle.
pub(crate) struct Space {
    table: Table,
    places: Places,
    /// How many numbers the first draw of a request takes that is alone.
    fewest_drawn: u64,
    /// The requests of prepared sets that have rested, until they leave. By their identities.
    prepared: List<usize, Arc<Request>>,
}

/// A reference to a space, from a handle or a lock manager.
pub(crate) type Home = crate::home::Home<Space>;
pub(crate) type Homes = crate::home::Homes<Space>;

impl Deref for Space {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

/// A request with entries in the table, and its owner if it was locked again.
pub(crate) enum Held {
    New(Arc<Request>),
    Again(Box<Owner>),
}

impl Held {
    #[inline]
    pub(crate) fn request(&self) -> &Arc<Request> {
        match self {
            Held::New(request) => request,
            Held::Again(owner) => &owner.request,
        }
    }
}

impl Space {
    /// Tokens start at `first_token`. At most about so many requests rest in places.
    pub(crate) fn new(first_token: u64, places: usize, is_eager: bool) -> Space {
        let counters = places.next_power_of_two();
        Space {
            table: Table::new(first_token, counters.clamp(FEWEST_COUNTERS, Counters::MOST)),
            places: Places::new(places, is_eager),
            fewest_drawn: if is_eager { 4 } else { 1 },
            prepared: List::new(),
        }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Takes a request for these resources that rests in a place. Its caller owns it.
    #[inline(always)]
    pub(crate) fn find(&self, resources: &[impl Borrow<Resource>]) -> Option<Box<Owner>> {
        let is_for = |owner: &Owner| {
            let own = &owner.request.resources;
            own.len() == resources.len()
                && (own.iter().zip(resources)).all(|(own, other)| own == other.borrow())
        };
        self.take_if(hash(resources), is_for)
    }

    /// Finds a request that was alone when it was looked at. Another one leaves, since its walk cannot be divided.
    pub(crate) fn find_alone(&self, resources: &[impl Borrow<Resource>]) -> Option<Box<Owner>> {
        let owner = self.find(resources)?;
        if !owner.is_alone(&self.table.entries) {
            self.evict(&owner);
            return None;
        }
        Some(owner)
    }

    #[inline(always)]
    fn take_if(&self, hash: u64, is_it: impl Fn(&Owner) -> bool) -> Option<Box<Owner>> {
        let set = self.places.of(hash)?;
        for slot in set.tagged(hash) {
            if let Some(owner) = set.owners[slot].take() {
                if is_it(&owner) {
                    return Some(owner);
                }
                self.return_to(&set.owners[slot], owner);
            }
        }
        None
    }

    /// Puts an owner into its place. The request that rested there leaves.
    #[inline]
    pub(crate) fn put_back(&self, owner: Box<Owner>) {
        self.drive_out(self.places.put(owner));
    }

    /// Puts an owner back that was only looked at.
    fn return_to(&self, place: &BoxSlot<Owner>, owner: Box<Owner>) {
        self.drive_out(place.put(owner));
    }

    /// Removes a request whose place is used for another one now.
    #[inline]
    fn drive_out(&self, owner: Option<Box<Owner>>) {
        if let Some(owner) = owner {
            self.table.remove(&owner.request);
        }
    }

    /// Enters a request for these resources. The backlog is as for [`Table::enter_in_part`].
    #[inline(always)]
    pub(crate) fn enter(
        &self,
        resources: ResourceSet,
    ) -> Result<(Arc<Request>, Backlog), LockError> {
        let mut met = Met::default();
        let entered = self.table.enter(resources, &mut met);
        self.clear_away(met);
        entered
    }

    /// Enters a request that has this ticket from the start.
    pub(crate) fn restore(
        &self,
        ticket: u64,
        resources: ResourceSet,
    ) -> Result<(Arc<Request>, Backlog), LockError> {
        let mut met = Met::default();
        let entered = self.table.restore(ticket, resources, &mut met);
        self.clear_away(met);
        entered
    }

    /// Whether a request that rests would be granted at once.
    pub(crate) fn looks_free(&self, owner: &Owner) -> Result<bool, LockError> {
        if owner.is_alone(&self.table.entries) {
            return Ok(true);
        }
        self.table.is_free(&owner.request.resources)
    }

    /// Begins the next life of a request that rests. A request that is refused has left.
    #[inline(always)]
    pub(crate) fn renew(&self, owner: &mut Owner, tickets: Tickets) -> Result<Renewed, LockError> {
        let entries = &self.table.entries;
        if let Tickets::Any = tickets
            && let Some(number) = owner.next_in_reserve()
        {
            owner.request.take_up(number);
            if owner.is_alone(entries) {
                owner.request.granted.set_without_subscribers();
                return Ok(Renewed::Alone);
            }
            // O3: the number goes back.
            owner.void_reserve();
            if !owner.request.rest() {
                return Ok(Renewed::Overtaken);
            }
        }
        let ticket = owner.draw(&self.table);
        if ticket & CLOSED != 0 {
            self.table.leave(&owner.request);
            return Err(LockError::Closed);
        }
        if owner.is_alone(entries) {
            owner.request.granted.set_without_subscribers();
            return Ok(Renewed::Alone);
        }
        owner.void_reserve();
        Ok(Renewed::Walks)
    }

    /// Walks, at the beginning of a life. The backlog is as for [`Table::enter_in_part`].
    #[cold]
    #[inline(never)]
    pub(crate) fn walk_again(&self, owner: &mut Owner) -> Backlog {
        let (mut met, mut backlog) = (Met::default(), Backlog::default());
        // O2: the sum is taken before the walk.
        let near = owner.look_around(&self.table.entries);
        (self.table).walk_again(&owner.request, &mut met, &mut backlog);
        owner.alone_at = near.filter(|_| !met.any);
        self.clear_away(met);
        backlog
    }

    #[inline]
    fn clear_away(&self, met: Met) {
        if !met.resting.is_empty() {
            self.clear_away_all(met.resting);
        }
    }

    /// Takes resting requests out of the table that stand in the way of others. Those of prepared sets stay.
    #[inline(never)]
    fn clear_away_all(&self, resting: Vec<Arc<Request>>) {
        for request in resting {
            let hash = hash(&request.resources);
            let owner = self.take_if(hash, |owner| Arc::ptr_eq(&owner.request, &request));
            if let Some(owner) = owner {
                self.evict(&owner);
            }
        }
    }

    /// Removes a resting request that was taken from its place.
    fn evict(&self, owner: &Owner) {
        self.places.forget(owner);
        self.table.remove(&owner.request);
    }

    /// Ends a request: releases it, or withdraws it if it still waits.
    #[inline]
    pub(crate) fn leave(&self, held: Held) {
        if let Some(request) = self.try_rest(held) {
            self.table.leave(&request);
        }
    }

    /// Lets a request rest in a place, if it may; otherwise returns it, and it must leave.
    #[inline]
    pub(crate) fn try_rest(&self, held: Held) -> Option<Arc<Request>> {
        let owner = match held {
            Held::Again(owner) => owner,
            Held::New(request) => match self.admit(&request) {
                Some(owner) => owner,
                None => return Some(request),
            },
        };
        if owner.request.may_rest() && owner.request.rest() {
            self.put_back(owner);
            return None;
        }
        self.places.forget(&owner);
        Some(owner.request)
    }

    /// Ends a request that may not rest.
    #[cold]
    pub(crate) fn leave_for_good(&self, held: Held) {
        let request = Arc::clone(held.request());
        self.forget(held);
        self.table.leave(&request);
    }

    /// Gives up the place of a request that must leave.
    pub(crate) fn forget(&self, held: Held) {
        if let Held::Again(owner) = held {
            self.places.forget(&owner);
        }
    }

    /// The owner of a request that was not locked before, if the request is worth a place.
    fn admit(&self, request: &Arc<Request>) -> Option<Box<Owner>> {
        if !request.may_rest() || !request.resources.are_small() {
            return None;
        }
        let hash = hash(&request.resources);
        let set = self.places.of(hash)?;
        match self.places.admit(set, hash) {
            Ok(slot) => {
                let owner = Owner::new(Arc::clone(request), self.fewest_drawn);
                Some(Box::new(owner.in_place(hash, slot)))
            }
            Err(evicted) => {
                self.drive_out(evicted);
                None
            }
        }
    }

    /// Notes a request of a prepared set that rests for the first time, for the statistics.
    fn add_prepared(&self, request: &Arc<Request>) {
        let guard = pin();
        (self.prepared).insert(identity(request), Arc::clone(request), &guard);
    }

    fn remove_prepared(&self, request: &Arc<Request>) {
        self.prepared.remove(&identity(request), &pin());
    }

    /// Takes each owner out of its place for a moment.
    pub(crate) fn stats(&self) -> Stats {
        let (mut requests, mut resources) = (0, 0);
        let mut count = |request: &Request| {
            requests += 1;
            resources += request.resources.len();
        };
        for place in self.places.all() {
            if let Some(owner) = place.take() {
                count(&owner.request);
                self.return_to(place, owner);
            }
        }
        let guard = pin();
        let mut prepared = self.prepared.seek(Bound::Unbounded, &guard);
        while let Some(entry) = prepared {
            if entry.value().rests() {
                count(entry.value());
            }
            prepared = entry.next();
        }
        drop(guard);
        self.table.stats((requests, resources))
    }
}
