//! Twins of the types in the engine's `sync`, for the model checker.
//!
//! This module takes the place of the engine's own `sync`. loom then runs a model in every order of its
//! steps, with every stale value that the memory orderings allow a load to return.
//!
//! # The twins
//! - [`List`], for the skiplist: each key has a slot with an atomic of its own. An insert stores there
//!   with Release, a walk loads with Acquire. A walk goes from key to key and loads the slot of each key
//!   when it comes there. So it is no snapshot, and it can miss an insert that does not happen before it.
//!   One lock around a map would order all inserts and walks, and hide such defects.
//! - [`Chain`], [`Slot`] and [`BoxSlot`], for `arc-swap` and the atomic cells: one atomic word, whose values stand for
//!   the references or the boxes. Every operation is a read-modify-write of the word.
//! - [`AtomicU64`], for sequentially consistent accesses, which loom treats as Acquire and Release: a sequentially
//!   consistent load after such a read-modify-write of the same thread has a fence before it. So a thread that
//!   writes one word and then looks at another one, and a thread that does so the other way round, do not both miss
//!   what the other one wrote. If one of these four accesses is weaker, they may.
//!
//! # What they cannot show
//! - Stale loads of a chain. The twin's load is a read-modify-write, which also releases the earlier writes
//!   of its thread. In the engine a stale load only makes the following replacement fail, and the loop loads
//!   again. Every replacement is a read-modify-write that releases as much.
//! - The reclamation of memory, and the counts of references: `Arc` is the standard one, guards do nothing,
//!   and a removed entry is kept to the end of the model.
//! - The links between the entries of a skiplist, and with them its consume loads and the fence after a
//!   walk: the twin reaches each entry by itself, with Acquire.
//! - The order of the changes to the hints of the places. Any value of a hint is right.
//! - The order of the changes to the statistics: a [`Counter`] and the length of a list are outside of the
//!   model. Only their sums matter. As atomics of the model they would multiply the executions.
//!
//! The stress test on the real structures and fuzzing with the address sanitizer cover these.

mod atomics;
mod list;
mod word;

pub use atomics::explore_counters;
pub(crate) use atomics::{AtomicU64, Tally};
pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use list::{Entry, Inserted, List};
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
pub(crate) use loom::thread;
pub(crate) use std::sync::Arc;
pub(crate) use word::{BoxSlot, Chain, Slot};

use atomics::EXPLORES_COUNTERS;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The first retired subscriber is worth a purge.
pub(crate) const FEW_RETIRED: u32 = 1;

/// Steps are tried often.
pub(crate) const TRY_STEPS_EVERY: u32 = 2;

/// A manager that names no number has no places: the models that use them ask for them.
pub(crate) const PLACES: usize = 0;

/// Insertions at different paths rarely share counters, and an atomic costs executions.
pub(crate) const FEWEST_COUNTERS: usize = 4;

/// A mutex outside of the model: it orders nothing, and no thread is switched while it is locked.
struct Unmodelled<T>(Mutex<T>);

impl<T> Unmodelled<T> {
    fn new(value: T) -> Unmodelled<T> {
        Unmodelled(Mutex::new(value))
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Counter(Unmodelled<usize>);

impl Counter {
    pub(crate) fn new() -> Counter {
        Counter(Unmodelled::new(0))
    }

    pub(crate) fn add(&self, count: usize) {
        let mut sum = self.0.lock();
        *sum = sum.wrapping_add(count);
    }

    pub(crate) fn sub(&self, count: usize) {
        let mut sum = self.0.lock();
        *sum = sum.wrapping_sub(count);
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.lock()
    }
}

pub(crate) struct Guard;

impl Guard {
    pub(crate) fn flush(&self) {}
}

/// The engine drops a guard early where that matters; clippy demands that such a type has a `Drop`.
impl Drop for Guard {
    fn drop(&mut self) {}
}

pub(crate) fn pin() -> Guard {
    Guard
}

pub(crate) fn spin_until(done: impl Fn() -> bool) -> bool {
    done()
}

/// There is no time in a model: a deadline has always passed.
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    if deadline.is_none() {
        thread::park();
    }
    deadline.is_none()
}

/// In a model all threads have one home: the count of its references orders nothing.
pub(crate) fn thread_number() -> usize {
    0
}

pub(crate) fn into_inner<T>(last: Arc<T>) -> Option<T> {
    Arc::into_inner(last)
}

/// A number in the order of the first calls. An address would differ from execution to execution, and loom
/// must be able to repeat an execution. A numbered value is in a list to the end of the model, so no other
/// value gets its address.
pub(crate) fn identity<T>(value: &Arc<T>) -> usize {
    let address = Arc::as_ptr(value).addr();
    IDENTITIES.with(|seen| {
        let mut seen = seen.lock();
        let next = seen.len() + 1;
        *seen.entry(address).or_insert(next)
    })
}

thread_local! {
    /// All threads of a model run on one thread of the machine.
    static IDENTITIES: Unmodelled<BTreeMap<usize, usize>> = Unmodelled::new(BTreeMap::new());
}

/// Forgets the previous execution. A model must call this first.
pub fn begin() {
    IDENTITIES.with(|seen| seen.lock().clear());
    EXPLORES_COUNTERS.set(false);
}

pub(crate) struct Hint(Unmodelled<u64>);

impl Hint {
    pub(crate) fn new() -> Hint {
        Hint(Unmodelled::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        *self.0.lock()
    }

    pub(crate) fn set(&self, value: u64) {
        *self.0.lock() = value;
    }
}
