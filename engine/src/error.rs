//! What can be wrong with a request.

use std::fmt;

/// The most resources in one request.
pub const MAX_RESOURCES: usize = 4096;
/// The most segments in one path.
pub const MAX_DEPTH: usize = 1024;
/// The most bytes in one path: the UTF-8 of its segments and one byte for the end of each
/// (a U+0000 or U+0001 in a segment counts twice).
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// Why a request was not queued. Nothing is left behind by a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The set of resources was empty.
    NoResources,
    /// The set had more than [`MAX_RESOURCES`] resources.
    TooManyResources,
    /// A path had more than [`MAX_DEPTH`] segments.
    PathTooDeep {
        /// How many it had.
        depth: usize,
    },
    /// A path was longer than [`MAX_PATH_BYTES`], one byte counted for the end of each segment.
    PathTooLong {
        /// How long it was.
        bytes: usize,
    },
    /// The lock manager was closed.
    Closed,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::NoResources => f.write_str("no resources given; at least one is needed"),
            LockError::TooManyResources => write!(
                f,
                "too many resources in one request; at most {MAX_RESOURCES} are allowed"
            ),
            LockError::PathTooDeep { depth } => write!(
                f,
                "path of {depth} segments; at most {MAX_DEPTH} are allowed"
            ),
            LockError::PathTooLong { bytes } => write!(
                f,
                "path of {bytes} bytes, segment ends included; at most {MAX_PATH_BYTES} are allowed"
            ),
            LockError::Closed => {
                f.write_str("the lock manager is closed; outstanding locks may still be released")
            }
        }
    }
}

impl std::error::Error for LockError {}
