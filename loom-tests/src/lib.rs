//! The engine's own source, compiled against twins of its shared types, for the model checker loom.
//!
//! The build script copies the source and adds a switch for each [`Mutation`]. This library is the copy
//! with another module `sync`; the head of `src/sync.rs` says what its twins show and what they cannot
//! show. `tests/models` has the models and demands that each mutation makes a model fail. `tests/stepped`
//! runs the same copy on the real structures, with suspended threads and with random interleavings.

extern crate self as locktopus_loom_tests;

mod mutation;
mod sync;

pub use mutation::{Mutation, is_on, with};
pub use sync::{begin, explore_counters};

include!(concat!(env!("OUT_DIR"), "/engine/lib.rs"));
