//! The places in which requests rest, and which requests are worth a place.
//!
//! A set of resources can rest in one of the four places of a [`PlaceSet`], which its hash chooses. Only the four owners
//! carry the protocol, by swaps. All else is a hint: a place whose hints are wrong is missed, or filled, or emptied, at
//! the price of some time.
//!
//! # Admission
//! Locks that never return must not drive out those that do. So a request gets a place at the fourth time that its hash
//! is seen, and only a place that is free. Each set of places has four counters for hashes that have no place: a sight
//! of one of them counts it up, a sight of another one counts all down. Each release that gets no place takes a credit
//! from one place of its set. A lock that returns fills up the credits of its place; a place without credits is
//! emptied. Source: Misra and Gries, *Finding repeated elements* (1982).

use super::Owner;
use crate::sync::{BoxSlot, Hint};
use std::array;

const WAYS: usize = 4;
/// The credits of a place when its owner comes back to it.
const CREDITS: u64 = 3;

pub(crate) struct Places {
    sets: Box<[PlaceSet]>,
    /// The number of times that a hash must be seen.
    sights: u64,
}

/// One line of memory. Of each word of hints, 16 bits belong to each place or counter.
#[repr(align(64))]
pub(crate) struct PlaceSet {
    pub(super) owners: [BoxSlot<Owner>; WAYS],
    /// Bits of the hash for which a place is used; 0 for a free place. A place stays in use while its owner is away.
    tags: Hint,
    credits: Hint,
    /// In each counter, 14 bits of a hash, and the number of times it was seen.
    seen: Hint,
}

fn part(word: u64, index: usize) -> u64 {
    word >> (16 * index) & 0xffff
}

fn with_part(word: u64, index: usize, part: u64) -> u64 {
    let at = 16 * index;
    word & !(0xffff << at) | part << at
}

/// The bits that tell hashes of one set apart; never 0.
fn tag(hash: u64) -> u64 {
    hash & 0xffff | 1
}

impl Places {
    pub(crate) fn new(places: usize, is_eager: bool) -> Places {
        let set = |_| PlaceSet {
            owners: array::from_fn(|_| BoxSlot::new()),
            tags: Hint::new(),
            credits: Hint::new(),
            seen: Hint::new(),
        };
        Places {
            sets: (0..places.div_ceil(WAYS)).map(set).collect(),
            sights: if is_eager { 1 } else { 4 },
        }
    }

    /// The places for this hash; `None` if there are none at all.
    #[inline]
    pub(crate) fn of(&self, hash: u64) -> Option<&PlaceSet> {
        // The high bits choose the set, the low ones are the tag.
        let index = ((hash >> 32) * self.sets.len() as u64) >> 32;
        self.sets.get(index as usize)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &BoxSlot<Owner>> {
        self.sets.iter().flat_map(|set| &set.owners)
    }

    /// Puts an owner into its place, and returns the one that was there.
    #[inline]
    pub(crate) fn put(&self, owner: Box<Owner>) -> Option<Box<Owner>> {
        let set = self.of(owner.hash)?;
        let slot = owner.slot;
        set.note(slot, tag(owner.hash), CREDITS);
        set.owners[slot].put(owner)
    }

    /// Frees the place of an owner whose request leaves.
    pub(crate) fn forget(&self, owner: &Owner) {
        if let Some(set) = self.of(owner.hash) {
            set.note(owner.slot, 0, 0);
        }
    }

    /// A free place for a request that is over, if it is worth one. Otherwise the owner that this sight has driven out.
    pub(crate) fn admit(&self, set: &PlaceSet, hash: u64) -> Result<usize, Option<Box<Owner>>> {
        if let Some(counter) = set.due_counter(hash, self.sights)
            && let Some(slot) = (0..WAYS).find(|slot| part(set.tags.get(), *slot) == 0)
        {
            set.seen.set(with_part(set.seen.get(), counter, 0));
            set.note(slot, tag(hash), 1);
            return Ok(slot);
        }
        Err(set.take_credit((hash >> 16) as usize % WAYS))
    }
}

impl PlaceSet {
    /// The places that may be used for this hash.
    #[inline]
    pub(super) fn tagged(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (tags, tag) = (self.tags.get(), tag(hash));
        (0..WAYS).filter(move |slot| part(tags, *slot) == tag)
    }

    /// Writes the hints of a place, unless they are right: other threads read the line.
    #[inline]
    fn note(&self, slot: usize, tag: u64, credits: u64) {
        for (word, value) in [(&self.tags, tag), (&self.credits, credits)] {
            let before = word.get();
            if part(before, slot) != value {
                word.set(with_part(before, slot, value));
            }
        }
    }

    /// Counts a sight of a hash. Its counter, if it was seen often enough.
    fn due_counter(&self, hash: u64, sights: u64) -> Option<usize> {
        let seen = self.seen.get();
        let name = hash >> 18 & 0x3fff;
        let count_of = |index: usize| part(seen, index) & 3;
        let is_counted = |index: &usize| part(seen, *index) >> 2 == name && count_of(*index) > 0;
        let is_free = |index: &usize| count_of(*index) == 0;
        let counter = (0..WAYS)
            .find(is_counted)
            .or_else(|| (0..WAYS).find(is_free));
        let Some(counter) = counter else {
            // Each count is at least 1.
            self.seen.set(seen - 0x0001_0001_0001_0001);
            return None;
        };
        let count = if is_counted(&counter) {
            count_of(counter) + 1
        } else {
            1
        };
        self.seen
            .set(with_part(seen, counter, name << 2 | count.min(3)));
        (count >= sights).then_some(counter)
    }

    /// Takes a credit from a place. Empties a place without credits, and returns its owner.
    fn take_credit(&self, slot: usize) -> Option<Box<Owner>> {
        let credits = self.credits.get();
        if part(self.tags.get(), slot) == 0 {
            return None;
        }
        match part(credits, slot) {
            0 => {
                self.note(slot, 0, 0);
                self.owners[slot].take()
            }
            some => {
                self.credits.set(with_part(credits, slot, some - 1));
                None
            }
        }
    }
}
