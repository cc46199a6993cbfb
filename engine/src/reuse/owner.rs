//! What the owner of a request keeps from one life of the request to the next.

use crate::counters::{Zones, digest, mix};
use crate::entries::Entries;
use crate::request::Request;
use crate::resource::{Mode, Resource};
use crate::sync::Arc;
use std::borrow::Borrow;

/// The owner of a request that has rested or may rest.
pub(crate) struct Owner {
    pub(crate) request: Arc<Request>,
    /// The sum near the request when its last walk met no other entry. `None` if the walk did.
    pub(crate) alone_at: Option<u64>,
    /// Where insertions can conflict with the request. `None` before the first walk, and if a path is too deep. Then
    /// each life walks.
    zones: Option<Zones>,
    /// The place that the request came from, for the owner of a place.
    pub(crate) hash: u64,
    pub(crate) slot: usize,
}

impl Owner {
    pub(crate) fn new(request: Arc<Request>) -> Owner {
        Owner {
            request,
            alone_at: None,
            zones: None,
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
pub(crate) fn hash<R: Borrow<Resource>>(resources: &[R]) -> u64 {
    resources.iter().fold(0, |hash, resource| {
        let Resource { path, mode } = resource.borrow();
        let is_write = u64::from(*mode == Mode::Write);
        mix(hash ^ digest(path.as_bytes()), is_write)
    })
}
