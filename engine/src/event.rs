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

use crate::budget::Budget;
use crate::sync::{Arc, AtomicU32, Chain, FEW_RETIRED, Ordering, into_inner};
use std::mem::{self, ManuallyDrop};

/// The nanoseconds to look at a node, to move it or to drop it.
pub(crate) const NODE: u64 = 100;

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
    next: Subscribers<T>,
    /// The number of nodes from this one to the end.
    len: u32,
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// A list of subscribers: a chain, or a part of a chain that was taken. The owner of a part must serve it.
///
/// A chain that was taken begins with its newest subscriber. Dropping a long list is not recursive.
pub(crate) struct Subscribers<T>(Option<Arc<Node<T>>>);

impl<T> Subscribers<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn len(&self) -> u32 {
        self.0.as_ref().map_or(0, |first| first.len)
    }

    pub(crate) fn push(&mut self, subscriber: T) {
        *self = Subscribers(Some(Arc::new(Node {
            subscriber,
            len: self.len() + 1,
            next: mem::take(self),
        })));
    }
}

impl<T: Clone> Subscribers<T> {
    /// Moves the first subscriber to the front of another list; `false` if there is none.
    pub(crate) fn move_first(&mut self, to: &mut Subscribers<T>) -> bool {
        let Some(mut first) = self.0.take() else {
            return false;
        };
        match Arc::get_mut(&mut first) {
            Some(node) => {
                node.len = to.len() + 1;
                *self = mem::replace(&mut node.next, mem::take(to));
                to.0 = Some(first);
            }
            // A thread whose push or purge has not ended may still look at the node.
            None => {
                *self = Subscribers(first.next.0.clone());
                to.push(first.subscriber.clone());
            }
        }
        true
    }
}

impl<T: Clone> Iterator for Subscribers<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match Arc::try_unwrap(self.0.take()?) {
            Ok(Node {
                subscriber, next, ..
            }) => {
                *self = next;
                Some(subscriber)
            }
            // A thread whose push or purge has not ended may still look at the node.
            Err(shared) => {
                *self = Subscribers(shared.next.0.clone());
                Some(shared.subscriber.clone())
            }
        }
    }
}

impl<T> Default for Subscribers<T> {
    fn default() -> Subscribers<T> {
        Subscribers(None)
    }
}

impl<T> Drop for Subscribers<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(first) = self.0.take() {
            drop_list(first);
        }
    }
}

fn drop_list<T>(first: Arc<Node<T>>) {
    let mut rest = Some(first);
    while let Some(mut node) = rest.and_then(into_inner) {
        rest = node.next.0.take();
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
            _ => Some(Subscribers::default()),
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
    pub(crate) fn subscribe(
        &self,
        subscriber: T,
        garbage: &mut Garbage<T>,
    ) -> Option<Subscribers<T>> {
        // E1. AcqRel: the announcement comes before or after `set` in the order of the word.
        let before = self.word.fetch_or(ANNOUNCED, Ordering::AcqRel);
        let mut own = Subscribers::default();
        own.push(subscriber);
        if before & SET != 0 {
            return Some(own);
        }
        loop {
            let head = self.chain.load();
            let node = own.0.as_mut().and_then(Arc::get_mut);
            let node = node.expect("ours alone until it is pushed");
            node.len = head.as_ref().map_or(0, |head| head.len) + 1;
            garbage.add(mem::replace(&mut node.next, Subscribers(head.clone())));
            if self.chain.replace(&head, own.0.clone()) {
                break;
            }
        }
        garbage.add(own);
        self.is_set().then(|| self.take())
    }

    /// Reports a retired subscriber, so that the retired ones never outnumber the others by much.
    ///
    /// Cost: constant, amortised over the reports, with the resulting purge. A purge is due when about half of
    /// the chain is retired. The thread that finds a purge due claims all reports for its purge, and must
    /// complete it.
    pub(crate) fn retire(&self, garbage: &mut Garbage<T>) -> Option<Purge<T>> {
        // AcqRel: a thread that claims a report must see that its subscriber is retired.
        let retired = self.retired.fetch_add(1, Ordering::AcqRel) + 1;
        if retired < FEW_RETIRED {
            return None;
        }
        let head = self.chain.load();
        let is_due = retired.saturating_mul(2) >= head.as_ref().map_or(0, |head| head.len);
        let is_claimed = is_due
            && self
                .retired
                .compare_exchange(retired, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if !is_claimed {
            garbage.add(Subscribers(head));
            return None;
        }
        Some(Purge {
            at: head.clone(),
            head,
            seen: None,
            kept: Subscribers::default(),
            purged: Subscribers::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> u32 {
        self.chain.load().map_or(0, |head| head.len)
    }

    fn take(&self) -> Subscribers<T> {
        Subscribers(self.chain.take())
    }
}

/// Replaces the chain of an event by one without the retired subscribers, in steps.
///
/// An attempt that fails keeps its result, and the next attempt only looks at the newer subscribers. Several
/// purges of one event may be under way. A purge begins only when half of the chain has retired since the last
/// one began, so their number is at most logarithmic in the length of the chain.
pub(crate) struct Purge<T> {
    /// The chain to replace.
    head: Option<Arc<Node<T>>>,
    /// The next of its nodes to look at.
    at: Option<Arc<Node<T>>>,
    /// The chain of the last attempt. `purged` is that chain without the retired subscribers.
    seen: Option<Arc<Node<T>>>,
    /// The waiting subscribers that were found since then, the oldest first.
    kept: Subscribers<T>,
    purged: Subscribers<T>,
}

impl<T: Subscriber> Purge<T> {
    /// Does a part of the purge; `true` at its end.
    pub(crate) fn step(
        &mut self,
        event: &Event<T>,
        budget: &mut Budget,
        garbage: &mut Garbage<T>,
    ) -> bool {
        while self.look(budget) {
            if self.at.is_none() && self.seen.is_some() {
                if self.head.is_none() {
                    // The chain was taken, to be served.
                    self.end(garbage);
                    return true;
                }
                // Another purge has replaced the chain, perhaps before the subscribers of our reports retired.
                // We have looked at all of the new one.
                garbage.add(mem::take(&mut self.purged));
                garbage.add(Subscribers(self.seen.take()));
            }
            while self.kept.move_first(&mut self.purged) {
                budget.spend(NODE);
                if budget.is_spent() {
                    return false;
                }
            }
            if event.chain.replace(&self.head, self.purged.0.clone()) {
                self.end(garbage);
                return true;
            }
            let seen = mem::replace(&mut self.head, event.chain.load());
            self.at = self.head.clone();
            garbage.add(Subscribers(mem::replace(&mut self.seen, seen)));
        }
        false
    }

    /// Looks for waiting subscribers; `true` at the end of the part that was not looked at before.
    fn look(&mut self, budget: &mut Budget) -> bool {
        let is_new = |node: &&Arc<Node<T>>| !is_same(Some(node), self.seen.as_ref());
        let mut rest = self.at.as_ref();
        while let Some(node) = rest.filter(is_new) {
            if !node.subscriber.is_retired() {
                self.kept.push(node.subscriber.clone());
            }
            rest = node.next.0.as_ref();
            budget.spend(NODE);
            if budget.is_spent() {
                break;
            }
        }
        let has_ended = rest.filter(is_new).is_none();
        self.at = rest.cloned();
        has_ended
    }

    fn end(&mut self, garbage: &mut Garbage<T>) {
        self.at = None;
        garbage.add(Subscribers(self.seen.take()));
        garbage.add(Subscribers(self.head.take()));
        garbage.add(mem::take(&mut self.kept));
        garbage.add(mem::take(&mut self.purged));
    }
}

/// Parts of chains that no thread needs any more, to be dropped in steps: they may be long.
pub(crate) struct Garbage<T>(Vec<Subscribers<T>>);

impl<T> Garbage<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives up a list. Its nodes are left to the other owners of the list, if there are any.
    fn add(&mut self, mut list: Subscribers<T>) {
        if let Some(node) = list.0.take().and_then(into_inner)
            && !node.next.is_empty()
        {
            self.0.push(node.next);
        }
    }

    pub(crate) fn append(&mut self, mut other: Garbage<T>) {
        self.0.append(&mut other.0);
    }

    /// Drops a part of the lists.
    pub(crate) fn drop_some(&mut self, budget: &mut Budget) {
        while let Some(list) = self.0.last_mut()
            && !budget.is_spent()
        {
            match list.0.take().and_then(into_inner) {
                Some(node) => *list = node.next,
                None => drop(self.0.pop()),
            }
            budget.spend(NODE);
        }
    }
}

impl<T> Default for Garbage<T> {
    fn default() -> Garbage<T> {
        Garbage(Vec::new())
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

    fn subscribe(event: &Event<Flagged>, one: &Flagged) -> Option<Subscribers<Flagged>> {
        event.subscribe(one.clone(), &mut Garbage::default())
    }

    fn retire(event: &Event<Flagged>) {
        let mut garbage = Garbage::default();
        if let Some(mut purge) = event.retire(&mut garbage) {
            assert!(purge.step(event, &mut Budget::unlimited(), &mut garbage));
        }
    }

    #[test]
    fn retired_subscribers_are_purged_and_the_others_keep_their_order() {
        let event = Event::new();
        let waiting: Vec<_> = (0..3).map(|_| flagged()).collect();
        for one in &waiting {
            assert!(subscribe(&event, one).is_none());
            for _ in 0..1000 {
                let retired = flagged();
                assert!(subscribe(&event, &retired).is_none());
                retired.0.store(true, Ordering::Relaxed);
                retire(&event);
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
            subscribe(&event, &flagged());
        }
        drop(event);
    }

    #[test]
    fn a_late_subscriber_is_handed_back() {
        let event = Event::new();
        assert_eq!(event.set().unwrap().count(), 0);
        assert!(event.set().is_none());
        assert_eq!(subscribe(&event, &flagged()).unwrap().count(), 1);
    }
}
