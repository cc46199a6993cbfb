//! Namespaces: a name, and a lock manager of its own.
//!
//! # Invariants
//! N1. A namespace is in the map exactly while it has members. A member is a connection, or a lock
//!     whose connection is gone; so nothing is locked in a namespace that is dropped.
//! N2. Tokens of a namespace never run backwards, even if it is dropped and made again: it starts
//!     after the last token of every namespace that was dropped before.

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
    pub(crate) connections: AtomicUsize,
}

impl Namespaces {
    /// None yet. Tokens start after `last_token`.
    pub(crate) fn new(last_token: u64) -> Namespaces {
        Namespaces(Arc::new(Mutex::new(Map {
            by_name: HashMap::new(),
            last_token,
            closed: false,
        })))
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the namespace of this name, which is made if need be; `None` once closed.
    pub(crate) fn join(&self, name: &str) -> Option<Member> {
        let mut map = self.map();
        if map.closed {
            return None;
        }
        let last_token = map.last_token;
        let entry = map.by_name.entry(name.to_owned()).or_insert_with(|| Entry {
            namespace: Arc::new(Namespace {
                name: name.to_owned(),
                locks: LockManager::with_last_token(last_token),
                connections: AtomicUsize::new(0),
            }),
            members: 0,
        });
        entry.members += 1;
        Some(Member {
            namespaces: self.clone(),
            namespace: Arc::clone(&entry.namespace),
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
}

impl Drop for Member {
    fn drop(&mut self) {
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
pub(crate) struct Connected(Arc<Namespace>);

impl Connected {
    pub(crate) fn new(namespace: &Arc<Namespace>) -> Connected {
        namespace.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(namespace))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use locktopus_engine::Resource;

    #[test]
    fn a_namespace_lives_as_long_as_it_has_members() {
        let all = Namespaces::new(0);
        assert!(all.get("a").is_none());
        let first = all.join("a").expect("open");
        let second = all.join("a").expect("open");
        let _other = all.join("b").expect("open");
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace));
        drop(first);
        assert!(all.get("a").is_some());
        drop(second);
        assert!(all.get("a").is_none());
        assert_eq!(all.list().len(), 1);
    }

    #[test]
    fn tokens_do_not_run_backwards_when_a_namespace_is_made_again() {
        let all = Namespaces::new(100);
        let mut last = 100;
        for _ in 0..3 {
            let member = all.join("a").expect("open");
            let lock = member
                .namespace
                .locks
                .lock([Resource::write(["x"])])
                .expect("open");
            assert!(lock.token() > last);
            last = lock.token();
        }
    }

    #[test]
    fn a_closed_server_takes_no_members() {
        let all = Namespaces::new(0);
        let member = all.join("a").expect("open");
        all.close();
        assert!(all.join("a").is_none() && all.join("b").is_none());
        assert!(member.namespace.locks.is_closed());
    }
}
