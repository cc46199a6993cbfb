//! Namespaces: each has a name, and a lock manager of its own.
//!
//! # Invariants
//! N1. A namespace is in the map exactly while it has members. A member is an open connection, or a closed one whose
//!     lock is abandoned; so nothing is locked in a namespace that is dropped.
//! N2. Tokens of a namespace never run backwards, even if it is dropped and created again: its tokens start after the
//!     last token of every namespace that was dropped before.

use super::holder::{Client, Holder, Journal};
use crate::metrics::Totals;
use locktopus_engine::{LockError, LockManager};
use locktopus_protocol::Resource;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All namespaces of a server.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    map: Arc<Mutex<Map>>,
    journal: Journal,
}

#[derive(Debug)]
struct Map {
    by_name: HashMap<Arc<str>, Entry>,
    last_token: u64,
    closed: bool,
    /// How many namespaces are allowed.
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    namespace: Arc<Namespace>,
    members: usize,
}

/// One namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: Arc<str>,
    pub(crate) locks: LockManager,
    /// Open connections; the other members are abandoned locks.
    connections: AtomicUsize,
    /// The holders of all members, by the numbers of their connections.
    holders: Mutex<HashMap<u64, Arc<Holder>>>,
}

impl Namespace {
    fn new(name: Arc<str>, last_token: u64) -> Namespace {
        Namespace {
            name,
            locks: LockManager::with_last_token(last_token),
            connections: AtomicUsize::new(0),
            holders: Mutex::default(),
        }
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The holders of all open connections and of all abandoned locks.
    pub(crate) fn holders(&self) -> Vec<Arc<Holder>> {
        self.by_id().values().cloned().collect()
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<u64, Arc<Holder>>> {
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
    pub(crate) fn new(last_token: u64, limit: usize, journal: Journal) -> Namespaces {
        let map = Map {
            by_name: HashMap::new(),
            last_token,
            closed: false,
            limit,
        };
        Namespaces {
            map: Arc::new(Mutex::new(map)),
            journal,
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the namespace of this name, and creates it if it does not exist.
    pub(crate) fn join(&self, name: &str, client: Client) -> Result<Member, NotJoined> {
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
            members: 0,
        });
        entry.members += 1;
        entry.namespace.connections.fetch_add(1, Ordering::Relaxed);
        let namespace = Arc::clone(&entry.namespace);
        let holder = Holder::new(client, Arc::clone(&namespace.name), self.journal.clone());
        let holder = Arc::new(holder);
        namespace
            .by_id()
            .insert(holder.client.id, Arc::clone(&holder));
        Ok(Member {
            namespaces: self.clone(),
            namespace,
            holder,
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Namespace>> {
        let map = self.map();
        map.by_name
            .get(name)
            .map(|entry| Arc::clone(&entry.namespace))
    }

    /// All namespaces, ordered by name.
    pub(crate) fn list(&self) -> Vec<Arc<Namespace>> {
        let map = self.map();
        let entries = map.by_name.values();
        let mut all: Vec<_> = entries.map(|entry| Arc::clone(&entry.namespace)).collect();
        drop(map);
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The sums over all namespaces.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for namespace in self.list() {
            let stats = namespace.locks.stats();
            totals.namespaces += 1;
            totals.connections += namespace.connections();
            totals.acquired += stats.acquired;
            totals.waiting += stats.waiting;
        }
        totals
    }

    /// Refuses new members and new locks from now on.
    pub(crate) fn close(&self) {
        self.map().closed = true;
        for namespace in self.list() {
            namespace.locks.close();
        }
    }

    /// Waits until no lock is held and no request waits; only after [`close`](Namespaces::close).
    pub(crate) async fn drained(&self) {
        for namespace in self.list() {
            namespace.locks.drained().await;
        }
    }
}

/// A connection in a namespace. It keeps the namespace in the map.
#[derive(Debug)]
pub(crate) struct Member {
    namespaces: Namespaces,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) holder: Arc<Holder>,
}

impl Member {
    /// As [`Holder::enqueue`], in the lock manager of the namespace.
    pub(crate) fn enqueue(&self, resources: Vec<Resource>) -> Result<(u64, bool), LockError> {
        self.holder.enqueue(&self.namespace.locks, resources)
    }

    /// Notes that the connection has ended. From then on only its lock keeps the member.
    pub(crate) fn disconnect(&self) {
        if self.holder.disconnect() {
            self.namespace.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.disconnect();
        self.namespace.by_id().remove(&self.holder.client.id);
        let mut map = self.namespaces.map();
        let Some(entry) = map.by_name.get_mut(&*self.namespace.name) else {
            return;
        };
        entry.members -= 1;
        if entry.members == 0 {
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
    use std::net::SocketAddr;
    use std::time::Duration;

    fn namespaces(last_token: u64, limit: usize) -> Namespaces {
        let journal = Journal {
            metrics: Arc::new(Metrics::new()),
            log_locks: false,
        };
        Namespaces::new(last_token, limit, journal)
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
    fn a_namespace_exists_as_long_as_it_has_members() {
        let all = namespaces(0, 10);
        assert!(all.get("a").is_none());
        let first = all.join("a", client(1)).expect("open");
        let second = all.join("a", client(2)).expect("open");
        let _other = all.join("b", client(3)).expect("open");
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace));
        assert_eq!(second.namespace.connections(), 2);
        first.disconnect();
        assert_eq!(second.namespace.connections(), 1);
        drop(first);
        assert_eq!(second.namespace.connections(), 1, "counted once");
        assert!(all.get("a").is_some());
        drop(second);
        assert!(all.get("a").is_none());
        assert_eq!(all.list().len(), 1);
    }

    #[test]
    fn tokens_rise_even_if_a_namespace_is_dropped_and_created_again() {
        let all = namespaces(100, 10);
        let mut last = 100;
        for _ in 0..3 {
            let member = all.join("a", client(1)).expect("open");
            let (token, acquired) = member.enqueue(vec![Resource::write(["x"])]).expect("open");
            assert!(acquired && token > last);
            last = token;
            member.holder.release();
        }
    }

    #[test]
    fn closed_namespaces_accept_no_members() {
        let all = namespaces(0, 10);
        let member = all.join("a", client(1)).expect("open");
        all.close();
        for name in ["a", "b"] {
            assert_eq!(all.join(name, client(2)).err(), Some(NotJoined::Closed));
        }
        assert!(member.namespace.locks.is_closed());
    }

    #[test]
    fn there_are_at_most_as_many_namespaces_as_the_limit_allows() {
        let all = namespaces(0, 1);
        let member = all.join("a", client(1)).expect("room");
        assert_eq!(all.join("b", client(2)).err(), Some(NotJoined::Full));
        assert!(all.join("a", client(3)).is_ok(), "an existing one");
        drop(member);
        assert!(all.join("b", client(4)).is_ok());
    }

    #[test]
    fn a_namespace_that_is_dropped_while_it_is_listed_is_listed_empty() {
        let all = namespaces(0, 10);
        let member = all.join("a", client(1)).expect("open");
        let listed = all.get("a").expect("it exists");
        drop(member);
        assert!(listed.holders().is_empty());
        assert_eq!(listed.locks.requests().count(), 0);
        assert_eq!(listed.connections(), 0);
    }
}
