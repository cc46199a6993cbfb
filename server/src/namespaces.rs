//! Namespaces: a name, and a lock manager of its own.
//!
//! # Invariants
//! N1. A namespace is in the map exactly while it has members. A member is a connection, or a lock
//!     whose connection is gone; so nothing is locked in a namespace that is dropped.
//! N2. Tokens of a namespace never run backwards, even if it is dropped and made again: it starts
//!     after the last token of every namespace that was dropped before.

use crate::clients::Client;
use locktopus_engine::LockManager;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All namespaces of a server.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces(Arc<Mutex<Map>>);

#[derive(Debug)]
struct Map {
    by_name: HashMap<String, Entry>,
    last_token: u64,
    closed: bool,
    /// How many there may be.
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
    pub(crate) name: String,
    pub(crate) locks: LockManager,
    /// Open connections; the other members are abandoned locks.
    connections: AtomicUsize,
    /// All members.
    clients: Mutex<HashMap<u64, Arc<Client>>>,
}

impl Namespace {
    fn new(name: &str, last_token: u64) -> Namespace {
        Namespace {
            name: name.to_owned(),
            locks: LockManager::with_last_token(last_token),
            connections: AtomicUsize::new(0),
            clients: Mutex::default(),
        }
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All who are connected, or have left a lock behind.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.by_id().values().cloned().collect()
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody cannot join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotJoined {
    /// The server is shutting down.
    Closed,
    /// There would be one namespace too many.
    Full,
}

impl Namespaces {
    /// None yet, and at most so many. Tokens start after `last_token`.
    pub(crate) fn new(last_token: u64, limit: usize) -> Namespaces {
        Namespaces(Arc::new(Mutex::new(Map {
            by_name: HashMap::new(),
            last_token,
            closed: false,
            limit,
        })))
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the namespace of this name, which is made if need be.
    pub(crate) fn join(&self, name: &str, client: &Arc<Client>) -> Result<Member, NotJoined> {
        let mut map = self.map();
        if map.closed {
            return Err(NotJoined::Closed);
        }
        if map.by_name.len() >= map.limit && !map.by_name.contains_key(name) {
            return Err(NotJoined::Full);
        }
        let last_token = map.last_token;
        let entry = map.by_name.entry(name.to_owned()).or_insert_with(|| Entry {
            namespace: Arc::new(Namespace::new(name, last_token)),
            members: 0,
        });
        entry.members += 1;
        entry
            .namespace
            .by_id()
            .insert(client.id, Arc::clone(client));
        Ok(Member {
            namespaces: self.clone(),
            namespace: Arc::clone(&entry.namespace),
            client: Arc::clone(client),
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Namespace>> {
        let map = self.map();
        map.by_name
            .get(name)
            .map(|entry| Arc::clone(&entry.namespace))
    }

    /// All of them, ordered by name.
    pub(crate) fn list(&self) -> Vec<Arc<Namespace>> {
        let map = self.map();
        let entries = map.by_name.values();
        let mut all: Vec<_> = entries.map(|entry| Arc::clone(&entry.namespace)).collect();
        drop(map);
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Refuses new members and new locks.
    pub(crate) fn close(&self) {
        self.map().closed = true;
        for namespace in self.list() {
            namespace.locks.close();
        }
    }

    /// Waits until nothing is locked or waited for, once closed.
    pub(crate) async fn drained(&self) {
        for namespace in self.list() {
            namespace.locks.drained().await;
        }
    }
}

/// Keeps a namespace alive.
#[derive(Debug)]
pub(crate) struct Member {
    namespaces: Namespaces,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.namespace.by_id().remove(&self.client.id);
        let mut map = self.namespaces.map();
        let Some(entry) = map.by_name.get_mut(&self.namespace.name) else {
            return;
        };
        entry.members -= 1;
        if entry.members == 0 {
            map.last_token = map.last_token.max(self.namespace.locks.stats().last_token);
            map.by_name.remove(&self.namespace.name);
        }
    }
}

/// Counts an open connection of a namespace.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Namespace>, Arc<Client>);

impl Connected {
    pub(crate) fn new(member: &Member) -> Connected {
        member.namespace.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(&member.namespace), Arc::clone(&member.client))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.1.disconnected();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use locktopus_engine::Resource;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn client(id: u64) -> Arc<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Client::new(id, address, None, Duration::ZERO))
    }

    #[test]
    fn a_namespace_lives_as_long_as_it_has_members() {
        let all = Namespaces::new(0, 10);
        assert!(all.get("a").is_none());
        let first = all.join("a", &client(1)).expect("open");
        let second = all.join("a", &client(2)).expect("open");
        let _other = all.join("b", &client(3)).expect("open");
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace));
        drop(first);
        assert!(all.get("a").is_some());
        drop(second);
        assert!(all.get("a").is_none());
        assert_eq!(all.list().len(), 1);
    }

    #[test]
    fn tokens_do_not_run_backwards_when_a_namespace_is_made_again() {
        let all = Namespaces::new(100, 10);
        let mut last = 100;
        for _ in 0..3 {
            let member = all.join("a", &client(1)).expect("open");
            let lock = member
                .namespace
                .locks
                .enqueue([Resource::write(["x"])])
                .expect("open");
            assert!(lock.token() > last);
            last = lock.token();
        }
    }

    #[test]
    fn a_closed_server_takes_no_members() {
        let all = Namespaces::new(0, 10);
        let member = all.join("a", &client(1)).expect("open");
        all.close();
        for name in ["a", "b"] {
            assert_eq!(all.join(name, &client(2)).err(), Some(NotJoined::Closed));
        }
        assert!(member.namespace.locks.is_closed());
    }

    #[test]
    fn there_are_not_more_namespaces_than_allowed() {
        let all = Namespaces::new(0, 1);
        let member = all.join("a", &client(1)).expect("room");
        assert_eq!(all.join("b", &client(2)).err(), Some(NotJoined::Full));
        assert!(all.join("a", &client(3)).is_ok(), "it is there already");
        drop(member);
        assert!(all.join("b", &client(4)).is_ok());
    }
}
