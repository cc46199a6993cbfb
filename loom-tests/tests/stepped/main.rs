//! The engine's own source on its real structures, with a seam before every access to what threads
//! share: there a thread can be suspended, or the next of several made to run.
//!
//! ```sh
//! cargo test --release -p locktopus-loom-tests --test stepped
//! PROPTEST_CASES=300000 cargo test --release -p locktopus-loom-tests --test stepped histories   # longer
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the engine is compiled in as it is, and its documentation links to these names"
)]

#[macro_use]
#[path = "../../src/seams.rs"]
mod seams;
mod steps;
mod sync;

mod histories;
mod stalled;

#[path = "../../../engine/src/clock.rs"]
mod clock;
#[path = "../../../engine/src/cursor.rs"]
mod cursor;
#[path = "../../../engine/src/entries.rs"]
mod entries;
#[path = "../../../engine/src/error.rs"]
mod error;
#[path = "../../../engine/src/event.rs"]
mod event;
#[path = "../../../engine/src/lock.rs"]
mod lock;
#[path = "../../../engine/src/manager.rs"]
mod manager;
#[path = "../../../engine/src/notation.rs"]
mod notation;
#[path = "../../../engine/src/path.rs"]
mod path;
#[path = "../../../engine/src/request.rs"]
mod request;
#[path = "../../../engine/src/resource.rs"]
mod resource;
#[path = "../../../engine/src/stats.rs"]
mod stats;
#[path = "../../../engine/src/table.rs"]
mod table;
#[path = "../../../engine/src/waiter.rs"]
mod waiter;

// As in the engine, for the links of its documentation.
use error::{LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use lock::Lock;
use manager::LockManager;
use path::Path;
use resource::Resource;
use stats::RequestState;
