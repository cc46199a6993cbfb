//! Reasons to refuse a request, and the limits of a request.

use crate::resource::{Mode, Resource};
use std::fmt;

/// The most resources in one request.
pub const MAX_RESOURCES: usize = 4096;
/// The most segments in one path.
pub const MAX_DEPTH: usize = 1024;
/// The most bytes in one path: the UTF-8 of its segments and one byte for the end of each
/// (a U+0000 or U+0001 in a segment counts twice).
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// Why a request was refused. A refused request leaves nothing behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The set of resources was empty.
    NoResources,
    /// The set had too many resources.
    TooManyResources {
        /// The most that one request may have: [`MAX_RESOURCES`].
        limit: usize,
    },
    /// A path had too many segments.
    PathTooDeep {
        /// The segments of the path.
        depth: usize,
        /// The most that a path may have: [`MAX_DEPTH`].
        limit: usize,
    },
    /// A path was too long.
    PathTooLong {
        /// The bytes of the path, counted as in [`MAX_PATH_BYTES`].
        bytes: usize,
        /// The most that a path may have: [`MAX_PATH_BYTES`].
        limit: usize,
    },
    /// A token cannot be [restored](crate::LockManager::restore) or [skipped to](crate::LockManager::skip_to).
    TokenOutOfRange {
        /// The smallest token that was allowed at this moment.
        least: u64,
        /// All allowed tokens are smaller than this one.
        limit: u64,
    },
    /// The lock manager was closed.
    Closed,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::NoResources => f.write_str("no resources given; at least one is needed"),
            LockError::TooManyResources { limit } => write!(
                f,
                "too many resources in one request; at most {limit} are allowed"
            ),
            LockError::PathTooDeep { depth, limit } => {
                write!(f, "path of {depth} segments; at most {limit} are allowed")
            }
            LockError::PathTooLong { bytes, limit } => write!(
                f,
                "path of {bytes} bytes, segment ends included; at most {limit} are allowed"
            ),
            LockError::TokenOutOfRange { least, limit } => write!(
                f,
                "token out of range; allowed are tokens from {least} to {}",
                limit - 1
            ),
            LockError::Closed => {
                f.write_str("the lock manager is closed; outstanding locks may still be released")
            }
        }
    }
}

impl std::error::Error for LockError {}

/// Why a lock was not narrowed. The lock is unchanged, and still held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NarrowError {
    /// The new set was empty or beyond a limit, as for any request.
    BadSet(LockError),
    /// The lock does not cover a resource of the new set.
    NotCovered {
        /// The first such resource, in the order of paths.
        resource: Resource,
    },
}

impl fmt::Display for NarrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NarrowError::BadSet(error) => error.fmt(f),
            NarrowError::NotCovered { resource } => {
                let Resource { path, mode } = resource;
                let mode = match mode {
                    Mode::Write => "write",
                    Mode::Read => "read",
                };
                write!(
                    f,
                    "the lock does not cover a {mode} of {path:?}; allowed are paths at or below its own, \
                     and writes only where it writes"
                )
            }
        }
    }
}

impl std::error::Error for NarrowError {}

impl From<LockError> for NarrowError {
    fn from(error: LockError) -> NarrowError {
        NarrowError::BadSet(error)
    }
}

/// Bytes that are no [`Place`](crate::Place) of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlace(pub(crate) ());

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a place of a listing; allowed are the bytes that Place::to_bytes returned, unchanged")
    }
}

impl std::error::Error for BadPlace {}
