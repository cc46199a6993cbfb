//! What a lock manager tells about itself: figures, and a listing of its requests.

use crate::resource::Resource;

/// Figures of a lock manager at one moment; see [`LockManager::stats`](crate::LockManager::stats).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Requests that hold their locks.
    pub acquired: usize,
    /// Requests that wait for theirs.
    pub waiting: usize,
    /// Resources of all these requests, redundant ones left out.
    pub resources: usize,
    /// The largest fencing token that has been given out or skipped; 0 before the first.
    pub last_token: u64,
    /// Whether new requests are refused.
    pub closed: bool,
}

/// Whether a request holds its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum RequestState {
    /// It holds the lock.
    Acquired,
    /// It is in line.
    Waiting,
}

/// One outstanding request; see [`LockManager::requests`](crate::LockManager::requests).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestInfo {
    /// Its fencing token, which is its place in the order of requests.
    pub token: u64,
    /// What it asks for, ordered by path, redundant resources left out.
    pub resources: Vec<Resource>,
    /// Whether it holds its lock.
    pub state: RequestState,
    /// The token of an earlier request that keeps it waiting. There may be more of them; when this
    /// one is gone, the next is named.
    pub waits_for: Option<u64>,
}
