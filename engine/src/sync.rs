//! The one place that names atomics, `arc-swap` and the skiplist.
//!
//! All state that the threads of the engine share goes through this module. A model checker can replace
//! these few types by twins and run the engine's own source.
//!
//! The engine relies on these properties:
//! - [`List`]: an insert happens before all that a walk does after it has seen the entry (Release on
//!   insert, Acquire on read). A walk sees every entry that is present throughout. It is not a snapshot.
//! - [`Chain`]: one word; all its operations are ordered as read-modify-writes of that word.
//! - [`Slot`], [`BoxSlot`]: one word, swapped.
//! - [`Hint`]: one word, of which any value is right.

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use std::thread;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use crossbeam_epoch as epoch;
use crossbeam_skiplist::base;
use crossbeam_utils::Backoff;
use crossbeam_utils::atomic::AtomicCell;
use std::cell::Cell;
use std::ops::Bound;
use std::sync::atomic::AtomicUsize;

/// Fewer retired subscribers of an event than this are not worth a purge. Models and tests use a smaller
/// number.
pub(crate) const FEW_RETIRED: u32 = 16;

/// After so many searches a walk tries whether some steps lead to the next span. Models and tests use a smaller
/// number.
pub(crate) const TRY_STEPS_EVERY: u32 = 16;

/// The number of places of a lock manager that names no number. Models use a smaller number.
pub(crate) const PLACES: usize = 1024;

/// The least number of pairs of counters in a list. Models use a smaller number.
pub(crate) const FEWEST_COUNTERS: usize = 16;

/// A counter of insertions, or an interest in them. Only requests that rest look at these, so the models of other
/// requests leave them out.
pub(crate) type Tally = AtomicU64;

/// A figure of the statistics. Its changes order nothing and decide nothing, so the models do not explore
/// their order.
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    pub(crate) const fn new() -> Counter {
        Counter(AtomicUsize::new(0))
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps the entries that a walk refers to from being reclaimed. Never held across a wait.
pub(crate) type Guard = epoch::Guard;

pub(crate) fn pin() -> Guard {
    epoch::pin()
}

/// Waits by spinning, for some microseconds at most; whether it is `done`.
///
/// Handing over to a spinning thread is a thousand times faster than waking a parked one.
pub(crate) fn spin_until(done: impl Fn() -> bool) -> bool {
    let backoff = Backoff::new();
    while !backoff.is_completed() {
        if done() {
            return true;
        }
        backoff.snooze();
    }
    false
}

/// Parks the thread until it is unparked or the deadline passes; `false` if the deadline had passed before.
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match left {
        None => thread::park(),
        Some(left) if left.is_zero() => return false,
        Some(left) => thread::park_timeout(left),
    }
    true
}

/// The number of the thread: 1 for the first thread that asks for its number, and so on.
#[inline]
pub(crate) fn thread_number() -> usize {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    let number = NUMBER.get();
    if number != 0 {
        return number;
    }
    // Relaxed: the number orders nothing.
    let next = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    NUMBER.set(next);
    next
}

/// The value, if this was the last reference. Of several threads that drop their references, exactly one
/// gets the value.
pub(crate) fn into_inner<T>(last: Arc<T>) -> Option<T> {
    Arc::into_inner(last)
}

/// A number that no other value has while this one exists. Never 0.
pub(crate) fn identity<T>(value: &Arc<T>) -> usize {
    Arc::as_ptr(value).addr()
}

/// A concurrent ordered map: a `crossbeam_skiplist::base::SkipList` with one guard for each operation.
///
/// The `SkipMap` of that crate pins at every step and leaks the nodes that a `range()` passes (0.1.3). This
/// map does neither.
pub(crate) struct List<K, V>(base::SkipList<K, V>);

/// In a list shorter than this, two searches (one to find, one to unlink) take less time than one search
/// that remembers all neighbours: a lock in an otherwise empty table is 6 % cheaper.
const SHORT: usize = 8;

/// An entry that a walk stands on.
pub(crate) type Entry<'a, 'g, K, V> = base::Entry<'a, 'g, K, V>;

impl<K: Ord + Send + 'static, V: Send + 'static> List<K, V> {
    pub(crate) fn new() -> List<K, V> {
        List(base::SkipList::new(epoch::default_collector().clone()))
    }

    /// Inserts an entry under a key that is not in the list.
    pub(crate) fn insert<'a, 'g>(
        &'a self,
        key: K,
        value: V,
        guard: &'g Guard,
    ) -> Inserted<'a, 'g, K, V> {
        Inserted {
            entry: Some(self.0.insert(key, value, guard)),
            guard,
        }
    }

    /// Removes the entry that the caller inserted under this key.
    pub(crate) fn remove(&self, key: &K, guard: &Guard) {
        if self.0.len() < SHORT {
            if let Some(entry) = self.0.get(key, guard) {
                entry.remove();
            }
        } else if let Some(entry) = self.0.remove(key, guard) {
            entry.release(guard);
        }
    }

    /// The first entry at or after the bound.
    pub(crate) fn seek<'a: 'g, 'g>(
        &'a self,
        bound: Bound<&K>,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        self.0.lower_bound(bound, guard)
    }

    /// The last entry up to this key.
    pub(crate) fn last_up_to<'a: 'g, 'g>(
        &'a self,
        key: &K,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        self.0.upper_bound(Bound::Included(key), guard)
    }

    /// The number of entries; approximate while other threads insert and remove.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The caller's own entry, just inserted.
pub(crate) struct Inserted<'a, 'g, K, V> {
    /// `None` only inside `drop`. A `RefEntry` that is not released is a leak.
    entry: Option<base::RefEntry<'a, K, V>>,
    guard: &'g Guard,
}

impl<K: Ord, V> Inserted<'_, '_, K, V> {
    /// Looks at the next entry, if there is one. One step; cheaper than a seek.
    pub(crate) fn look_at_next<R>(&self, look: impl FnOnce(&K, &V) -> R) -> Option<R> {
        let next = self.entry.as_ref()?.next(self.guard)?;
        let seen = look(next.key(), next.value());
        next.release(self.guard);
        Some(seen)
    }
}

impl<K, V> Drop for Inserted<'_, '_, K, V> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.release(self.guard);
        }
    }
}

/// The head of a linked list that is replaced as a whole.
pub(crate) struct Chain<N>(ArcSwapOption<N>);

impl<N> Chain<N> {
    pub(crate) fn load(&self) -> Option<Arc<N>> {
        self.0.load_full()
    }

    /// Replaces `current` by `new`; `false` if `current` is no longer the head.
    pub(crate) fn replace(&self, current: &Option<Arc<N>>, new: Option<Arc<N>>) -> bool {
        let before = self.0.compare_and_swap(current, new);
        before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr)
    }

    pub(crate) fn take(&self) -> Option<Arc<N>> {
        self.0.swap(None)
    }
}

impl<N> Default for Chain<N> {
    fn default() -> Chain<N> {
        Chain(ArcSwapOption::const_empty())
    }
}

/// A place for one reference. Lock-free, because it is one word.
pub(crate) struct Slot<T>(AtomicCell<Option<Arc<T>>>);

impl<T> Slot<T> {
    pub(crate) const fn new() -> Slot<T> {
        Slot(AtomicCell::new(None))
    }

    pub(crate) fn put(&self, value: Arc<T>) {
        self.0.store(Some(value));
    }

    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.take()
    }
}

/// A place for one box. Lock-free, because it is one word.
pub(crate) struct BoxSlot<T>(AtomicCell<Option<Box<T>>>);

impl<T> BoxSlot<T> {
    pub(crate) const fn new() -> BoxSlot<T> {
        BoxSlot(AtomicCell::new(None))
    }

    pub(crate) fn put(&self, value: Box<T>) -> Option<Box<T>> {
        self.0.swap(Some(value))
    }

    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.0.take()
    }
}

/// A word that decides nothing that must be right. So its accesses order nothing, and the models leave them out.
pub(crate) struct Hint(AtomicU64);

impl Hint {
    pub(crate) const fn new() -> Hint {
        Hint(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_lock_free() {
        assert!(AtomicCell::<Option<Arc<u64>>>::is_lock_free());
        assert!(AtomicCell::<Option<Box<u64>>>::is_lock_free());
    }
}
