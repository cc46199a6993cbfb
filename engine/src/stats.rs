//! Statistics of a lock manager, and the listing of its requests.

use crate::resource::Resource;

/// Statistics of a lock manager at one moment; see [`LockManager::stats`](crate::LockManager::stats).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// The number of requests that hold their locks.
    pub acquired: usize,
    /// The number of waiting requests.
    pub waiting: usize,
    /// The number of resources of all these requests, without redundant ones.
    pub resources: usize,
    /// The largest fencing token that was given out, skipped, or drawn ahead for a request that rests; 0 before the first.
    pub last_token: u64,
    /// Whether the lock manager is closed and refuses new requests.
    pub closed: bool,
}

/// The state of an outstanding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum RequestState {
    /// It holds the lock.
    Acquired,
    /// It waits in line.
    Waiting,
}

/// One outstanding request; see [`LockManager::requests`](crate::LockManager::requests).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestInfo {
    /// Its fencing token, which is its place in the order of requests.
    pub token: u64,
    /// Its resources, ordered by path, without redundant ones.
    pub resources: Vec<Resource>,
    /// Whether it holds its lock or waits.
    pub state: RequestState,
    /// The token of one earlier request that it waits for. There may be others; when this one has ended,
    /// the next one is named.
    pub waits_for: Option<u64>,
}
