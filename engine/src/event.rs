//! An event: it is set once, and its subscribers wait for it.
//!
//! A request has two events: its task or thread waits for *granted*, a [`Single`], and later requests watch *released*.
//! An event without subscribers costs one read-modify-write and touches neither place for them. Most events have
//! one subscriber at most, so there is a place for the first one, which is cheaper than the chain.
//!
//! ```text
//!              announce              announce                  set: take both places, serve them
//!   (nothing) ─────────► ANNOUNCED ──────────► … | CHAINED ─────────────────────────────────────► … | SET
//!       │                 + first   the second   + chain
//!       └──────────────────── set: there is no subscriber ──────────────────────────────────────► SET
//! ```
//!
//! # Invariants
//! E1. A subscriber announces first, then enters its place, then looks whether the event is set. The first
//!     announcement decides which subscriber has the first place; each other one announces the chain as well.
//! E2. The event is set in the word first; then the announced places are taken.
//! E3. A subscriber is in exactly one list that was taken, or still in its place.
//!
//! # No subscriber is missed
//! Each place is one word, and all changes to it are read-modify-writes. A subscriber enters its place either before
//! the taking of E2 or after it. If before, the taking finds it. If after, its entering has read the result of the
//! taking. Therefore the look of E1 sees SET, and the subscriber takes the places itself and serves them. If the event
//! was set without a taking of the place, the word had not been announced for that place; then the announcement comes
//! later in the order of the word and sees SET.
//!
//! The first place is entered once at most, because one announcement is the first. So no subscriber is ever in the
//! hands of a thread that takes it out to make room for another one. It stays there when it retires. A subscriber that
//! announces itself may also give up and enter no place.

mod nodes;
mod purge;
mod single;

pub(crate) use nodes::{Garbage, Nodes, Subscribers};
pub(crate) use purge::Purge;
pub(crate) use single::Single;

use crate::sync::{Arc, AtomicU32, Chain, FEW_RETIRED, Ordering, Slot};
use nodes::Node;
use std::mem::{self, ManuallyDrop};

/// The nanoseconds to look at a node, to move it or to drop it.
pub(crate) const NODE: u64 = 100;

const SET: u32 = 1;
const ANNOUNCED: u32 = 2;
/// More subscribers than one have announced, and all but the first are in the chain.
const CHAINED: u32 = 4;
/// Others want to hear of each subscriber, and of the event; see [`Event::arm`].
const ARMED: u32 = 8;
/// They do not want to hear of the event.
const DISARMED: u32 = 16;

/// Waits for an event.
pub(crate) trait Subscriber {
    /// Whether it no longer waits, so that serving it has no effect. A retired subscriber stays retired.
    fn is_retired(&self) -> bool;
}

/// The place of a subscriber that has announced itself.
pub(crate) enum Announced {
    First,
    Chained,
}

pub(crate) struct Event<T> {
    word: AtomicU32,
    /// Retired subscribers that were reported since the last purge.
    retired: AtomicU32,
    /// The subscriber that announced first.
    first: Slot<T>,
    /// The others. Touched only if announced: a change of an `ArcSwapOption`, and even the drop of an empty one,
    /// visits every thread that ever used one.
    chain: ManuallyDrop<Chain<Node<T>>>,
}

impl<T: Subscriber> Event<T> {
    pub(crate) fn new() -> Event<T> {
        Event {
            word: AtomicU32::new(0),
            retired: AtomicU32::new(0),
            first: Slot::new(),
            chain: ManuallyDrop::new(Chain::default()),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        // Acquire: pairs with the Release in `set`, so all that was done before the event is visible.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets the event. The caller must serve the subscribers. `None` if the event was set already.
    pub(crate) fn set(&self) -> Option<Subscribers<T>> {
        self.set_and_tell(|| {})
    }

    /// As [`set`](Event::set). If the event is armed, `tell` is called.
    #[inline]
    pub(crate) fn set_and_tell(&self, tell: impl FnOnce()) -> Option<Subscribers<T>> {
        // E2. Release: pairs with `is_set`. Acquire: pairs with the announcement.
        let before = self.word.fetch_or(SET, Ordering::AcqRel);
        // Most events have no subscribers.
        if before == 0 {
            return Some(Subscribers::default());
        }
        if before & SET != 0 {
            return None;
        }
        if before & (ARMED | DISARMED) == ARMED {
            tell();
        }
        Some(self.take(before))
    }

    /// From now on subscribers see that the event is armed. Returns whether one has announced before: if it has, it may
    /// not have seen that.
    pub(crate) fn arm(&self) -> bool {
        // AcqRel: the announcement of each subscriber comes before or after this in the order of the word.
        self.word.fetch_or(ARMED, Ordering::AcqRel) & ANNOUNCED != 0
    }

    /// Whether the event is armed. A subscriber looks after its announcement.
    pub(crate) fn is_armed(&self) -> bool {
        // Acquire: pairs with `arm`.
        self.word.load(Ordering::Acquire) & ARMED != 0
    }

    /// Lets the event be set without telling those that have armed it.
    pub(crate) fn disarm(&self) {
        if self.is_armed() {
            // Relaxed: this thread sets the event.
            self.word.fetch_or(DISARMED, Ordering::Relaxed);
        }
    }

    /// Whether a subscriber has announced itself. Leaves the word as it was.
    pub(crate) fn is_announced(&self) -> bool {
        // A swap, because it must come before or after each announcement in the order of the word: an announcement
        // that comes later happens after all that this thread did before. A subscriber that announces itself
        // between the two lines is not lost, since the second line keeps its bits.
        let before = self.word.swap(0, Ordering::AcqRel);
        if before != 0 {
            self.word.fetch_or(before, Ordering::AcqRel);
        }
        before != 0
    }

    /// Announces a subscriber, which enters its place next, or never. `None` if the event is set.
    pub(crate) fn announce(&self) -> Option<Announced> {
        // E1. AcqRel: the announcement comes before or after `set` in the order of the word.
        let mut before = self.word.fetch_or(ANNOUNCED, Ordering::AcqRel);
        if before & (SET | ANNOUNCED) == 0 {
            return Some(Announced::First);
        }
        if before & SET == 0 {
            // E1, for the other place.
            before = self.word.fetch_or(CHAINED, Ordering::AcqRel);
        }
        (before & SET == 0).then_some(Announced::Chained)
    }

    /// Adds a subscriber that has announced itself.
    ///
    /// If the event was set meanwhile, the caller must serve the resulting subscribers, because no other thread
    /// will. They include this one, unless another thread has just taken it to serve it.
    pub(crate) fn enter(
        &self,
        place: Announced,
        subscriber: Arc<T>,
        garbage: &mut Garbage<T>,
    ) -> Option<Subscribers<T>> {
        if let Announced::First = place {
            self.first.put(subscriber);
            return self.missed();
        }
        let mut own = Nodes::default();
        own.push(subscriber);
        loop {
            let head = self.chain.load();
            garbage.add(own.put_before(&head));
            if self.chain.replace(&head, own.first()) {
                break;
            }
        }
        garbage.add(own);
        self.missed()
    }

    /// The look of a subscriber that has entered its place: if the event is set, takes the subscribers.
    fn missed(&self) -> Option<Subscribers<T>> {
        // Acquire: as in `is_set`.
        let word = self.word.load(Ordering::Acquire);
        (word & SET != 0).then(|| self.take(word))
    }

    /// Takes the subscribers that are in the announced places.
    fn take(&self, announced: u32) -> Subscribers<T> {
        let mut taken = Subscribers::default();
        if announced & ANNOUNCED != 0 {
            taken.first = self.first.take();
        }
        if announced & CHAINED != 0 {
            taken.chain = Nodes::of(self.chain.take());
        }
        taken
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
        // The first subscriber is not in the chain, so its report may be one too many.
        let is_due = head
            .as_ref()
            .is_some_and(|head| retired.saturating_mul(2) >= head.len);
        let is_claimed = is_due
            && self
                .retired
                .compare_exchange(retired, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if !is_claimed {
            garbage.add(Nodes::of(head));
            return None;
        }
        Some(Purge::of(head))
    }

    /// The length of the chain.
    #[cfg(test)]
    pub(crate) fn chained(&self) -> u32 {
        self.chain.load().map_or(0, |head| head.len)
    }
}

impl<T> Drop for Event<T> {
    fn drop(&mut self) {
        if self.word.load(Ordering::Relaxed) & CHAINED != 0 {
            drop(mem::take(&mut *self.chain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::sync::AtomicBool;

    /// Retired once the flag is set.
    struct Flagged(AtomicBool);

    impl Subscriber for Flagged {
        fn is_retired(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn flagged() -> Arc<Flagged> {
        Arc::new(Flagged(AtomicBool::new(false)))
    }

    fn subscribe(event: &Event<Flagged>, one: &Arc<Flagged>) {
        let place = event.announce().expect("not set");
        let missed = event.enter(place, Arc::clone(one), &mut Garbage::default());
        assert!(missed.is_none());
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
            subscribe(&event, one);
            for _ in 0..1000 {
                let retired = flagged();
                subscribe(&event, &retired);
                retired.0.store(true, Ordering::Relaxed);
                retire(&event);
            }
        }
        let served: Vec<_> = event.set().unwrap().collect();
        assert!(served.len() < 3 + FEW_RETIRED as usize);
        let served: Vec<_> = served.iter().filter(|one| !one.is_retired()).collect();
        assert_eq!(served.len(), 3);
        for (one, other) in served.iter().zip(waiting.iter().rev()) {
            assert!(Arc::ptr_eq(one, other));
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
    fn one_subscriber_makes_no_chain_and_the_first_is_served_last() {
        let event = Event::new();
        let all: Vec<_> = (0..3).map(|_| flagged()).collect();
        for (before, one) in all.iter().enumerate() {
            subscribe(&event, one);
            assert_eq!(event.chained() as usize, before);
        }
        let taken = event.set().unwrap();
        for (one, other) in taken.zip(all.iter().rev()) {
            assert!(Arc::ptr_eq(&one, other));
        }
    }

    #[test]
    fn a_late_subscriber_is_told() {
        let event = Event::<Flagged>::new();
        let place = event.announce().expect("not set");
        assert_eq!(event.set().unwrap().count(), 0);
        assert!(event.set().is_none());
        assert!(event.announce().is_none());
        let late = event.enter(place, flagged(), &mut Garbage::default());
        assert_eq!(late.unwrap().count(), 1);
    }

    #[test]
    fn a_look_for_announcements_keeps_them() {
        let event = Event::<Flagged>::new();
        assert!(!event.is_announced());
        subscribe(&event, &flagged());
        assert!(event.is_announced() && event.is_announced());
        assert_eq!(event.set().unwrap().count(), 1);
    }
}
