//! The engine's own source, compiled against twins of what its threads share, for the model checker.
//!
//! The library is the engine with another [`sync`](self): see `src/sync.rs` for what the twins show
//! and what they cannot. `tests/models` holds the models, and demands that each deliberate
//! defect of [`Mutation`] makes one of them fail; `tests/stepped` runs the real structures, with threads
//! that stall and random interleavings.

#[macro_use]
mod seams;
mod sync;

#[path = "../../engine/src/clock.rs"]
mod clock;
#[path = "../../engine/src/cursor.rs"]
mod cursor;
#[path = "../../engine/src/entries.rs"]
mod entries;
#[path = "../../engine/src/error.rs"]
mod error;
#[path = "../../engine/src/event.rs"]
mod event;
#[path = "../../engine/src/lock.rs"]
mod lock;
#[path = "../../engine/src/manager.rs"]
mod manager;
#[path = "../../engine/src/notation.rs"]
mod notation;
#[path = "../../engine/src/path.rs"]
mod path;
#[path = "../../engine/src/request.rs"]
mod request;
#[path = "../../engine/src/resource.rs"]
mod resource;
#[path = "../../engine/src/stats.rs"]
mod stats;
#[path = "../../engine/src/table.rs"]
mod table;
#[path = "../../engine/src/waiter.rs"]
mod waiter;

pub use error::{LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
pub use lock::{Acquired, Lock};
pub use manager::LockManager;
pub use notation::ParsePathError;
pub use path::Path;
pub use resource::{Mode, Resource};
pub use seams::{Mutation, with};
pub use stats::{RequestInfo, RequestState, Stats};
pub use sync::begin;
