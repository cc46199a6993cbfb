//! The listing of all outstanding requests, which can be read in parts.
//!
//! A request is listed at the entry of its first resource. The other entries are passed over.
//!
//! # Why each request is listed once
//! A request keeps its entries, and their keys, as long as it is outstanding. A listing moves forward through the
//! ordered keys, and a [`Place`] names the key of the last entry it has passed. So a request that is outstanding
//! throughout is met at its first resource, by exactly one of the parts.

use crate::budget::Budget;
use crate::error::{BadPlace, MAX_PATH_BYTES};
use crate::key::Key;
use crate::path::Path;
use crate::request::{Request, is_ticket};
use crate::resource::Mode;
use crate::reuse::Home;
use crate::stats::{RequestInfo, RequestState};
use crate::sync::pin;
use crate::table::Table;
use std::fmt;
use std::hash::BuildHasher as _;
use std::ops::Bound;

/// A place between two requests of a [listing](crate::LockManager::requests).
///
/// A place is a value, which keeps no memory of the lock manager in use. As [bytes](Place::to_bytes) it can be given
/// to a client that asks for the next part. It is about as long as the path at that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    mode: Mode,
    /// The last entry before this place; `None` at the start of the list of this mode.
    last: Option<Last>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    path: Path,
    birth: i64,
    /// The identity in the key of the entry is an address in the heap. An address helps to exploit a defect of
    /// the memory, so a place holds it combined with a number that only the lock manager can compute.
    hidden_identity: u64,
}

impl Place {
    /// The start of every listing.
    pub const START: Place = Place {
        mode: Mode::Write,
        last: None,
    };

    const HEAD: usize = 1 + 8 + 8;

    /// The place as bytes: at most 17 more than the path at that place has.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![match self.mode {
            Mode::Write => 0,
            Mode::Read => 1,
        }];
        if let Some(last) = &self.last {
            bytes.extend(last.birth.to_be_bytes());
            bytes.extend(last.hidden_identity.to_be_bytes());
            bytes.extend(last.path.as_bytes());
        }
        bytes
    }

    /// Reads the bytes of a place.
    ///
    /// # Errors
    /// [`BadPlace`] for bytes that [`to_bytes`](Place::to_bytes) cannot have returned.
    pub fn from_bytes(bytes: &[u8]) -> Result<Place, BadPlace> {
        Place::read(bytes).ok_or(BadPlace(()))
    }

    fn read(bytes: &[u8]) -> Option<Place> {
        if bytes.len() > Place::HEAD + MAX_PATH_BYTES {
            return None;
        }
        let (mode, last) = bytes.split_first()?;
        let mode = match mode {
            0 => Mode::Write,
            1 => Mode::Read,
            _ => return None,
        };
        if last.is_empty() {
            return Some(Place { mode, last: None });
        }
        let (birth, last) = last.split_first_chunk()?;
        let (hidden_identity, path) = last.split_first_chunk()?;
        let last = Some(Last {
            path: Path::from_bytes(path)?,
            birth: i64::from_be_bytes(*birth),
            hidden_identity: u64::from_be_bytes(*hidden_identity),
        });
        Some(Place { mode, last })
    }
}

/// Copying one resource of a listed request takes about so many nanoseconds.
pub(crate) const COPY: u64 = 30;

/// The outstanding requests from a place on; see [`LockManager::requests`](crate::LockManager::requests).
pub struct Requests {
    space: Home,
    /// The list, and the key of the last entry that was passed. `None` at the end of the listing.
    at: Option<(Mode, Option<Key>)>,
    budget: Budget,
}

impl Requests {
    pub(crate) fn new(space: Home, place: &Place) -> Requests {
        let last = place.last.as_ref().map(|last| Key {
            path: last.path.clone(),
            birth: last.birth,
            identity: (last.hidden_identity ^ pad(&space, place.mode, &last.path, last.birth))
                as usize,
        });
        Requests {
            at: Some((place.mode, last)),
            space,
            budget: Budget::unlimited(),
        }
    }

    /// Ends the iterator after this much work. One unit of the budget is about a microsecond.
    /// [`place`](Requests::place) then tells whether the listing goes on. A budget of 0 counts as 1, so that each
    /// part of a listing makes progress.
    #[must_use]
    pub fn within(self, budget: usize) -> Requests {
        let budget = Budget::new(budget.max(1));
        Requests { budget, ..self }
    }

    /// The place behind the last request that was returned, from which
    /// [`LockManager::requests_from`](crate::LockManager::requests_from) continues. `None` after the iterator has
    /// come to the end of the listing.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let (mode, key) = self.at.as_ref()?;
        let last = key.as_ref().map(|key| Last {
            path: key.path.clone(),
            birth: key.birth,
            hidden_identity: key.identity as u64 ^ pad(&self.space, *mode, &key.path, key.birth),
        });
        Some(Place { mode: *mode, last })
    }
}

/// The number that hides an identity. It differs from place to place, so two places do not show how far apart two
/// requests are in the heap, unless both have the same path and the same birth.
fn pad(table: &Table, mode: Mode, path: &Path, birth: i64) -> u64 {
    let secret = &table.entries.secret;
    secret.hash_one((mode == Mode::Write, path, birth))
}

impl Iterator for Requests {
    type Item = RequestInfo;

    fn next(&mut self) -> Option<RequestInfo> {
        // Each call pins anew, so a listing that is read slowly does not delay the reclamation of memory.
        let guard = pin();
        while !self.budget.is_spent()
            && let Some((mode, after)) = &mut self.at
        {
            self.budget
                .search(after.as_ref().map_or(0, |key| key.path.as_bytes().len()));
            let bound = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut entry = self.space.entries.list(*mode).seek(bound, &guard);
            while let Some(here) = entry {
                self.budget.step(0);
                let first = &here.value().resources[0];
                let is_first = first.mode == *mode && first.path == here.key().path;
                let listed = is_first.then(|| info(here.value())).flatten();
                if listed.is_some() || self.budget.is_spent() {
                    *after = Some(here.key().clone());
                    let copied = listed.as_ref().map_or(0, |info| info.resources.len());
                    self.budget.spend(COPY * copied as u64);
                    return listed;
                }
                entry = here.next();
            }
            self.at = (*mode == Mode::Write).then_some((Mode::Read, None));
        }
        None
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

/// A request as it is listed; `None` if it is entering, rests, was refused or has left.
pub(crate) fn info(request: &Request) -> Option<RequestInfo> {
    let token = request.ticket();
    if !is_ticket(token) {
        return None;
    }
    let acquired = request.granted.is_set();
    let is_waiting = request.has_waited() && !acquired;
    // `granted` is read before `released`: a withdrawal sets `granted`, too, after `released`. And it is read before
    // the ticket is read again: a request takes it back only after the life with this ticket has ended.
    if !acquired && !is_waiting || request.released.is_set() || request.ticket() != token {
        return None;
    }
    Some(RequestInfo {
        token,
        resources: request.resources.to_vec(),
        state: if acquired {
            RequestState::Acquired
        } else {
            RequestState::Waiting
        },
        waits_for: request.waits_for().filter(|_| !acquired),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, ResourceSet};
    use crate::reuse::Space;
    use crate::sync::Arc;
    use crate::{Lock, LockManager};

    /// Requests for one path with one birth, which differ only in their identities. The public interface makes such
    /// requests when threads meet in a race.
    fn twins(table: &Table, count: usize) -> Vec<Arc<Request>> {
        let birth = table.clock.now().cast_signed();
        let twin = |_| {
            let set = ResourceSet::collect([Resource::read(["a"])]).unwrap();
            let request = Arc::new(Request::new(set, birth));
            let (guard, budget) = (pin(), &mut Budget::unlimited());
            let is_published = table
                .entries
                .publish(&request, &mut 0, &table.clock, budget, &guard)
                .is_some();
            assert!(is_published, "the budget is unlimited");
            request.granted.set_without_subscribers();
            request
        };
        (0..count).map(twin).collect()
    }

    fn remove(table: &Table, request: &Arc<Request>) {
        let (left, budget) = (&mut request.resources.len(), &mut Budget::unlimited());
        table.entries.remove(request, left, budget, &pin());
    }

    /// The tokens of all pages of this many requests. Each place passes through its bytes.
    fn tokens_in_pages(table: &Home, size: usize) -> Vec<u64> {
        let mut tokens = Vec::new();
        let mut place = Some(Place::START);
        while let Some(from) = place {
            let from = Place::from_bytes(&from.to_bytes()).unwrap();
            let mut page = Requests::new(table.clone(), &from);
            tokens.extend(page.by_ref().take(size).map(|request| request.token));
            place = page.place();
            assert!(tokens.len() < 100, "the listing comes to its end");
        }
        tokens
    }

    #[test]
    fn pages_list_requests_with_one_path_and_one_birth_once() {
        let table = Home::new(Arc::new(Space::new(1, 0, false)));
        let twins = twins(&table, 10);
        for size in 1..=11 {
            let mut tokens = tokens_in_pages(&table, size);
            tokens.sort_unstable();
            assert_eq!(tokens, (1..=10).collect::<Vec<_>>(), "{size} a page");
        }
        for twin in &twins {
            remove(&table, twin);
        }
        assert!(tokens_in_pages(&table, 1).is_empty());
    }

    #[test]
    fn a_place_does_not_show_the_address_of_a_request() {
        let table = Home::new(Arc::new(Space::new(1, 0, false)));
        let twin = &twins(&table, 1)[0];
        let mut listing = Requests::new(table.clone(), &Place::START);
        listing.next().expect("one request");
        let place = listing.place().expect("the end was not looked for");
        let shown = place.last.as_ref().expect("an entry").hidden_identity;
        let address = Arc::as_ptr(twin).addr() as u64;
        assert_ne!(shown, address);
        // Another manager hides it in another way.
        let other = Home::new(Arc::new(Space::new(1, 0, false)));
        let (_, key) = Requests::new(other, &place).at.expect("not the end");
        assert_ne!(key.expect("an entry").identity as u64, address);
        remove(&table, twin);
    }

    #[test]
    fn a_budget_ends_a_listing_early_and_the_place_continues_it() {
        let locks = LockManager::new();
        // Two requests of 100 resources each; one entry of each is its first.
        let held: Vec<Lock> = ["a", "b"]
            .map(|top| (0..100).map(move |name| Resource::write([top, &name.to_string()])))
            .map(|set| locks.blocking_lock(set).unwrap())
            .into();
        let (mut pages, mut tokens) = (0, Vec::new());
        let mut place = Some(Place::START);
        while let Some(from) = place {
            let mut page = locks.requests_from(&from).within(2);
            tokens.extend(page.by_ref().map(|request| request.token));
            place = page.place();
            pages += 1;
            assert!(pages < 100, "the listing comes to its end");
        }
        assert_eq!(tokens, [held[0].token(), held[1].token()]);
        assert!((6..=12).contains(&pages), "{pages}");
        assert_eq!(locks.requests().within(0).count(), 1);
    }
}
