//! The twin of the skiplist.

use super::{Counter, Guard, Unmodelled};
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::OnceLock;

/// The largest number of entries that a model inserts into one list. loom requires that an atomic is created
/// before all accesses to it, so the slots are created with the list.
const SLOTS: usize = 8;

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
