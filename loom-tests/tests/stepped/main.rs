//! The engine's own source on its real structures, with a step before every access to shared state. At a
//! step the thread can be suspended, or another one of several virtual threads can go on.
//!
//! ```sh
//! cargo test -p locktopus-loom-tests --test stepped
//! PROPTEST_CASES=300000 cargo test -p locktopus-loom-tests --test stepped histories   # longer
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the engine is compiled in as it is, and these tests use only parts of it"
)]

mod histories;
mod interrupted;
mod late;
mod purges;
#[path = "../shared/mod.rs"]
mod shared;
mod steps;
mod suspended;
mod sync;
mod walks;

include!(concat!(env!("OUT_DIR"), "/engine/lib.rs"));
