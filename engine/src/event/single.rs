//! An event with at most one subscriber at a time.
//!
//! As for an [`Event`](super::Event): the subscriber announces, enters the place, then looks (E1); the event is set in
//! the word, then the announced place is taken (E2). The place is one word, changed only by read-modify-writes, so the
//! same argument shows that the subscriber is not missed.

use super::{ANNOUNCED, SET};
use crate::sync::{Arc, AtomicU32, Ordering, Slot};

pub(crate) struct Single<T> {
    word: AtomicU32,
    subscriber: Slot<T>,
}

impl<T> Single<T> {
    pub(crate) fn new() -> Single<T> {
        Single {
            word: AtomicU32::new(0),
            subscriber: Slot::new(),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        // Acquire: pairs with the Release in `set`, so all that was done before the event is visible.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets the event, and takes its subscriber for the caller to serve. `None` if the event was set already.
    pub(crate) fn set(&self) -> Option<Option<Arc<T>>> {
        // E2. Release: pairs with `is_set`. Acquire: pairs with the announcement.
        let before = self.word.fetch_or(SET, Ordering::AcqRel);
        (before & SET == 0).then(|| match before & ANNOUNCED {
            0 => None,
            _ => self.take(),
        })
    }

    /// Sets the event without a read-modify-write, where no other thread can have subscribed yet.
    pub(crate) fn set_without_subscribers(&self) {
        // Release: pairs with `is_set`.
        self.word.store(SET, Ordering::Release);
    }

    /// Takes the event back, if it was set without subscribers.
    pub(crate) fn reset(&self) {
        // Release: a thread that reads it finds what its setter has written before.
        self.word.store(0, Ordering::Release);
    }

    /// Makes this the subscriber, after the last one was taken. Returns whether the event is set; then the subscriber
    /// may not be served.
    pub(crate) fn subscribe(&self, subscriber: Arc<T>) -> bool {
        // E1. AcqRel: the announcement comes before or after `set` in the order of the word.
        self.word.fetch_or(ANNOUNCED, Ordering::AcqRel);
        self.subscriber.put(subscriber);
        self.is_set()
    }

    /// Takes the subscriber out of its place, unless it was taken to be served.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.subscriber.take()
    }
}
