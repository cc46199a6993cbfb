//! The engine's own `sync`, with a step before every access. There are no steps inside the skiplist and
//! inside `arc-swap`; both are documented as lock-free.

#[path = "../../../engine/src/sync.rs"]
mod real;

pub(crate) use real::{
    Arc, CachePadded, Counter, Ordering, fence, identity, into_inner, park, spin_until, thread,
    thread_number,
};

use crate::steps::{step, without_steps};
use std::ops::Bound;

/// So small that short histories purge.
pub(crate) const FEW_RETIRED: u32 = 2;

/// Few, so that a lock manager is made quickly.
pub(crate) const PLACES: usize = 8;

pub(crate) const FEWEST_COUNTERS: usize = 4;

/// Steps are tried often.
pub(crate) const TRY_STEPS_EVERY: u32 = 2;

pub(crate) struct Guard(real::Guard);

impl Guard {
    pub(crate) fn flush(&self) {
        without_steps(|| self.0.flush());
    }
}

pub(crate) fn pin() -> Guard {
    Guard(without_steps(real::pin))
}

macro_rules! stepped {
    ($($atomic:ident of $value:ty: $($method:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?),*;)*) => {
        $(pub(crate) struct $atomic(real::$atomic);

        impl $atomic {
            pub(crate) fn new(value: $value) -> $atomic {
                $atomic(real::$atomic::new(value))
            }

            $(pub(crate) fn $method(&self, $($arg: $kind),*) $(-> $result)? {
                step();
                self.0.$method($($arg),*)
            })*
        })*
    };
}

stepped! {
    AtomicBool of bool: load(order: Ordering) -> bool, store(value: bool, order: Ordering);
    AtomicU32 of u32:
        load(order: Ordering) -> u32,
        store(value: u32, order: Ordering),
        swap(value: u32, order: Ordering) -> u32,
        fetch_add(value: u32, order: Ordering) -> u32,
        fetch_or(value: u32, order: Ordering) -> u32,
        compare_exchange(old: u32, new: u32, ok: Ordering, err: Ordering) -> Result<u32, u32>;
    AtomicU64 of u64:
        load(order: Ordering) -> u64,
        store(value: u64, order: Ordering),
        swap(value: u64, order: Ordering) -> u64,
        fetch_add(value: u64, order: Ordering) -> u64,
        fetch_max(value: u64, order: Ordering) -> u64,
        fetch_or(value: u64, order: Ordering) -> u64,
        compare_exchange(old: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64>;
}

pub(crate) type Tally = AtomicU64;

pub(crate) struct List<K, V>(real::List<K, V>);

impl<K: Ord + Send + 'static, V: Send + 'static> List<K, V> {
    pub(crate) fn new() -> List<K, V> {
        List(real::List::new())
    }

    pub(crate) fn insert<'a, 'g>(
        &'a self,
        key: K,
        value: V,
        guard: &'g Guard,
    ) -> Inserted<'a, 'g, K, V> {
        step();
        Inserted(self.0.insert(key, value, &guard.0))
    }

    pub(crate) fn remove(&self, key: &K, guard: &Guard) {
        step();
        self.0.remove(key, &guard.0);
    }

    pub(crate) fn seek<'a: 'g, 'g>(
        &'a self,
        bound: Bound<&K>,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        step();
        self.0.seek(bound, &guard.0).map(Entry)
    }

    pub(crate) fn last_up_to<'a: 'g, 'g>(
        &'a self,
        key: &K,
        guard: &'g Guard,
    ) -> Option<Entry<'a, 'g, K, V>> {
        step();
        self.0.last_up_to(key, &guard.0).map(Entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(crate) struct Entry<'a, 'g, K, V>(real::Entry<'a, 'g, K, V>);

impl<K, V> Clone for Entry<'_, '_, K, V> {
    fn clone(&self) -> Self {
        Entry(self.0.clone())
    }
}

impl<'a: 'g, 'g, K: Ord, V> Entry<'a, 'g, K, V> {
    pub(crate) fn key(&self) -> &'g K {
        self.0.key()
    }

    pub(crate) fn value(&self) -> &'g V {
        self.0.value()
    }

    pub(crate) fn next(&self) -> Option<Entry<'a, 'g, K, V>> {
        step();
        self.0.next().map(Entry)
    }
}

pub(crate) struct Inserted<'a, 'g, K, V>(real::Inserted<'a, 'g, K, V>);

impl<K: Ord, V> Inserted<'_, '_, K, V> {
    pub(crate) fn look_at_next<R>(&self, look: impl FnOnce(&K, &V) -> R) -> Option<R> {
        step();
        self.0.look_at_next(look)
    }
}

pub(crate) struct Chain<N>(real::Chain<N>);

impl<N> Chain<N> {
    pub(crate) fn load(&self) -> Option<Arc<N>> {
        step();
        self.0.load()
    }

    pub(crate) fn replace(&self, current: &Option<Arc<N>>, new: Option<Arc<N>>) -> bool {
        step();
        self.0.replace(current, new)
    }

    pub(crate) fn take(&self) -> Option<Arc<N>> {
        step();
        self.0.take()
    }
}

impl<N> Default for Chain<N> {
    fn default() -> Chain<N> {
        Chain(real::Chain::default())
    }
}

pub(crate) struct Slot<T>(real::Slot<T>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Slot<T> {
        Slot(real::Slot::new())
    }

    pub(crate) fn put(&self, value: Arc<T>) {
        step();
        self.0.put(value);
    }

    pub(crate) fn take(&self) -> Option<Arc<T>> {
        step();
        self.0.take()
    }
}

pub(crate) struct BoxSlot<T>(real::BoxSlot<T>);

impl<T> BoxSlot<T> {
    pub(crate) fn new() -> BoxSlot<T> {
        BoxSlot(real::BoxSlot::new())
    }

    pub(crate) fn put(&self, value: Box<T>) -> Option<Box<T>> {
        step();
        self.0.put(value)
    }

    pub(crate) fn take(&self) -> Option<Box<T>> {
        step();
        self.0.take()
    }
}

pub(crate) struct Hint(real::Hint);

impl Hint {
    pub(crate) fn new() -> Hint {
        Hint(real::Hint::new())
    }

    pub(crate) fn get(&self) -> u64 {
        step();
        self.0.get()
    }

    pub(crate) fn set(&self, value: u64) {
        step();
        self.0.set(value);
    }
}
