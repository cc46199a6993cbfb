//! The twins of `arc-swap` and of the atomic cells.

use super::Unmodelled;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

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
