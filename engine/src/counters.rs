//! Counts of the entries that were inserted, by place in the tree. They tell the owner of a request that rests
//! whether anything was inserted near its resources since it last looked.
//!
//! Each list has some pairs of counters. The hash of a path chooses a pair; other paths may share it. `here` counts the
//! entries inserted at such paths, `below` those inserted below such paths, once a request is *interested* in its depth.
//!
//! # Invariants
//! C1. An entry is counted after it was inserted, and before its request is published.
//! C2. All counters only grow. So two equal sums mean that none of the counters has changed.
//! C3. If a request is interested in a depth, then its walks see all entries that were inserted below that depth
//!     without being counted there.
//!
//! # Interest
//! A request declares its interest in a depth, then counts up `here` everywhere, and then it walks. An insertion counts
//! up `here` at its path, and then it looks at the interest. Both are read-modify-writes of one counter, and one comes
//! first. If the insertion's, then the walk sees the entry. If the other, then the insertion sees the interest. A
//! request may leave the counting to another one only if that one has completed it.

use crate::key::Marks;
use crate::path::{Path, Prefix};
use crate::resource::{Mode, Resource};
use crate::sync::{CachePadded, Ordering, Tally};

/// The counters of both lists.
pub(crate) struct Counters {
    /// For each list and each hash: `here`, `below`.
    counters: Box<[Tally]>,
    /// The number of hashes, a power of two.
    pairs: usize,
    interest: [CachePadded<Interest>; 2],
    /// Not 0 once a request has drawn numbers in reserve. Written once.
    reserves: CachePadded<Tally>,
}

/// In one list, a bit for each depth at which a request is interested in what is inserted below.
struct Interest {
    depths: Tally,
    /// The depths for which the declaration is complete.
    declared: Tally,
}

impl Counters {
    /// The largest number of pairs in a list.
    pub(crate) const MOST: usize = 1024;
    /// The zone of a resource ends above the depths from this one on.
    const DEEPEST: usize = 7;

    /// Counters with so many pairs for each list, a power of two.
    pub(crate) fn new(pairs: usize) -> Counters {
        let interest = || Interest {
            depths: Tally::new(0),
            declared: Tally::new(0),
        };
        let counter = |_| Tally::new(0);
        Counters {
            counters: (0..4 * pairs).map(counter).collect(),
            pairs,
            interest: [CachePadded::new(interest()), CachePadded::new(interest())],
            reserves: CachePadded::new(Tally::new(0)),
        }
    }

    /// The index of `here` for a path with these bytes. `below` is the next one.
    fn index(&self, mode: Mode, path: &[u8]) -> usize {
        let hash = digest(path) as usize & (self.pairs - 1);
        2 * (mode as usize * self.pairs + hash)
    }

    /// Counts an entry that was just inserted (C1).
    pub(crate) fn count(&self, Resource { path, mode }: &Resource) {
        let here = self.index(*mode, path.as_bytes());
        self.counters[here].fetch_add(1, Ordering::SeqCst);
        // C3: after the count.
        let depths = self.interest[*mode as usize].depths.load(Ordering::Acquire);
        let above = depths & Marks::above(path.depth());
        if above != 0 {
            self.count_below(path, *mode, above);
        }
    }

    #[inline(never)]
    fn count_below(&self, path: &Path, mode: Mode, mut depths: u64) {
        let mut prefix = Prefix::ROOT;
        while depths != 0 {
            prefix = path.grow(prefix, depths.trailing_zeros() as usize);
            let below = self.index(mode, &path.as_bytes()[..prefix.len]) + 1;
            self.counters[below].fetch_add(1, Ordering::SeqCst);
            depths &= depths - 1;
        }
    }

    /// Declares that a request is interested in what is inserted below paths of this depth (C3).
    fn declare_interest(&self, mode: Mode, depth: usize) {
        let (interest, depth) = (&self.interest[mode as usize], 1 << depth);
        // Acquire: pairs with the end of the declaration.
        if interest.declared.load(Ordering::Acquire) & depth == 0 {
            interest.depths.fetch_or(depth, Ordering::AcqRel);
            self.count_everywhere(mode);
            interest.declared.fetch_or(depth, Ordering::AcqRel);
        }
    }

    /// Notes that a request is about to draw numbers in reserve.
    pub(crate) fn note_reserve(&self) {
        // Relaxed: a thread that has read the note makes it as visible as one that has written it.
        if self.reserves.load(Ordering::Relaxed) == 0 {
            self.reserves.fetch_or(1, Ordering::Relaxed);
        }
    }

    /// Changes the sums of all requests, so that each one forgets the numbers that it has in reserve. After a change of
    /// the clock.
    pub(crate) fn void_reserves(&self) {
        // Relaxed: a draw that comes before the change of the clock happens before it, and the note before the draw.
        // A later draw returns numbers that are not too small, or refusals.
        if self.reserves.load(Ordering::Relaxed) != 0 {
            // Every request meets the writes at its paths.
            self.count_everywhere(Mode::Write);
        }
    }

    /// Counts an entry of this mode at every path.
    fn count_everywhere(&self, mode: Mode) {
        let of_list = &self.counters[2 * mode as usize * self.pairs..][..2 * self.pairs];
        for here in of_list.iter().step_by(2) {
            here.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The sum of the counters in these zones.
    #[inline]
    pub(crate) fn sum(&self, zones: &Zones) -> u64 {
        let of = |index: &u16| self.counters[usize::from(*index)].load(Ordering::SeqCst);
        (zones.counters.iter().map(of)).fold(0, u64::wrapping_add)
    }
}

/// Where insertions can conflict with some resources: at their paths, below them, and at their ancestors of marked
/// depths.
pub(crate) struct Zones {
    /// The marks of both lists. If a list gets another mark, then the zones have grown.
    pub(crate) marks: [u64; 2],
    /// The indices of the counters.
    counters: Box<[u16]>,
}

impl Zones {
    /// The zones of some resources, given the marks of both lists. Declares the interest of a request in them. `None` if
    /// a path is too deep.
    pub(crate) fn new(
        resources: &[Resource],
        marks: [u64; 2],
        counters: &Counters,
    ) -> Option<Zones> {
        let mut indices = Vec::new();
        for Resource { path, mode } in resources {
            if path.depth() > Counters::DEEPEST {
                return None;
            }
            for list in mode.met() {
                counters.declare_interest(*list, path.depth());
                let own = counters.index(*list, path.as_bytes());
                indices.extend([own, own + 1]);
                let mut prefix = Prefix::ROOT;
                let mut above = marks[*list as usize] & Marks::above(path.depth());
                while above != 0 {
                    prefix = path.grow(prefix, above.trailing_zeros() as usize);
                    indices.push(counters.index(*list, &path.as_bytes()[..prefix.len]));
                    above &= above - 1;
                }
            }
        }
        indices.sort_unstable();
        indices.dedup();
        // The cast fits: there are at most four times `MOST` counters.
        let counters = indices.into_iter().map(|index| index as u16).collect();
        Some(Zones { marks, counters })
    }
}

/// A hash of bytes. Paths that collide share counters and places, which costs time and breaks nothing.
#[inline]
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<16>()
        && !behind.is_empty()
    {
        let (one, other) = (word(block, 0), word(block, 8));
        hash = mix(one ^ hash, other);
        rest = behind;
    }
    // The last words overlap, so that no byte is copied.
    let (one, other) = match *rest {
        [] => (0, 0),
        [one] => (u64::from(one), 0),
        [one, other] => (u64::from(one), u64::from(other)),
        [one, other, last] => (u64::from(one) << 8 | u64::from(other), u64::from(last)),
        _ if rest.len() < 8 => (half_word(rest, 0), half_word(rest, rest.len() - 4)),
        _ => (word(rest, 0), word(rest, rest.len() - 8)),
    };
    mix(mix(one ^ hash, other), 0)
}

/// Eight bytes from this one on.
fn word(bytes: &[u8], from: usize) -> u64 {
    (bytes[from..].first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

/// Four bytes from this one on.
fn half_word(bytes: &[u8], from: usize) -> u64 {
    (bytes[from..].first_chunk()).map_or(0, |half| u64::from(u32::from_le_bytes(*half)))
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds the product of two words, as in wyhash.
#[inline]
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ SEED) * u128::from(other ^ 0xa076_1d64_78bd_642f);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_similar_paths_spread() {
        let forms: [&[&str]; 4] = [
            &[],
            &["accounts"],
            &["org", "eu"],
            &["a-long-name", "and-another-one"],
        ];
        for above in forms {
            let path = |i: usize| Path::from(above.iter().copied().chain([&*i.to_string()]));
            // As the places and the counters use the digest.
            for bits in [|digest: u64| digest >> 56, |digest: u64| digest & 0xff] {
                let mut loads = [0; 256];
                for i in 0..1024 {
                    loads[bits(digest(path(i).as_bytes())) as usize] += 1;
                }
                let overflow: usize = loads
                    .iter()
                    .map(|load: &usize| load.saturating_sub(4))
                    .sum();
                // At random: 200, give or take 20.
                assert!(overflow < 280, "{overflow} of 1024 below {above:?}");
            }
        }
        assert_ne!(digest(b""), digest(b"\0"));
        assert_ne!(digest(b"ab\0"), digest(b"b\0"));
    }
}
