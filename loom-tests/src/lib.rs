//! The engine's own source, compiled against twins of what its threads share, for the model checker.
//!
//! The library is the engine with another `sync`: see `src/sync.rs` for what the twins show
//! and what they cannot. `tests/models` holds the models, and demands that each deliberate
//! defect of [`Mutation`] makes one of them fail; `tests/stepped` runs the real structures, with threads
//! that stall and random interleavings.

extern crate self as locktopus_loom_tests;

mod mutation;
mod sync;

pub use mutation::{Mutation, is_on, with};
pub use sync::begin;

include!(concat!(env!("OUT_DIR"), "/engine/lib.rs"));
