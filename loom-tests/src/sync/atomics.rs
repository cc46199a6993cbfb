//! The twins of the atomic numbers.

use super::Unmodelled;
use loom::sync::atomic::{self, Ordering, fence};
use std::cell::Cell;

loom::thread_local! {
    /// Whether the thread has done a sequentially consistent read-modify-write since its last fence.
    static OWES_A_FENCE: Cell<bool> = Cell::new(false);
}

pub(crate) struct AtomicU64(atomic::AtomicU64);

macro_rules! read_modify_writes {
    ($($method:ident)*) => {
        $(pub(crate) fn $method(&self, value: u64, order: Ordering) -> u64 {
            let before = self.0.$method(value, order);
            owe_a_fence(order);
            before
        })*
    };
}

fn owe_a_fence(order: Ordering) {
    if order == Ordering::SeqCst {
        OWES_A_FENCE.with(|owes| owes.set(true));
    }
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> AtomicU64 {
        AtomicU64(atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        if order == Ordering::SeqCst && OWES_A_FENCE.with(|owes| owes.replace(false)) {
            fence(Ordering::SeqCst);
        }
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
        owe_a_fence(order);
    }

    read_modify_writes! { swap fetch_add fetch_or fetch_max }

    pub(crate) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        ok: Ordering,
        err: Ordering,
    ) -> Result<u64, u64> {
        let result = self.0.compare_exchange(old, new, ok, err);
        if result.is_ok() {
            owe_a_fence(ok);
        }
        result
    }
}

thread_local! {
    /// Whether the model explores the counters of insertions.
    pub(super) static EXPLORES_COUNTERS: Cell<bool> = const { Cell::new(false) };
}

/// From here on the model explores the counters of insertions. A model of requests that rest must call this before it
/// makes a lock manager. Other models leave the counters out: they would multiply the executions, and order accesses
/// that must be right without them.
pub fn explore_counters() {
    EXPLORES_COUNTERS.set(true);
}

pub(crate) struct Tally(Explored);

enum Explored {
    Yes(AtomicU64),
    No(Unmodelled<u64>),
}

impl Tally {
    pub(crate) fn new(value: u64) -> Tally {
        Tally(match EXPLORES_COUNTERS.get() {
            true => Explored::Yes(AtomicU64::new(value)),
            false => Explored::No(Unmodelled::new(value)),
        })
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        match &self.0 {
            Explored::Yes(word) => word.load(order),
            Explored::No(word) => *word.lock(),
        }
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        match &self.0 {
            Explored::Yes(word) => word.fetch_add(value, order),
            Explored::No(word) => {
                let mut word = word.lock();
                *word += value;
                *word - value
            }
        }
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        match &self.0 {
            Explored::Yes(word) => word.fetch_or(value, order),
            Explored::No(word) => {
                let mut word = word.lock();
                let before = *word;
                *word |= value;
                before
            }
        }
    }
}
