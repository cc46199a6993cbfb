//! What the owner of a request keeps from one life of the request to the next.

use crate::counters::{Zones, digest};
use crate::entries::Entries;
use crate::request::Request;
use crate::resource::{Mode, Resource};
use crate::sync::Arc;
use crate::table::Table;
use std::borrow::Borrow;

/// The owner of a request that has rested or may rest.
pub(crate) struct Owner {
    pub(crate) request: Arc<Request>,
    /// The sum near the request when its last walk met no other entry. `None` if the walk did.
    pub(crate) alone_at: Option<u64>,
    /// Where insertions can conflict with the request. `None` before the first walk, and if a path is too deep. Then
    /// each life walks.
    zones: Option<Zones>,
    /// The end of the numbers in reserve. They follow the last ticket. None are left if it is not larger than that.
    until: u64,
    /// How many numbers the next draw takes, and how many after a walk.
    count: u64,
    fewest: u64,
    /// The place that the request came from, for the owner of a place.
    pub(crate) hash: u64,
    pub(crate) slot: usize,
}

impl Owner {
    /// The most numbers that one draw takes.
    const MOST: u64 = 256;

    /// The first draw of a request that is alone takes `fewest` numbers.
    pub(crate) fn new(request: Arc<Request>, fewest: u64) -> Owner {
        Owner {
            request,
            alone_at: None,
            zones: None,
            until: 0,
            count: fewest,
            fewest,
            hash: 0,
            slot: 0,
        }
    }

    pub(crate) fn in_place(self, hash: u64, slot: usize) -> Owner {
        Owner { hash, slot, ..self }
    }

    /// Whether nothing was inserted near the request since it was alone.
    #[inline]
    pub(crate) fn is_alone(&self, entries: &Entries) -> bool {
        match &self.zones {
            Some(zones) => self.alone_at.is_some() && entries.near(zones) == self.alone_at,
            None => false,
        }
    }

    /// The next number in reserve.
    #[inline]
    pub(crate) fn next_in_reserve(&self) -> Option<u64> {
        let next = self.request.last_ticket() + 1;
        (next < self.until).then_some(next)
    }

    /// Draws the ticket of the next life, and some numbers more if it was alone in its last one.
    pub(crate) fn draw(&mut self, table: &Table) -> u64 {
        let count = if self.alone_at.is_some() {
            self.count
        } else {
            1
        };
        if count > 1 {
            table.entries.counters.note_reserve();
        }
        let (ticket, until) = self.request.publish_again(count, &table.clock);
        self.until = until;
        self.count = (2 * count).min(Owner::MOST);
        ticket
    }

    /// Gives up the numbers in reserve: another request may have come and gone since they were drawn.
    pub(crate) fn void_reserve(&mut self) {
        self.until = 0;
        self.count = self.fewest;
    }

    /// Takes the sum near the request, so that later insertions change it.
    pub(crate) fn look_around(&mut self, entries: &Entries) -> Option<u64> {
        let is_known = |zones: &Zones| entries.near(zones).is_some();
        if !self.zones.as_ref().is_some_and(is_known) {
            self.zones = entries.zones(&self.request.resources);
        }
        entries.near(self.zones.as_ref()?)
    }
}

/// The hash of a set, which chooses its place.
#[inline]
pub(crate) fn hash<R: Borrow<Resource>>(resources: &[R]) -> u64 {
    resources.iter().fold(0, |hash: u64, resource| {
        let Resource { path, mode } = resource.borrow();
        let own = digest(path.as_bytes());
        let own = if *mode == Mode::Write { own } else { !own };
        hash.rotate_left(27) ^ own
    })
}
