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

mod steps;
mod sync;

mod histories;
#[path = "../../../engine/tests/engine/outstanding.rs"]
mod outstanding;
mod stalled;

include!(concat!(env!("OUT_DIR"), "/engine/lib.rs"));
