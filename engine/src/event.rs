//! An event: it is set once, and its subscribers wait for it.
//!
//! A request has two events: tasks and threads wait for *granted*, and later requests watch *released*.
//! An event without subscribers costs one read-modify-write and touches no chain.
//!
//! ```text
//!              announce                     set: take the chain, serve it
//!   (nothing) ─────────► ANNOUNCED + chain ────────────────────────────────► SET, chain empty
//!       └──────────────────── set: there is no chain ───────────────────────► SET
//! ```
//!
//! # Invariants
//! E1. A subscriber announces first, then pushes, then looks whether the event is set.
//! E2. The event is set in the word first; then the chain is taken, if it was announced.
//! E3. A subscriber is in exactly one list that was taken from the chain, or still in the chain.
//!
//! # No subscriber is missed
//! The chain is one word, and all changes to it are read-modify-writes. A push comes either before the
//! taking of E2 or after it. If before, the taking finds the subscriber. If after, the push has read the
//! result of the taking. Therefore the look of E1 sees SET, and the subscriber takes the chain itself and
//! serves it. If the event was set without a taking, the word had not been announced; then the
//! announcement comes later in the order of the word and sees SET.

use crate::sync::{Arc, AtomicU32, Chain, FEW_RETIRED, Ordering, into_inner};
use std::mem::{self, ManuallyDrop};

const SET: u32 = 1;
const ANNOUNCED: u32 = 2;

/// Waits for an event.
pub(crate) trait Subscriber: Clone {
    /// Whether it no longer waits, so that serving it has no effect. A retired subscriber stays retired.
    fn is_retired(&self) -> bool;
}

pub(crate) struct Event<T> {
    word: AtomicU32,
    /// Retired subscribers that were reported since the last purge.
    retired: AtomicU32,
    /// Dropped only if announced: even the drop of an empty `ArcSwapOption` visits every thread that
    /// ever used one.
    chain: ManuallyDrop<Chain<Node<T>>>,
}

struct Node<T> {
    subscriber: T,
    next: Link<T>,
    /// The number of nodes from this one to the end.
    len: u32,
}

/// Points to the rest of a chain. Drops it without recursion, since a chain may be long.
struct Link<T>(Option<Arc<Node<T>>>);

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        let mut rest = self.0.take();
        while let Some(mut node) = rest.and_then(into_inner) {
            rest = node.next.0.take();
        }
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// The subscribers of an event that is set, the newest first. The owner of this list must serve them.
pub(crate) struct Subscribers<T>(Link<T>);

impl<T> Subscribers<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.is_none()
    }

    pub(crate) fn one(subscriber: T) -> Subscribers<T> {
        Subscribers(Link(Some(Arc::new(Node {
            subscriber,
            next: Link(None),
            len: 1,
        }))))
    }
}

impl<T: Clone> Iterator for Subscribers<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let first = self.0.0.take()?;
        // A thread whose push or purge just failed may still look at the node.
        let next = first.next.0.clone();
        let subscriber = match Arc::try_unwrap(first) {
            Ok(node) => node.subscriber,
            Err(shared) => shared.subscriber.clone(),
        };
        self.0 = Link(next);
        Some(subscriber)
    }
}

impl<T: Subscriber> Event<T> {
    pub(crate) fn new() -> Event<T> {
        Event {
            word: AtomicU32::new(0),
            retired: AtomicU32::new(0),
            chain: ManuallyDrop::new(Chain::default()),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        // Acquire: pairs with the Release in `set`, so all that was done before the event is visible.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets the event. The caller must serve the subscribers. `None` if the event was set already.
    pub(crate) fn set(&self) -> Option<Subscribers<T>> {
        // E2. Release: pairs with `is_set`. Acquire: pairs with the announcement.
        let before = self.word.fetch_or(SET, Ordering::AcqRel);
        match before {
            _ if before & SET != 0 => None,
            ANNOUNCED => Some(self.take()),
            _ => Some(Subscribers(Link(None))),
        }
    }

    /// Sets the event without a read-modify-write, where no other thread can have subscribed yet.
    pub(crate) fn set_without_subscribers(&self) {
        // Release: pairs with `is_set`.
        self.word.store(SET, Ordering::Release);
    }

    /// Adds a subscriber.
    ///
    /// If the event is set, the caller must serve the resulting subscribers, because no other thread
    /// will. They include this one, unless another thread has just taken it to serve it.
    pub(crate) fn subscribe(&self, subscriber: T) -> Option<Subscribers<T>> {
        // E1. AcqRel: the announcement comes before or after `set` in the order of the word.
        let before = self.word.fetch_or(ANNOUNCED, Ordering::AcqRel);
        if before & SET != 0 {
            return Some(Subscribers::one(subscriber));
        }
        let mut node = Arc::new(Node {
            subscriber,
            next: Link(None),
            len: 1,
        });
        loop {
            let head = self.chain.load();
            let own = Arc::get_mut(&mut node).expect("ours alone until it is pushed");
            own.len = head.as_ref().map_or(0, |head| head.len) + 1;
            own.next = Link(head.clone());
            if self.chain.replace(&head, Some(Arc::clone(&node))) {
                break;
            }
        }
        self.is_set().then(|| self.take())
    }

    /// Reports a retired subscriber, so that the retired ones never outnumber the others by much.
    ///
    /// Cost: constant, amortised over the reports. A purge is due when about half of the chain is retired.
    /// The thread that finds a purge due claims all reports for its purge.
    pub(crate) fn retire(&self) {
        // AcqRel: a thread that claims a report must see that its subscriber is retired.
        let retired = self.retired.fetch_add(1, Ordering::AcqRel) + 1;
        if retired < FEW_RETIRED {
            return;
        }
        let len = self.chain.load().map_or(0, |head| head.len);
        let is_due = retired.saturating_mul(2) >= len;
        if is_due
            && self
                .retired
                .compare_exchange(retired, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.purge();
        }
    }

    /// Replaces the chain by one without the retired subscribers.
    ///
    /// An attempt that fails keeps its result, and the next attempt only looks at the newer subscribers.
    fn purge(&self) {
        let mut seen = None;
        let mut purged = Link(None);
        loop {
            let head = self.chain.load();
            let mut kept = Vec::new();
            let mut rest = head.as_ref();
            while let Some(node) = rest.filter(|node| !is_same(Some(node), seen.as_ref())) {
                if !node.subscriber.is_retired() {
                    kept.push(node.subscriber.clone());
                }
                rest = node.next.0.as_ref();
            }
            if rest.is_none() && seen.is_some() {
                if head.is_none() {
                    // The chain was taken, to be served.
                    return;
                }
                // Another thread has purged it, perhaps before the subscribers of our reports retired.
                seen = None;
                purged = Link(None);
                continue;
            }
            for subscriber in kept.into_iter().rev() {
                let len = purged.0.as_ref().map_or(0, |head| head.len) + 1;
                let next = purged;
                purged = Link(Some(Arc::new(Node {
                    subscriber,
                    next,
                    len,
                })));
            }
            if self.chain.replace(&head, purged.0.clone()) {
                return;
            }
            seen = head;
        }
    }

    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> u32 {
        self.chain.load().map_or(0, |head| head.len)
    }

    fn take(&self) -> Subscribers<T> {
        Subscribers(Link(self.chain.take()))
    }
}

impl<T> Drop for Event<T> {
    fn drop(&mut self) {
        if self.word.load(Ordering::Relaxed) & ANNOUNCED != 0 {
            drop(mem::take(&mut *self.chain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicBool;

    /// Retired once the flag is set.
    #[derive(Clone)]
    struct Flagged(Arc<AtomicBool>);

    impl Subscriber for Flagged {
        fn is_retired(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn flagged() -> Flagged {
        Flagged(Arc::new(AtomicBool::new(false)))
    }

    #[test]
    fn retired_subscribers_are_purged_and_the_others_keep_their_order() {
        let event = Event::new();
        let waiting: Vec<_> = (0..3).map(|_| flagged()).collect();
        for one in &waiting {
            assert!(event.subscribe(one.clone()).is_none());
            for _ in 0..1000 {
                let retired = flagged();
                assert!(event.subscribe(retired.clone()).is_none());
                retired.0.store(true, Ordering::Relaxed);
                event.retire();
            }
        }
        let served: Vec<_> = event.set().unwrap().collect();
        assert!(served.len() < 3 + FEW_RETIRED as usize);
        let served: Vec<_> = served.iter().filter(|one| !one.is_retired()).collect();
        assert_eq!(served.len(), 3);
        for (one, other) in served.iter().zip(waiting.iter().rev()) {
            assert!(Arc::ptr_eq(&one.0, &other.0));
        }
    }

    #[test]
    fn a_chain_of_a_million_is_dropped_without_recursion() {
        let event = Event::new();
        for _ in 0..1_000_000 {
            event.subscribe(flagged());
        }
        drop(event);
    }

    #[test]
    fn a_late_subscriber_is_handed_back() {
        let event = Event::new();
        assert_eq!(event.set().unwrap().count(), 0);
        assert!(event.set().is_none());
        assert_eq!(event.subscribe(flagged()).unwrap().count(), 1);
    }
}
