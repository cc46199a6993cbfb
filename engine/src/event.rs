//! An event that happens once, and those who want to be told.
//!
//! A request has two: *granted*, awaited by tasks and threads, and *released*, watched by later
//! requests. An event that nobody awaits costs one read-modify-write and touches no chain.
//!
//! ```text
//!              announce                      happen: take the chain, serve it
//!   (nothing) ─────────► ANNOUNCED + chain ─────────────────────────────────► HAPPENED, chain empty
//!       └──────────────────── happen: there is no chain ─────────────────────► HAPPENED
//! ```
//!
//! # Invariants
//! E1. Whoever subscribes announces first, then pushes, then looks whether the event has happened.
//! E2. The event happens in the word first; then the chain is taken, if it was announced.
//! E3. A subscriber is in exactly one list that was taken from the chain, or still in the chain.
//!
//! # No subscriber is missed
//! The chain is one word that is only changed by read-modify-writes. A push comes either before
//! the taking of E2, which then finds it, or after it: then it has read what the taking wrote,
//! therefore sees HAPPENED in its look of E1, takes the chain itself and serves it. If the event
//! happened without a taking, the word had not been announced; then the announcing comes later in
//! the word's order and sees HAPPENED.

use crate::sync::{Arc, AtomicU32, Chain, FEW_DEAD, Ordering, into_inner};
use std::mem::{self, ManuallyDrop};

const HAPPENED: u32 = 1;
const ANNOUNCED: u32 = 2;

/// Something that can be told that an event has happened.
pub(crate) trait Subscriber: Clone {
    /// Whether telling it still has an effect. Once dead, it stays dead.
    fn is_live(&self) -> bool;
}

pub(crate) struct Event<T> {
    word: AtomicU32,
    /// Deaths reported since the last purge.
    dead: AtomicU32,
    /// Not dropped unless announced: even the drop of an empty `ArcSwapOption` visits every thread
    /// that ever used one.
    chain: ManuallyDrop<Chain<Node<T>>>,
}

struct Node<T> {
    subscriber: T,
    next: Link<T>,
    /// The nodes from here to the end.
    len: u32,
}

/// Points to the rest of a chain, and lets go of it without recursion, however long it is.
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

/// The subscribers of an event that has happened, the newest first. To be served by its owner.
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
            dead: AtomicU32::new(0),
            chain: ManuallyDrop::new(Chain::default()),
        }
    }

    pub(crate) fn has_happened(&self) -> bool {
        // Acquire: pairs with the Release in `happen`; what was done before the event is visible.
        self.word.load(Ordering::Acquire) & HAPPENED != 0
    }

    /// Makes it happen. The subscribers must be served by the caller; `None` if it had happened.
    pub(crate) fn happen(&self) -> Option<Subscribers<T>> {
        // E2. Release: for whoever sees it happened. Acquire: pairs with the announcement.
        let before = self.word.fetch_or(HAPPENED, Ordering::AcqRel);
        match before {
            _ if before & HAPPENED != 0 => None,
            ANNOUNCED => Some(self.take()),
            _ => Some(Subscribers(Link(None))),
        }
    }

    /// Makes it happen where nobody can have subscribed yet, without a read-modify-write.
    pub(crate) fn happen_unseen(&self) {
        // Release: for whoever sees it happened.
        self.word.store(HAPPENED, Ordering::Release);
    }

    /// Adds a subscriber.
    ///
    /// If the event has happened, the result is what the caller must serve instead: subscribers
    /// that nobody else will, this one among them unless somebody has just taken it to serve it.
    pub(crate) fn subscribe(&self, subscriber: T) -> Option<Subscribers<T>> {
        // E1. AcqRel: the announcement is ordered before or after `happen` in the word's order.
        let before = self.word.fetch_or(ANNOUNCED, Ordering::AcqRel);
        if before & HAPPENED != 0 {
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
        self.has_happened().then(|| self.take())
    }

    /// Reports that one subscriber has died, so that the dead never outnumber the living by much.
    ///
    /// Cost: constant, amortised over the deaths: a purge is due when about half of the chain is
    /// dead, and who finds that claims them all.
    pub(crate) fn bury(&self) {
        // AcqRel: who claims a death must see it.
        let dead = self.dead.fetch_add(1, Ordering::AcqRel) + 1;
        if dead < FEW_DEAD {
            return;
        }
        let len = self.chain.load().map_or(0, |head| head.len);
        let is_due = dead.saturating_mul(2) >= len;
        if is_due
            && self
                .dead
                .compare_exchange(dead, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.purge();
        }
    }

    /// Replaces the chain by one of the living.
    ///
    /// What is pushed meanwhile only makes the next attempt look at that much more: a try that fails
    /// keeps what it has done.
    fn purge(&self) {
        let mut seen = None;
        let mut purged = Link(None);
        loop {
            let head = self.chain.load();
            let mut living = Vec::new();
            let mut rest = head.as_ref();
            while let Some(node) = rest.filter(|node| !is_same(Some(node), seen.as_ref())) {
                if node.subscriber.is_live() {
                    living.push(node.subscriber.clone());
                }
                rest = node.next.0.as_ref();
            }
            if rest.is_none() && seen.is_some() {
                if head.is_none() {
                    // The chain was taken, to be served.
                    return;
                }
                // Another has purged it, and may have judged before our dead were dead.
                seen = None;
                purged = Link(None);
                continue;
            }
            for subscriber in living.into_iter().rev() {
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

    #[derive(Clone)]
    struct Mortal(Arc<AtomicBool>);

    impl Subscriber for Mortal {
        fn is_live(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn mortal() -> Mortal {
        Mortal(Arc::new(AtomicBool::new(true)))
    }

    #[test]
    fn the_dead_are_purged_and_the_living_stay_in_order() {
        let event = Event::new();
        let living: Vec<_> = (0..3).map(|_| mortal()).collect();
        for one in &living {
            assert!(event.subscribe(one.clone()).is_none());
            for _ in 0..1000 {
                let short_lived = mortal();
                assert!(event.subscribe(short_lived.clone()).is_none());
                short_lived.0.store(false, Ordering::Relaxed);
                event.bury();
            }
        }
        let told: Vec<_> = event.happen().unwrap().collect();
        assert!(told.len() < 3 + FEW_DEAD as usize);
        let told: Vec<_> = told.iter().filter(|one| one.is_live()).collect();
        assert_eq!(told.len(), 3);
        for (one, other) in told.iter().zip(living.iter().rev()) {
            assert!(Arc::ptr_eq(&one.0, &other.0));
        }
    }

    #[test]
    fn a_chain_of_a_million_is_dropped_without_recursion() {
        let event = Event::new();
        for _ in 0..1_000_000 {
            event.subscribe(mortal());
        }
        drop(event);
    }

    #[test]
    fn who_subscribes_late_is_handed_back() {
        let event = Event::new();
        assert_eq!(event.happen().unwrap().count(), 0);
        assert!(event.happen().is_none());
        assert_eq!(event.subscribe(mortal()).unwrap().count(), 1);
    }
}
