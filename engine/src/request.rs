//! One request: its place in the order, its two events, and the request that it watches.
//!
//! ```text
//!   PUBLISHING ──all entries inserted──► PUBLISHED ──by the owner or a helper──► ticket ──release──► the end
//!                                            ▲                                     │
//!                                            └──── locked again ──── RESTING ◄─────┘ release to rest
//!
//!   waiting ──nothing earlier conflicts──► granted ──release──► released
//!      └───────────────────withdraw─────────────────────────────────▲
//! ```
//!
//! A request that was granted at once and that no other request has watched may *rest* when it is released: its
//! entries stay in the table, and it is not outstanding. Its owner locks it again without inserting anything. To other
//! requests the next life of the request is a new request whose entries were inserted long ago.
//!
//! # Invariants
//! R1. A request is PUBLISHED only when it is in the table under all its keys.
//! R2. A ticket is a number drawn after the request was PUBLISHED. It is set once in each life. No two lives have the
//!     same PUBLISHED value, so a helper that is late cannot give its number to another life.
//!     A restored request has its ticket from the start, and the clock takes it.
//! R3. One thread at a time advances a request: first the thread that entered it, then each time the thread
//!     that took its watch from a chain.
//! R4. The thread that sets `granted`, to grant or to withdraw, takes the request off the count of waiting
//!     requests.
//! R5. A request rests only if it never waited and no watch was ever pushed to it. A release to rest writes the
//!     ticket word and then looks for announcements, by a read-modify-write of the word of `released`. A watch
//!     announces itself by a read-modify-write of the same word, and then looks at the ticket word. One of the two
//!     comes first. Therefore the release sees the announcement, or the watch sees that the life has ended.
//! R6. A life may also begin with a number that was drawn in reserve. The owner writes the number, then looks at the
//!     counters near the request. An insertion counts itself, then its walk loads the ticket word. All four are SeqCst.
//!     Therefore the owner sees the count, and takes the number back; or the walk sees the number.

use crate::budget::Budget;
use crate::clock::{CLOSED, Clock};
use crate::event::{Event, Garbage, Purge, Single, Subscriber};
use crate::resource::ResourceSet;
use crate::sync::{Arc, AtomicU64, Ordering, Slot};
use crate::waiter::Waiter;
use crate::walk::Cursor;
use std::mem;

/// The two top bits of the ticket word. Without them the word is a ticket; with [`CLOSED`] alone a refusal.
const KIND: u64 = 3 << 62;
/// All its entries are there, and any thread may draw its ticket. The rest of the word is the ticket of its last life.
const PUBLISHED: u64 = 1 << 62;
/// It rests. The rest of the word is its last ticket. Compares as later than any ticket and any refusal.
const RESTING: u64 = 3 << 62;
/// Some of its entries may be missing, so it must not get a ticket yet. Compares as later than any ticket.
const PUBLISHING: u64 = u64::MAX;
/// In the place of the last ticket in the first life.
const FIRST_LIFE: u64 = !KIND;
/// A request waits, but its first walk has paused and has not found yet for which other one.
const UNKNOWN: u64 = u64::MAX;

/// Whether the ticket word is a ticket, and not a refusal.
pub(crate) fn is_ticket(word: u64) -> bool {
    word & KIND == 0
}

/// Whether an [order](Request::order) shows that the request rests.
pub(crate) fn is_resting(order: u64) -> bool {
    order & KIND == RESTING && order != PUBLISHING
}

pub(crate) struct Request {
    /// PUBLISHING, PUBLISHED with the last ticket, the ticket, or RESTING with the last ticket.
    ticket: AtomicU64,
    /// The number of the clock before the entries were made, at most the ticket. A narrowed request has a smaller
    /// one. It is part of the keys.
    pub(crate) birth: i64,
    /// A withdrawal sets it, too, after `released`, so that no grant comes later. Taken back by the owner of a
    /// request that rests.
    pub(crate) granted: Single<Waiter>,
    /// Watched by later requests that wait for this one.
    pub(crate) released: Event<Watch>,
    /// The request whose `released` this one watches. Written by the advancing thread (R3); taken by each
    /// thread that finds the watch retired. In a narrowed request: the one whose place it takes, until N1 is decided.
    watched: Slot<Request>,
    /// The ticket of that request, for listings, or UNKNOWN; 0 if this request never had to wait. Written by the
    /// advancing thread (R3). In a narrowed request: the ticket that it gets.
    waits_for: AtomicU64,
    pub(crate) resources: ResourceSet,
}

impl Request {
    pub(crate) fn new(resources: ResourceSet, birth: i64) -> Request {
        Request::with_ticket(resources, birth, PUBLISHING)
    }

    pub(crate) fn with_ticket(resources: ResourceSet, birth: i64, ticket: u64) -> Request {
        Request {
            ticket: AtomicU64::new(ticket),
            birth,
            granted: Single::new(),
            released: Event::new(),
            watched: Slot::new(),
            waits_for: AtomicU64::new(0),
            resources,
        }
    }

    /// A granted request for a part of the resources of this one, whose place it is to take.
    pub(crate) fn narrowed(self: &Arc<Request>, resources: ResourceSet) -> Request {
        // N2: at the same path it sorts behind this one.
        let birth = self.birth - 1;
        let narrowed = Request::new(resources, birth);
        narrowed.granted.set_without_subscribers();
        narrowed.watched.put(Arc::clone(self));
        (narrowed.waits_for).store(self.ticket(), Ordering::Relaxed);
        self.share_arms(&narrowed);
        narrowed
    }

    /// Gives a narrowed request the ticket of the one whose place it takes. `false` if it was given up.
    pub(crate) fn succeed(&self) -> bool {
        let has_succeeded = self.replace_publishing(self.waits_for.load(Ordering::Relaxed));
        if has_succeeded {
            self.forget_watched();
        }
        has_succeeded
    }

    /// Gives up a narrowed request that has no ticket yet. Returns the request whose place it was to take.
    pub(crate) fn give_up(&self) -> Option<Arc<Request>> {
        let is_given_up = self.ticket() == PUBLISHING && self.replace_publishing(CLOSED);
        let before = is_given_up.then(|| self.watched.take()).flatten()?;
        self.share_arms(&before);
        Some(before)
    }

    /// Arms another request of the same lock, if this one is armed. The arms themselves belong to the ticket.
    fn share_arms(&self, other: &Request) {
        if self.released.is_armed() {
            other.released.arm();
        }
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.ticket() == CLOSED
    }

    /// N1. One word decides which of the two requests belongs to the lock.
    fn replace_publishing(&self, ticket: u64) -> bool {
        // Release: a thread that reads the ticket sees the entries. Acquire: so does the owner of the lock, which
        // removes them.
        self.ticket
            .compare_exchange(PUBLISHING, ticket, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Declares that all its entries are inserted, and draws its ticket unless a helper was faster.
    pub(crate) fn publish(&self, clock: &Clock) -> u64 {
        // R1. Release: pairs with the load in `order`, so that a helper's draw, hence every
        // ticket after it, happens after our insertions.
        self.ticket.store(PUBLISHED | FIRST_LIFE, Ordering::Release);
        self.help(PUBLISHED | FIRST_LIFE, clock)
    }

    /// Begins the next life of a request that rests: draws so many numbers, of which the first is its ticket unless a
    /// helper was faster. Returns the ticket, and the end of the numbers that are its own. Only for its owner.
    pub(crate) fn publish_again(&self, count: u64, clock: &Clock) -> (u64, u64) {
        self.granted.reset();
        // R2. Release: as in `publish`.
        let published = PUBLISHED | self.last_ticket();
        self.ticket.store(published, Ordering::Release);
        let first = clock.draw(count);
        match self.install(published, first) {
            Ok(()) => (first, first + count),
            Err(ticket) => (ticket, ticket),
        }
    }

    /// Begins the next life of a request that rests, with a number that was drawn for it before. Only for its owner,
    /// which looks next whether the request is overtaken.
    pub(crate) fn take_up(&self, number: u64) {
        self.granted.reset();
        // R6. SeqCst: the owner looks at the counters next; an insertion counts, and then loads the word.
        self.ticket.swap(number, Ordering::SeqCst);
    }

    /// Its ticket. Without a ticket, a number that compares as later than every ticket drawn so far: any
    /// thread that draws a ticket for it from now on draws a later one.
    pub(crate) fn order(&self, clock: &Clock) -> u64 {
        // SeqCst: pairs with `take_up` (R6), and as an Acquire with the other writes of the word.
        let mut word = self.ticket.load(Ordering::SeqCst);
        // More than once only if the request has begun another life meanwhile.
        while word & KIND == PUBLISHED {
            // The owner may have drawn a number smaller than ours without having written it yet. We draw
            // one for the request, so that neither thread has to wait for the other.
            word = self.help(word, clock);
        }
        word
    }

    /// Draws a ticket for the life that published this word. Returns the word.
    fn help(&self, published: u64, clock: &Clock) -> u64 {
        let number = clock.draw(1);
        self.install(published, number).err().unwrap_or(number)
    }

    /// Writes a ticket in the place of a PUBLISHED word, or returns the word that is there.
    fn install(&self, published: u64, ticket: u64) -> Result<(), u64> {
        // R2. Release: a thread that reads the ticket sees the entries. Acquire: so do we.
        self.ticket
            .compare_exchange(published, ticket, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    /// Whether it may rest when it is released: it was granted, and never had to wait (R5).
    pub(crate) fn may_rest(&self) -> bool {
        self.granted.is_set() && !self.has_waited()
    }

    /// Lets it rest, unless a watch was announced; then it must leave. Only for a request that may rest. Whether it
    /// rests.
    pub(crate) fn rest(&self) -> bool {
        // R5. Release: a walk that skips the request sees what its holder has written.
        self.ticket
            .store(RESTING | self.ticket(), Ordering::Release);
        !self.released.is_announced()
    }

    /// Whether it rests. Only its owner may ask: to others the answer says nothing about the next moment.
    pub(crate) fn rests(&self) -> bool {
        is_resting(self.ticket.load(Ordering::Relaxed))
    }

    /// The ticket of its current or last life. Only for its owner.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.ticket.load(Ordering::Relaxed) & !KIND
    }

    /// Its ticket. Only for a request that has entered.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::Acquire)
    }

    /// The ticket of a granted request, also if it is narrowed and does not have it yet.
    pub(crate) fn token(&self) -> u64 {
        match self.ticket() {
            PUBLISHING => self.waits_for.load(Ordering::Relaxed),
            ticket => ticket,
        }
    }

    /// Whether it had to wait, for another request or for the end of its first walk.
    pub(crate) fn has_waited(&self) -> bool {
        self.waits_for.load(Ordering::Relaxed) != 0
    }

    /// The ticket of the request that it watches, or watched last.
    pub(crate) fn waits_for(&self) -> Option<u64> {
        let ticket = self.waits_for.load(Ordering::Relaxed);
        (ticket != 0 && ticket != UNKNOWN).then_some(ticket)
    }

    /// Records the request that it is about to watch, and its ticket. Returns whether that is the first one. Called by
    /// the advancing thread before it pushes the watch: from then on another thread may advance the request.
    pub(crate) fn about_to_watch(&self, blocker: &Arc<Request>, ticket: u64) -> bool {
        self.watched.put(Arc::clone(blocker));
        self.waits_for.swap(ticket, Ordering::Relaxed) == 0
    }

    /// Records that its first walk pauses. Returns whether that is the first pause.
    pub(crate) fn pauses(&self) -> bool {
        let is_first = !self.has_waited();
        if is_first {
            self.waits_for.store(UNKNOWN, Ordering::Relaxed);
        }
        is_first
    }

    /// Whether it is counted as a waiting request, until it is settled.
    pub(crate) fn is_counted(&self) -> bool {
        self.has_waited() && self.ticket() < CLOSED
    }

    /// Drops its reference to the request that it watched last.
    pub(crate) fn forget_watched(&self) {
        drop(self.watched.take());
    }

    /// Reports its watch as retired to the request that it watches, so that the watch can be purged there.
    ///
    /// Called by the withdrawal, after it has set `released`, and by a thread that has pushed a watch and
    /// then sees `released` set. Both swap the slot, so at least one of them finds the newest entry, and no
    /// entry is found twice.
    ///
    /// The caller must complete the purge, if one is due.
    pub(crate) fn retire_watch(&self, garbage: &mut Garbage<Watch>) -> Option<DuePurge> {
        let watched = self.watched.take()?;
        let purge = watched.released.retire(garbage)?;
        Some(DuePurge { watched, purge })
    }
}

/// A purge of the watches of a request.
pub(crate) struct DuePurge {
    watched: Arc<Request>,
    purge: Purge<Watch>,
}

impl DuePurge {
    /// Does a part of the purge; `true` at its end.
    pub(crate) fn step(&mut self, budget: &mut Budget, garbage: &mut Garbage<Watch>) -> bool {
        self.purge.step(&self.watched.released, budget, garbage)
    }
}

/// A request that waits until another one is released, and where its walk goes on then.
pub(crate) struct Watch {
    pub(crate) request: Arc<Request>,
    pub(crate) cursor: Cursor,
}

impl Watch {
    pub(crate) fn new(request: &Arc<Request>, cursor: Cursor) -> Arc<Watch> {
        let request = Arc::clone(request);
        Arc::new(Watch { request, cursor })
    }

    /// Takes the cursor out, to walk on from it. Another thread may still look at the watch, in a purge.
    pub(crate) fn take_cursor(self: &mut Arc<Watch>) -> Cursor {
        match Arc::get_mut(self) {
            Some(watch) => mem::replace(&mut watch.cursor, Cursor::START),
            None => self.cursor.clone(),
        }
    }

    /// The watch with another cursor, at the same place in memory if no other thread looks at it.
    pub(crate) fn at(mut self: Arc<Watch>, cursor: Cursor) -> Arc<Watch> {
        match Arc::get_mut(&mut self) {
            Some(watch) => {
                watch.cursor = cursor;
                self
            }
            None => Watch::new(&self.request, cursor),
        }
    }
}

impl Subscriber for Watch {
    fn is_retired(&self) -> bool {
        self.request.released.is_set()
    }
}
