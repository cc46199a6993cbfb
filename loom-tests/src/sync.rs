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

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
pub(crate) use loom::thread;
pub(crate) use std::sync::Arc;

use loom::sync::atomic::{self, AtomicUsize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// The largest number of entries that a model inserts into one list. loom requires that an atomic is created
/// before all accesses to it, so the slots are created with the list.
const SLOTS: usize = 8;

/// The first retired subscriber is worth a purge.
pub(crate) const FEW_RETIRED: u32 = 1;

/// Steps are tried often.
pub(crate) const TRY_STEPS_EVERY: u32 = 2;

/// A manager that names no number has no places: the models that use them ask for them.
pub(crate) const PLACES: usize = 0;

/// Insertions at different paths rarely share counters, and an atomic costs executions.
pub(crate) const FEWEST_COUNTERS: usize = 4;

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
    static EXPLORES_COUNTERS: Cell<bool> = const { Cell::new(false) };
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

const ABSENT: usize = 0;
const PRESENT: usize = 1;
const REMOVED: usize = 2;

pub(crate) struct List<K, V> {
    slots: Vec<ListSlot<K, V>>,
    /// The slot of each key, assigned by its insert.
    order: Unmodelled<BTreeMap<K, usize>>,
    len: Counter,
}

struct ListSlot<K, V> {
    state: AtomicUsize,
    entry: OnceLock<(K, V)>,
}

pub(crate) struct Entry<'a, 'g, K, V> {
    list: &'a List<K, V>,
    entry: &'a (K, V),
    guard: &'g Guard,
}

pub(crate) struct Inserted<'a, 'g, K, V>(Entry<'a, 'g, K, V>);

impl<K: Ord + Clone, V> List<K, V> {
    pub(crate) fn new() -> List<K, V> {
        let slot = |_| ListSlot {
            state: AtomicUsize::new(ABSENT),
            entry: OnceLock::new(),
        };
        List {
            slots: (0..SLOTS).map(slot).collect(),
            order: Unmodelled::new(BTreeMap::new()),
            len: Counter::new(),
        }
    }

    pub(crate) fn insert<'a, 'g>(
        &'a self,
        key: K,
        value: V,
        guard: &'g Guard,
    ) -> Inserted<'a, 'g, K, V> {
        self.len.add(1);
        let mut order = self.order.lock();
        let next = order.len();
        let slot = &self.slots[next];
        let before = order.insert(key.clone(), next);
        assert!(before.is_none(), "keys are unique");
        drop(order);
        assert!(slot.entry.set((key, value)).is_ok(), "a slot is used once");
        slot.state.store(PRESENT, Ordering::Release);
        let entry = slot.entry.get().expect("just set");
        Inserted(Entry {
            list: self,
            entry,
            guard,
        })
    }

    pub(crate) fn remove(&self, key: &K, _: &Guard) {
        let Some(slot) = self.order.lock().get(key).copied() else {
            return;
        };
        let before = self.slots[slot].state.swap(REMOVED, Ordering::AcqRel);
        assert_eq!(before, PRESENT, "only its owner removes an entry, once");
        self.len.sub(1);
    }

    pub(crate) fn seek<'a: 'g, 'g>(
        &'a self,
        bound: Bound<&K>,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        let mut at: Bound<K> = bound.cloned();
        loop {
            let (key, slot) = {
                let order = self.order.lock();
                let (key, slot) = order.range((at.as_ref(), Bound::Unbounded)).next()?;
                (key.clone(), *slot)
            };
            let entry = self.look(slot, guard);
            if entry.is_some() {
                return entry;
            }
            at = Bound::Excluded(key);
        }
    }

    pub(crate) fn last_up_to<'a: 'g, 'g>(
        &'a self,
        key: &K,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        let mut at = Bound::Included(key.clone());
        loop {
            let (key, slot) = {
                let order = self.order.lock();
                let (key, slot) = order.range((Bound::Unbounded, at.as_ref())).next_back()?;
                (key.clone(), *slot)
            };
            let entry = self.look(slot, guard);
            if entry.is_some() {
                return entry;
            }
            at = Bound::Excluded(key);
        }
    }

    fn look<'a: 'g, 'g>(&'a self, slot: usize, guard: &'g Guard) -> Option<Entry<'a, 'g, K, V>> {
        let slot = &self.slots[slot];
        if slot.state.load(Ordering::Acquire) != PRESENT {
            return None;
        }
        let entry = slot.entry.get().expect("set before it is present");
        Some(Entry {
            list: self,
            entry,
            guard,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }
}

impl<K, V> Clone for Entry<'_, '_, K, V> {
    fn clone(&self) -> Self {
        Entry { ..*self }
    }
}

impl<'a: 'g, 'g, K: Ord + Clone, V> Entry<'a, 'g, K, V> {
    pub(crate) fn key(&self) -> &'g K {
        &self.entry.0
    }

    pub(crate) fn value(&self) -> &'g V {
        &self.entry.1
    }

    pub(crate) fn next(&self) -> Option<Entry<'a, 'g, K, V>> {
        self.list.seek(Bound::Excluded(&self.entry.0), self.guard)
    }
}

impl<K: Ord + Clone, V> Inserted<'_, '_, K, V> {
    pub(crate) fn look_at_next<R>(&self, look: impl FnOnce(&K, &V) -> R) -> Option<R> {
        self.0.next().map(|next| look(next.key(), next.value()))
    }
}

/// One atomic word, whose values stand for references.
struct Word<N> {
    word: AtomicUsize,
    meaning: Unmodelled<Meaning<N>>,
}

struct Meaning<N> {
    /// The value of the word; 0 stands for no reference.
    value: usize,
    /// The reference that the value stands for.
    reference: Option<Arc<N>>,
    /// The number of values so far.
    values: usize,
}

impl<N> Word<N> {
    fn new() -> Word<N> {
        Word {
            word: AtomicUsize::new(0),
            meaning: Unmodelled::new(Meaning {
                value: 0,
                reference: None,
                values: 0,
            }),
        }
    }

    fn load(&self) -> Option<Arc<N>> {
        self.word.fetch_add(0, Ordering::AcqRel);
        self.meaning.lock().reference.clone()
    }

    fn swap(&self, new: Option<Arc<N>>) -> Option<Arc<N>> {
        let value = self.value_of(&new);
        self.word.swap(value, Ordering::AcqRel);
        self.set(value, new)
    }

    fn replace(&self, current: &Option<Arc<N>>, new: Option<Arc<N>>) -> bool {
        let address = |of: &Option<Arc<N>>| of.as_ref().map(Arc::as_ptr);
        let before = {
            let meaning = self.meaning.lock();
            let same = address(&meaning.reference) == address(current);
            same.then_some(meaning.value)
        };
        let Some(before) = before else {
            // A failing compare-and-swap reads the word, too.
            self.word.fetch_add(0, Ordering::AcqRel);
            return false;
        };
        let value = self.value_of(&new);
        let swapped = self
            .word
            .compare_exchange(before, value, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if swapped {
            drop(self.set(value, new));
        }
        swapped
    }

    fn value_of(&self, new: &Option<Arc<N>>) -> usize {
        let mut meaning = self.meaning.lock();
        meaning.values += 1;
        if new.is_some() { meaning.values } else { 0 }
    }

    fn set(&self, value: usize, reference: Option<Arc<N>>) -> Option<Arc<N>> {
        let mut meaning = self.meaning.lock();
        meaning.value = value;
        std::mem::replace(&mut meaning.reference, reference)
    }
}

pub(crate) struct Chain<N>(Word<N>);

impl<N> Chain<N> {
    pub(crate) fn load(&self) -> Option<Arc<N>> {
        self.0.load()
    }

    pub(crate) fn replace(&self, current: &Option<Arc<N>>, new: Option<Arc<N>>) -> bool {
        self.0.replace(current, new)
    }

    pub(crate) fn take(&self) -> Option<Arc<N>> {
        self.0.swap(None)
    }
}

impl<N> Default for Chain<N> {
    fn default() -> Chain<N> {
        Chain(Word::new())
    }
}

pub(crate) struct Slot<T>(Word<T>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Slot<T> {
        Slot(Word::new())
    }

    pub(crate) fn put(&self, value: Arc<T>) {
        drop(self.0.swap(Some(value)));
    }

    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.swap(None)
    }
}

pub(crate) struct BoxSlot<T> {
    word: AtomicUsize,
    value: Unmodelled<Option<Box<T>>>,
}

impl<T> BoxSlot<T> {
    pub(crate) fn new() -> BoxSlot<T> {
        BoxSlot {
            word: AtomicUsize::new(0),
            value: Unmodelled::new(None),
        }
    }

    pub(crate) fn put(&self, value: Box<T>) -> Option<Box<T>> {
        self.swap(Some(value))
    }

    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.swap(None)
    }

    fn swap(&self, value: Option<Box<T>>) -> Option<Box<T>> {
        self.word
            .swap(usize::from(value.is_some()), Ordering::AcqRel);
        // No thread is switched between the two lines.
        std::mem::replace(&mut self.value.lock(), value)
    }
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
