//! Namespaces: each has a name, and a lock manager of its own.
//!
//! # Invariants
//! N1. A namespace is in the map exactly while it has holders. A holder lasts while its connection is open, its lock is
//!     abandoned, or a job ends its lock; so nothing is locked in a namespace that is dropped.
//! N2. Tokens of a namespace never run backwards, even if it is dropped and created again: its tokens start after the
//!     last token of every namespace that was dropped before.

use super::holder::{Client, Holder, STEP};
use super::journal::Journal;
use crate::metrics::Totals;
use crate::work::Queues;
use locktopus_engine::{LockManager, Options};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::task::yield_now;

/// How many namespaces are closed before other tasks go on.
const AT_A_TIME: usize = 100;

/// How many entries of a map are read while its mutex is locked.
const PART: usize = 128;

/// All namespaces of a server.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    map: Arc<Mutex<Map>>,
    pub(super) journal: Journal,
    pub(super) queues: Arc<Queues>,
}

#[derive(Debug)]
struct Map {
    by_name: BTreeMap<Arc<str>, Entry>,
    last_token: u64,
    closed: bool,
    /// How many namespaces are allowed.
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    namespace: Arc<Namespace>,
    holders: usize,
}

/// The requests of a namespace that may rest in its lock table between two locks. Few, because clients choose the number
/// of namespaces, and no share counts this memory: at most 54 KiB for each namespace.
const PLACES: usize = 16;

/// One namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: Arc<str>,
    pub(crate) locks: LockManager,
    /// Open connections; the other holders have abandoned locks, or locks that end.
    connections: AtomicUsize,
    /// By the numbers of their connections.
    holders: Mutex<BTreeMap<u64, Weak<Holder>>>,
}

impl Namespace {
    fn new(name: Arc<str>, last_token: u64) -> Namespace {
        Namespace {
            name,
            locks: LockManager::with(Options::new().last_token(last_token).places(PLACES)),
            connections: AtomicUsize::new(0),
            holders: Mutex::default(),
        }
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Notes that a connection has ended.
    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The holders of all open connections and of all abandoned locks, in parts: the thousands of holders of a namespace are not in memory at one
    /// time, and its mutex is locked only for a moment at a time.
    pub(crate) fn each_holder(&self) -> impl Iterator<Item = Arc<Holder>> {
        in_parts(|last: Option<&Arc<Holder>>| {
            let last = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.client.id));
            let holders = self.by_id();
            let part = holders.range((last, Bound::Unbounded));
            part.filter_map(|(_, holder)| holder.upgrade())
                .take(PART)
                .collect()
        })
    }

    fn by_id(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection cannot join a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotJoined {
    /// The server is shutting down.
    Closed,
    /// The namespace does not exist, and the limit of namespaces is reached.
    Full,
}

impl Namespaces {
    /// Starts without namespaces, and allows at most `limit` of them. Tokens start after `last_token`.
    pub(crate) fn new(
        last_token: u64,
        limit: usize,
        journal: Journal,
        queues: Arc<Queues>,
    ) -> Namespaces {
        let map = Map {
            by_name: BTreeMap::new(),
            last_token,
            closed: false,
            limit,
        };
        Namespaces {
            map: Arc::new(Mutex::new(map)),
            journal,
            queues,
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the namespace of this name, and creates it if it does not exist. The holder keeps the place of its
    /// connection.
    pub(crate) fn join(
        &self,
        name: &str,
        client: Client,
        place: impl Any + Send + Sync,
    ) -> Result<Arc<Holder>, NotJoined> {
        let mut map = self.map();
        if map.closed {
            return Err(NotJoined::Closed);
        }
        if map.by_name.len() >= map.limit && !map.by_name.contains_key(name) {
            return Err(NotJoined::Full);
        }
        let (name, last_token) = (Arc::from(name), map.last_token);
        let entry = map.by_name.entry(name).or_insert_with_key(|name| Entry {
            namespace: Arc::new(Namespace::new(Arc::clone(name), last_token)),
            holders: 0,
        });
        entry.holders += 1;
        entry.namespace.connections.fetch_add(1, Ordering::Relaxed);
        let stay = Stay {
            namespaces: self.clone(),
            namespace: Arc::clone(&entry.namespace),
            id: client.id,
            _place: Box::new(place),
        };
        let holder = Arc::new(Holder::new(client, stay));
        let mut holders = entry.namespace.by_id();
        holders.insert(holder.client.id, Arc::downgrade(&holder));
        drop(holders);
        Ok(holder)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Namespace>> {
        let map = self.map();
        map.by_name
            .get(name)
            .map(|entry| Arc::clone(&entry.namespace))
    }

    /// All namespaces in the order of their names, in parts: the mutex is locked only for a moment at a time. A
    /// namespace that is created or dropped meanwhile may be missing.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = Arc<Namespace>> {
        in_parts(|last: Option<&Arc<Namespace>>| {
            let last = last.map_or(Bound::Unbounded, |last| Bound::Excluded(&*last.name));
            let map = self.map();
            let part = map
                .by_name
                .range::<str, _>((last, Bound::Unbounded))
                .take(PART);
            part.map(|(_, entry)| Arc::clone(&entry.namespace))
                .collect()
        })
    }

    /// The sums over all namespaces.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for namespace in self.in_order() {
            let stats = namespace.locks.stats();
            totals.namespaces += 1;
            totals.connections += namespace.connections();
            totals.acquired += stats.acquired;
            totals.waiting += stats.waiting;
        }
        totals
    }

    /// Refuses new holders and new locks from now on, and waits until no lock is held and no request waits.
    ///
    /// There may be many namespaces, and many requests in each: it gives way to other tasks.
    pub(crate) async fn close(&self) {
        self.map().closed = true;
        for (index, namespace) in self.in_order().enumerate() {
            let mut closing = namespace.locks.close_in_steps();
            while !closing.step(STEP) {
                yield_now().await;
            }
            if index % AT_A_TIME == 0 {
                yield_now().await;
            }
        }
        for (index, namespace) in self.in_order().enumerate() {
            namespace.locks.drained().await;
            if index % AT_A_TIME == 0 {
                yield_now().await;
            }
        }
    }
}

/// The items of parts, each of which begins after the last item of the part before. An empty part ends them.
fn in_parts<T: Clone>(part: impl Fn(Option<&T>) -> Vec<T>) -> impl Iterator<Item = T> {
    let (mut last, mut items) = (None, Vec::new().into_iter());
    std::iter::from_fn(move || {
        let next = items.next().or_else(|| {
            items = part(last.as_ref()).into_iter();
            items.next()
        });
        last.clone_from(&next);
        next
    })
}

/// The stay of a holder in its namespace: it keeps the namespace in the map.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) namespaces: Namespaces,
    pub(super) namespace: Arc<Namespace>,
    id: u64,
    _place: Box<dyn Any + Send + Sync>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.namespace.by_id().remove(&self.id);
        let mut map = self.namespaces.map();
        let Some(entry) = map.by_name.get_mut(&*self.namespace.name) else {
            return;
        };
        entry.holders -= 1;
        if entry.holders == 0 {
            map.last_token = map.last_token.max(self.namespace.locks.stats().last_token);
            map.by_name.remove(&*self.namespace.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::shares::Party;
    use crate::work::Weight;
    use futures_util::FutureExt as _;
    use locktopus_protocol::Resource;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn namespaces(last_token: u64, limit: usize) -> Namespaces {
        let metrics = Arc::new(Metrics::new());
        let queues = Arc::new(Queues::new(1, &metrics));
        let journal = Journal {
            metrics,
            log_locks: false,
        };
        Namespaces::new(last_token, limit, journal, queues)
    }

    fn client(id: u64) -> Client {
        Client {
            id,
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            party: Party::of_address([127, 0, 0, 1].into()),
            name: None,
            abandon_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn a_namespace_exists_as_long_as_it_has_holders() {
        let all = namespaces(0, 10);
        assert!(all.get("a").is_none());
        let first = all.join("a", client(1), ()).expect("open");
        let second = all.join("a", client(2), ()).expect("open");
        let _other = all.join("b", client(3), ()).expect("open");
        assert!(std::ptr::eq(first.namespace(), second.namespace()));
        assert_eq!(second.namespace().connections(), 2);
        first.disconnect();
        assert_eq!(second.namespace().connections(), 1);
        drop(first);
        assert_eq!(second.namespace().connections(), 1, "counted once");
        assert!(all.get("a").is_some());
        drop(second);
        assert!(all.get("a").is_none());
        assert_eq!(all.in_order().count(), 1);
    }

    #[test]
    fn tokens_rise_even_if_a_namespace_is_dropped_and_created_again() {
        let all = namespaces(100, 10);
        let mut last = 100;
        for _ in 0..3 {
            let holder = all.join("a", client(1), ()).expect("open");
            let set = vec![Resource::write(["x"])];
            let entered = holder.enqueue(set, Weight::Light).now_or_never();
            entered.expect("at once").expect("sent").expect("open");
            let (token, acquired) = holder.entered();
            assert!(acquired && token > last);
            last = token;
            assert!(holder.release().now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn closed_namespaces_accept_no_holders() {
        let all = namespaces(0, 10);
        let holder = all.join("a", client(1), ()).expect("open");
        all.close().await;
        for name in ["a", "b"] {
            assert_eq!(all.join(name, client(2), ()).err(), Some(NotJoined::Closed));
        }
        assert!(holder.namespace().locks.is_closed());
    }

    #[test]
    fn there_are_at_most_as_many_namespaces_as_the_limit_allows() {
        let all = namespaces(0, 1);
        let holder = all.join("a", client(1), ()).expect("room");
        assert_eq!(all.join("b", client(2), ()).err(), Some(NotJoined::Full));
        assert!(all.join("a", client(3), ()).is_ok(), "an existing one");
        drop(holder);
        assert!(all.join("b", client(4), ()).is_ok());
    }

    #[test]
    fn a_namespace_that_is_dropped_while_it_is_listed_is_listed_empty() {
        let all = namespaces(0, 10);
        let holder = all.join("a", client(1), ()).expect("open");
        let listed = all.get("a").expect("it exists");
        drop(holder);
        assert!(listed.each_holder().next().is_none());
        assert_eq!(listed.locks.requests().count(), 0);
        assert_eq!(listed.connections(), 0);
    }
}
