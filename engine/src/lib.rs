//! A lock-free, in-process lock manager for sets of paths.

mod clock;
mod cursor;
mod error;
mod event;
mod lock;
mod manager;
mod path;
mod request;
mod resource;
mod stats;
mod sync;
mod table;
mod waiter;

pub use error::LockError;
pub use lock::{Acquired, Lock};
pub use manager::LockManager;
pub use path::{ParsePathError, Path};
pub use resource::{MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES, Mode, Resource};
pub use stats::{RequestInfo, RequestState, Stats};
