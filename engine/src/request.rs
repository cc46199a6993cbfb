//! One request: its place in the order, its two events, and whom it watches.
//!
//! ```text
//!   PUBLISHING ──all entries inserted──► PUBLISHED ──by the owner or a helper──► ticket
//!
//!   waiting ──nothing earlier conflicts──► granted ──release──► released
//!      └───────────────────withdraw─────────────────────────────────▲
//! ```
//!
//! # Invariants
//! R1. A request is PUBLISHED only when it is in the table under all its keys.
//! R2. A ticket is a number drawn after the request was PUBLISHED, and is set once.
//! R3. One thread at a time advances a request: the one that entered it, then whoever took its
//!     watch from the chain in which it was.
//! R4. Who makes `granted` happen, be it to grant or to withdraw, takes the request off the count
//!     of those waiting.

use crate::clock::{CLOSED, Clock};
use crate::cursor::Cursor;
use crate::event::{Event, Subscriber};
use crate::resource::ResourceSet;
use crate::sync::{Arc, AtomicU64, Ordering, Slot};
use crate::waiter::Waiter;

/// Some of its entries may be missing: nobody may give it a ticket. Compares as later than any.
const PUBLISHING: u64 = u64::MAX;
/// All its entries are there; anybody may draw its ticket.
const PUBLISHED: u64 = u64::MAX - 1;

pub(crate) struct Request {
    /// PUBLISHING, PUBLISHED, or the ticket.
    ticket: AtomicU64,
    /// What the clock said before the entries were made: at most the ticket. Part of their keys.
    pub(crate) birth: u64,
    /// Also made to happen by a withdrawal, after `released`, so that no grant comes later.
    pub(crate) granted: Event<Arc<Waiter>>,
    /// Watched by requests that this one keeps waiting.
    pub(crate) released: Event<Watch>,
    /// The request whose `released` this one watches. Written by the advancing thread (R3); taken
    /// by whoever finds that the watch is dead.
    watched: Slot<Request>,
    /// Its ticket, for listings; 0 if this request never had to wait.
    waits_for: AtomicU64,
    pub(crate) resources: ResourceSet,
}

impl Request {
    pub(crate) fn new(resources: ResourceSet, birth: u64) -> Request {
        Request::with_ticket(resources, birth, PUBLISHING)
    }

    pub(crate) fn with_ticket(resources: ResourceSet, birth: u64, ticket: u64) -> Request {
        Request {
            ticket: AtomicU64::new(ticket),
            birth,
            granted: Event::new(),
            released: Event::new(),
            watched: Slot::new(),
            waits_for: AtomicU64::new(0),
            resources,
        }
    }

    /// Declares all its entries inserted and draws its ticket, unless a helper was faster.
    pub(crate) fn publish(&self, clock: &Clock) -> u64 {
        // R1. Release: pairs with the Acquire in `order`, so that a helper's draw, hence every
        // ticket after it, happens after our insertions.
        self.ticket.store(PUBLISHED, Ordering::Release);
        self.draw(clock)
    }

    /// Its ticket; or a number that compares as later than every ticket drawn so far, if it has
    /// none yet and whoever draws it will get a later one.
    pub(crate) fn order(&self, clock: &Clock) -> u64 {
        match self.ticket.load(Ordering::Acquire) {
            // Its owner may have drawn a number smaller than ours and not have written it yet.
            // Help, so that neither has to wait for the other to go on.
            PUBLISHED => self.draw(clock),
            ticket => ticket,
        }
    }

    fn draw(&self, clock: &Clock) -> u64 {
        let number = clock.draw();
        // R2. Release: whoever reads the ticket sees the entries; Acquire: likewise for us.
        match self
            .ticket
            .compare_exchange(PUBLISHED, number, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => number,
            Err(ticket) => ticket,
        }
    }

    /// Its ticket, once it has entered.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::Acquire)
    }

    pub(crate) fn waits_for(&self) -> u64 {
        self.waits_for.load(Ordering::Relaxed)
    }

    /// Notes whom it is about to watch; whether it is the first. By the advancing thread, before
    /// the watch is pushed: from then on another may advance it.
    pub(crate) fn about_to_watch(&self, blocker: &Arc<Request>) -> bool {
        self.watched.put(Arc::clone(blocker));
        self.waits_for.swap(blocker.ticket(), Ordering::Relaxed) == 0
    }

    /// Whether it is among the requests that are counted as waiting, until it is settled.
    pub(crate) fn is_counted(&self) -> bool {
        self.waits_for() != 0 && self.ticket() < CLOSED
    }

    /// Lets go of whom it watched last.
    pub(crate) fn forget_watched(&self) {
        drop(self.watched.take());
    }

    /// Reports its watch as dead to whom it watches, so that it can be purged there.
    ///
    /// Called by the withdrawal, after `released` happened, and by a thread that has pushed a watch
    /// and then sees `released`: the slot is swapped by both, so one of them at least finds the
    /// newest entry, and no entry is found twice.
    pub(crate) fn bury_watch(&self) {
        if let Some(watched) = self.watched.take() {
            watched.released.bury();
        }
    }
}

/// A request that waits until another is released, and where its walk goes on then.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) request: Arc<Request>,
    pub(crate) cursor: Cursor,
}

impl Subscriber for Watch {
    fn is_live(&self) -> bool {
        !self.request.released.has_happened()
    }
}
