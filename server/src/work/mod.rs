//! The work of the server that is too long for one poll: fair queues of jobs, one for each thread of the runtime.
//!
//! ```text
//!   a connection, a revocation, …            a queue              its driver, one task
//!     first slice itself ─── the rest ──► push(party, job) ──► turn (at most 1 ms) ──► done: the job tells its owner
//!                                              ▲                     │
//!                                              └──── put_back ───────┤
//!                                                                    └── between turns the runtime polls its I/O
//! ```
//!
//! It knows neither locks nor connections: a job is a function that does a small step.

mod driver;
mod queue;
mod soon;

pub(crate) use driver::{Queues, Weight};
pub(crate) use soon::Soon;
