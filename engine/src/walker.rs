//! The request for which the table is walked, and how its walk ends.

use crate::clock::Clock;
use crate::key::Key;
use crate::request::{Request, is_resting};
use crate::resource::Resource;
use crate::sync::{Arc, Inserted};
use crate::walk::Cursor;

/// The request for which the table is walked.
pub(crate) struct Walker<'a> {
    pub(crate) resources: &'a [Resource],
    pub(crate) ticket: u64,
    /// Entries that were born later are passed over where a span begins.
    pub(crate) births: u64,
    /// The request itself, if it is in the table.
    pub(crate) own: Option<&'a Arc<Request>>,
    /// Made when the request was published, for the first step of the walk. A walk that has waited or paused does not
    /// have it.
    pub(crate) newest: Option<&'a Newest<'a>>,
    /// What the walk meets, if the request wants to know it.
    pub(crate) met: Option<&'a mut Met>,
}

/// The requests that a walk has met, besides the own one.
#[derive(Default)]
pub(crate) struct Met {
    pub(crate) any: bool,
    /// Some of those that rest, to be cleared away.
    pub(crate) resting: Vec<Arc<Request>>,
}

impl Met {
    /// So many at most are cleared away after one walk.
    const MOST: usize = 16;

    fn add(&mut self, other: &Arc<Request>, order: u64) {
        self.any = true;
        if is_resting(order) && self.resting.len() < Met::MOST {
            self.resting.push(Arc::clone(other));
        }
    }
}

/// The entry of a request of one resource, a write, that drew the number of its birth.
///
/// No other ticket was drawn between its birth and its ticket. So every entry at its path that sorts before its own
/// has its birth or a later one, hence a later ticket. Only the entries behind its own matter, and one step
/// shows whether any of them is in its subtree, and the first of these. If the request has to wait for that one, no
/// search is needed.
///
/// The walk takes this step when it comes to the subtree, after the ancestors: a walk looks at no place before it
/// comes there.
pub(crate) struct Newest<'a>(pub(crate) Inserted<'a, 'a, Key, Arc<Request>>);

impl Newest<'_> {
    /// Looks at the next entry, if it is at the path or below it. One step.
    pub(crate) fn behind<R>(
        &self,
        own: &Resource,
        look: impl FnOnce(&Key, &Arc<Request>) -> R,
    ) -> Option<R> {
        let of_subtree =
            |key: &Key, other: &_| own.path.contains(&key.path).then(|| look(key, other));
        self.0.look_at_next(of_subtree).flatten()
    }
}

/// What one step from the own entry shows.
pub(crate) enum Behind {
    /// There is no earlier write at its path or below it.
    Clear,
    /// The first one, and its ticket.
    Blocker(Key, Arc<Request>, u64),
    /// The next entry is there, but does not block.
    Unknown,
}

impl<'a> Walker<'a> {
    /// Larger than every birth.
    pub(crate) const ALL_BIRTHS: u64 = u64::MAX >> 1;

    pub(crate) fn of(request: &'a Arc<Request>) -> Walker<'a> {
        let ticket = request.ticket();
        Walker {
            own: Some(request),
            ..Walker::of_set(&request.resources, ticket, ticket)
        }
    }

    /// For a set that is not in the table.
    pub(crate) fn of_set(resources: &'a [Resource], ticket: u64, births: u64) -> Walker<'a> {
        Walker {
            resources,
            ticket,
            births,
            own: None,
            newest: None,
            met: None,
        }
    }

    /// The step of [`Newest`], if the walker has one.
    pub(crate) fn look_behind_own(&mut self, clock: &Clock) -> Behind {
        let (Some(newest), [only, ..]) = (self.newest, self.resources) else {
            return Behind::Unknown;
        };
        let behind = newest.behind(only, |key, other| match self.waits_for(other, clock) {
            Some(ticket) => Behind::Blocker(key.clone(), Arc::clone(other), ticket),
            None => Behind::Unknown,
        });
        behind.unwrap_or(Behind::Clear)
    }

    /// The ticket of another request that conflicts, if it has to wait for that one.
    pub(crate) fn waits_for(&mut self, other: &Arc<Request>, clock: &Clock) -> Option<u64> {
        if self.own.is_some_and(|own| Arc::ptr_eq(own, other)) {
            return None;
        }
        let order = other.order(clock);
        if let Some(met) = &mut self.met {
            met.add(other, order);
        }
        (order < self.ticket && !other.released.is_set()).then_some(order)
    }
}

/// Where a walk ends or pauses.
pub(crate) enum Found {
    /// A request that the walker has to wait for, its ticket, and the cursor that stands on it.
    Blocker(Cursor, Arc<Request>, u64),
    /// There is no such request, and there never will be.
    Nothing,
    /// The budget is spent. The walk goes on at this cursor.
    Paused(Cursor),
}
