//! The requests that another request has to wait for: all of them, and the one at the root, which holds its lock.
//!
//! Both are walks of the table, as a request makes them that enters. The iterator keeps the cursor of its walk, and no
//! guard, so it can be read slowly. A request whose entries the walk meets more than once is returned once.
//!
//! # The way to the root
//! A waiting request waits for an earlier one, and that one perhaps for one still earlier, until one of them holds its
//! lock. In a queue of writers each waits for the one before it: 100,000 writers have a way of 100,000 links. The
//! requests for one path in one list all conflict with the request that meets one of them. So the way goes on from
//! the oldest of these, and for a queue it has one link, or two if it crosses from the writers to the readers.

use crate::budget::Budget;
use crate::clock::LIMIT;
use crate::key::Key;
use crate::listing::{COPY, info};
use crate::request::{Request, is_resting};
use crate::resource::{Resource, ResourceSet};
use crate::reuse::Home;
use crate::stats::RequestInfo;
use crate::sync::{Arc, Guard, pin};
use crate::table::Table;
use crate::walk::Cursor;
use crate::walker::{Found, Walker};
use std::collections::HashSet;
use std::fmt;

/// The outstanding requests that a request has to wait for: an iterator over all that are earlier than it and conflict
/// with it. Made by [`Pending::blockers`](crate::Pending::blockers),
/// [`LockManager::blockers_of`](crate::LockManager::blockers_of) and
/// [`LockManager::blockers_before`](crate::LockManager::blockers_before).
///
/// They come in the order of a walk: for each resource the writes at its ancestors from the root down, those at its
/// path and below it, and then, if the resource is for write, the reads in the same order; at one path the youngest
/// request first. They may hold their locks or wait themselves.
///
/// It is not a snapshot. A request that is outstanding throughout is returned once; a request that ends meanwhile may be
/// missing. The iterator blocks no operation, can be read slowly, and can be dropped at any time.
///
/// Cost: O(log outstanding) for each request that is returned, and otherwise as the walk of
/// [`lock`](crate::LockManager::lock), with one step for each later request that it passes. Bound the number of requests
/// with [`take`](Iterator::take) and the work with [`within`](Blockers::within). Memory: eight bytes for each request
/// that was returned.
///
/// # Examples
/// ```
/// # use locktopus_engine::{LockManager, Resource};
/// let locks = LockManager::new();
/// let reader = locks.enqueue([Resource::read(["a", "b"])])?;
/// let writer = locks.enqueue([Resource::write(["a"])])?;
/// let last = locks.enqueue([Resource::write(["a", "b"])])?;
///
/// let mut blockers = last.blockers().within(100);
/// let tokens: Vec<u64> = blockers.by_ref().take(16).map(|request| request.token).collect();
/// assert_eq!(tokens, [writer.token(), reader.token()]);
/// assert!(blockers.is_complete()); // there are no others
///
/// let root = last.blockers().within(100).root_holder().expect("it waits");
/// assert_eq!(root.token, reader.token());
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
pub struct Blockers {
    /// `None` for a request that is not in line.
    space: Option<Home>,
    of: Waiting,
    /// Where the walk goes on; `None` at its end.
    at: Option<Cursor>,
    /// The tokens of the requests that were returned.
    returned: HashSet<u64>,
    budget: Budget,
}

/// The request that waits, or that would wait.
struct Waiting {
    set: Set,
    ticket: u64,
}

enum Set {
    /// Of a request that waits. It may have another life later, with another ticket.
    Of(Arc<Request>),
    Given(ResourceSet),
}

impl Waiting {
    fn resources(&self) -> &[Resource] {
        match &self.set {
            Set::Of(request) => &request.resources,
            Set::Given(resources) => resources,
        }
    }

    fn walker(&self) -> Walker<'_> {
        let own = match &self.set {
            Set::Of(request) => Some(request),
            Set::Given(_) => None,
        };
        Walker {
            own,
            ..Walker::of_set(self.resources(), self.ticket, self.ticket)
        }
    }
}

impl Blockers {
    pub(crate) fn of_request(space: Option<Home>, request: Arc<Request>) -> Blockers {
        let ticket = request.ticket();
        let set = Set::Of(request);
        Blockers::new(space, Waiting { set, ticket })
    }

    pub(crate) fn of_set(space: Home, resources: ResourceSet, token: u64) -> Blockers {
        // No ticket of an outstanding request is as large.
        let ticket = token.min(2 * LIMIT);
        let set = Set::Given(resources);
        Blockers::new(Some(space), Waiting { set, ticket })
    }

    fn new(space: Option<Home>, of: Waiting) -> Blockers {
        Blockers {
            at: space.is_some().then_some(Cursor::START),
            space,
            of,
            returned: HashSet::new(),
            budget: Budget::unlimited(),
        }
    }

    /// Ends the iterator after this much work. One unit of the budget is about a microsecond.
    /// [`is_complete`](Blockers::is_complete) then tells whether there is more, and a new budget continues it. A budget
    /// of 0 counts as 1, so that each part makes progress.
    #[must_use]
    pub fn within(self, budget: usize) -> Blockers {
        let budget = Budget::new(budget.max(1));
        Blockers { budget, ..self }
    }

    /// Whether all blockers were returned: the iterator has ended, and not because of its budget.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.at.is_none()
    }

    /// The request at the end of the way: the first request waits for another one, that one perhaps for a third, and so
    /// on, until one of them holds its lock. `None` if no request is in the way.
    ///
    /// There may be several ways. This is one of them: from each request to the first blocker that the walk meets, or to
    /// the oldest request at the path of that one. So a queue of any length at one path is passed in one or two links.
    ///
    /// The way is cut when the budget is spent: a set that waits behind another set, and so on 100,000 times, has a way
    /// of 100,000 links. Then the last request that was reached is returned, whose state is
    /// [`Waiting`](crate::RequestState::Waiting). From its token and its resources
    /// [`blockers_before`](crate::LockManager::blockers_before) goes on. While other requests end, the way may also end
    /// at a request that is about to be granted, or nowhere.
    ///
    /// Cost: two searches for each link, and what its walk passes.
    #[must_use]
    pub fn root_holder(mut self) -> Option<RequestInfo> {
        let guard = pin();
        let mut reached = None;
        while let Some(blocker) = self.next_request(&guard) {
            let (request, ticket) = self.oldest_beside(&guard).unwrap_or(blocker);
            if request.granted.is_set() {
                match info(&request) {
                    None => continue, // It has ended meanwhile, so the walk goes on behind it.
                    root => return root,
                }
            }
            let set = Set::Of(Arc::clone(&request));
            self.of = Waiting { set, ticket };
            self.at = Some(Cursor::START);
            reached = Some(request);
        }
        reached.and_then(|request| info(&request))
    }
}

impl Blockers {
    /// So many resting requests are passed on the way to the oldest request at a path.
    const RESTING: usize = 8;

    /// The next request that the walk meets, and its ticket. `None` at its end, or if the budget is spent.
    fn next_request(&mut self, guard: &Guard) -> Option<(Arc<Request>, u64)> {
        let Table { entries, clock, .. } = self.space.as_ref()?.table();
        while !self.budget.is_spent() {
            let cursor = self.at.take()?;
            let walker = &mut self.of.walker();
            match entries.next_blocker(walker, clock, cursor, &mut self.budget, guard) {
                Found::Nothing => return None,
                Found::Paused(cursor) => self.at = Some(cursor),
                Found::Blocker(cursor, blocker, ticket) => {
                    self.at = Some(cursor);
                    return Some((blocker, ticket));
                }
            }
        }
        None
    }

    /// The oldest of the requests beside the last one that the walk met: at the same path, in the same list, and
    /// blockers as well.
    fn oldest_beside(&mut self, guard: &Guard) -> Option<(Arc<Request>, u64)> {
        let Table { entries, clock, .. } = self.space.as_ref()?.table();
        let (mode, met) = self.at.as_ref()?.place()?;
        let mut last = Key::last(met.path.clone());
        for _ in 0..=Blockers::RESTING {
            self.budget.search(met.path.as_bytes().len());
            let oldest = entries.list(mode).last_up_to(&last, guard)?;
            if oldest.key().path != met.path {
                return None;
            }
            if let Some(ticket) = self.of.walker().waits_for(oldest.value(), clock) {
                return Some((Arc::clone(oldest.value()), ticket));
            }
            if !is_resting(oldest.value().ticket()) {
                return None;
            }
            last = oldest.key().clone();
            // No entry lies between the two keys.
            last.identity -= 1;
        }
        None
    }
}

impl Iterator for Blockers {
    type Item = RequestInfo;

    fn next(&mut self) -> Option<RequestInfo> {
        // Each call pins anew, so a slow reader does not delay the reclamation of memory.
        let guard = pin();
        while let Some((blocker, ticket)) = self.next_request(&guard) {
            if self.returned.insert(ticket)
                && let Some(info) = info(&blocker).filter(|info| info.token == ticket)
            {
                self.budget.spend(COPY * info.resources.len() as u64);
                return Some(info);
            }
        }
        None
    }
}

impl fmt::Debug for Blockers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blockers")
            .field("of", &self.of.resources())
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}
