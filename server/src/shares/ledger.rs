//! The books of one pool, as a pure state machine: no clock, no lock, no waiting.

use super::Party;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// A map for so few parties keeps its memory.
const KEPT_PARTIES: usize = 16;

/// Why an amount cannot be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Less than the amount is free of the whole.
    Full { whole: usize },
    /// The amount is free, but the party would be over its share, and others may need it.
    OverShare {
        /// What the party has taken of the whole.
        taken: usize,
        whole: usize,
    },
}

/// Other rooms have sentences for clients; this one is for logs.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full { .. } => "too little is free",
            Refused::OverShare { .. } => "the client is over its share",
        })
    }
}

impl std::error::Error for Refused {}

/// The amounts that parties have taken of a whole.
#[derive(Debug)]
pub(super) struct Ledger {
    whole: usize,
    share: usize,
    taken: usize,
    /// Only parties that have taken something.
    by_party: HashMap<Party, usize>,
}

impl Ledger {
    /// Shares are `percent` of the whole, rounded up, and 1 at least.
    pub(super) fn new(whole: usize, percent: usize) -> Ledger {
        Ledger {
            whole,
            share: share(whole, percent),
            taken: 0,
            by_party: HashMap::new(),
        }
    }

    /// Takes an amount for a party. Cost: one search in a hash map.
    pub(super) fn take(&mut self, party: Party, amount: usize) -> Result<(), Refused> {
        let free = self.whole - self.taken;
        let whole = self.whole;
        let left = free.checked_sub(amount).ok_or(Refused::Full { whole })?;
        let own = self.by_party.get(&party).copied().unwrap_or(0);
        if own + amount > self.share && left < self.share {
            return Err(Refused::OverShare { taken: own, whole });
        }
        if amount > 0 {
            self.taken += amount;
            self.by_party.insert(party, own + amount);
        }
        Ok(())
    }

    /// Takes back an amount that the party has taken.
    pub(super) fn give(&mut self, party: Party, amount: usize) {
        let Entry::Occupied(mut own) = self.by_party.entry(party) else {
            return;
        };
        debug_assert!(*own.get() >= amount, "given back once");
        self.taken -= amount;
        *own.get_mut() -= amount;
        if *own.get() == 0 {
            own.remove();
        }
        // The map gives up the memory of a crowd that has left.
        if self.by_party.len().max(KEPT_PARTIES) * 4 < self.by_party.capacity() {
            self.by_party.shrink_to(self.by_party.len() * 2);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0 && self.by_party.is_empty()
    }
}

/// The most that one party alone can take of a whole.
pub(crate) fn most(whole: usize, percent: usize) -> usize {
    let share = share(whole, percent).min(whole);
    share.max(whole - share)
}

/// A percentage of the whole, rounded up, and 1 at least.
pub(super) fn share(whole: usize, percent: usize) -> usize {
    // In parts, so that nothing overflows.
    let share = whole / 100 * percent + (whole % 100 * percent).div_ceil(100);
    share.max(1)
}

#[cfg(test)]
mod tests {
    //! Properties, against a list of what was taken:
    //! 1. The sum never exceeds the whole.
    //! 2. A party is never refused within its share while the amount is free.
    //! 3. A party that ends beyond its share leaves one share free.
    //! 4. A party below its share is not refused while less than the whole minus a share is taken by parties beyond
    //!    theirs, and the rest is free.
    //! 5. Refusals change nothing, and an empty ledger knows no party.

    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64, usize),
        /// Gives back the n-th of the amounts that are taken.
        Give(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..4u64, 0..6usize).prop_map(|(party, amount)| Step::Take(party, amount)),
            1 => any::<usize>().prop_map(Step::Give),
        ]
    }

    /// The sums that the oracle makes anew for each step.
    fn sums(taken: &[(u64, usize)], party: u64) -> (usize, usize) {
        let sum = |keeps: &dyn Fn(u64) -> bool| {
            let kept = taken.iter().filter(|(party, _)| keeps(*party));
            kept.map(|(_, amount)| amount).sum()
        };
        (sum(&|_| true), sum(&|other| other == party))
    }

    proptest! {
        #[test]
        fn a_ledger_keeps_one_share_free_for_parties_below_theirs(
            whole in 1..40usize,
            percent in 1..=100usize,
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut ledger = Ledger::new(whole, percent);
            let share = ledger.share;
            prop_assert!(share * 100 >= whole * percent && (share - 1) * 100 < whole * percent);
            let mut taken: Vec<(u64, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(party, amount) => {
                        let (all, own) = sums(&taken, party);
                        let expected = if all + amount > whole {
                            Err(Refused::Full { whole })
                        } else if own + amount <= share || all + amount + share <= whole {
                            Ok(())
                        } else {
                            Err(Refused::OverShare { taken: own, whole })
                        };
                        prop_assert_eq!(ledger.take(Party::of_token(party), amount), expected);
                        if expected.is_ok() {
                            taken.push((party, amount));
                        }
                    }
                    Step::Give(_) if taken.is_empty() => {}
                    Step::Give(index) => {
                        let (party, amount) = taken.swap_remove(index % taken.len());
                        ledger.give(Party::of_token(party), amount);
                    }
                }
                let (all, _) = sums(&taken, 0);
                prop_assert!(all <= whole);
                prop_assert_eq!(ledger.taken, all);
                // In every state, one party leaves a share to the others, unless the share is over a half.
                for party in 0..4 {
                    let (_, own) = sums(&taken, party);
                    prop_assert!(own <= most(whole, percent));
                }
            }
            for (party, amount) in taken {
                ledger.give(Party::of_token(party), amount);
            }
            prop_assert!(ledger.is_empty());
        }

        #[test]
        fn a_party_below_its_share_is_not_refused_beside_one_that_takes_all_it_can(
            whole in 2..100usize,
            percent in 1..=50usize,
            amounts in proptest::collection::vec(1..8usize, 0..100),
        ) {
            let mut ledger = Ledger::new(whole, percent);
            // A share that is rounded up can be more than a half.
            prop_assume!(ledger.share * 2 <= whole);
            let [greedy, modest] = [1, 2].map(Party::of_token);
            for amount in amounts {
                let _ = ledger.take(greedy, amount);
            }
            while ledger.take(greedy, 1).is_ok() {}
            prop_assert_eq!(ledger.take(modest, ledger.share), Ok(()));
        }
    }

    #[test]
    fn small_wholes_are_shared_sensibly() {
        let alone = |whole, percent| {
            let mut ledger = Ledger::new(whole, percent);
            let party = Party::of_token(1);
            let taken = (0..).take_while(|_| ledger.take(party, 1).is_ok()).count();
            assert_eq!(taken, most(whole, percent));
            taken
        };
        let quarter: Vec<usize> = (1..=8).map(|whole| alone(whole, 25)).collect();
        assert_eq!(quarter, [1, 1, 2, 3, 3, 4, 5, 6]);
        let half: Vec<usize> = (1..=4).map(|whole| alone(whole, 50)).collect();
        assert_eq!(half, [1, 1, 2, 2]);
        let all: Vec<usize> = (1..=4).map(|whole| alone(whole, 100)).collect();
        assert_eq!(all, [1, 2, 3, 4]);
    }

    #[test]
    fn a_ledger_gives_up_the_memory_of_parties_that_have_left() {
        let mut ledger = Ledger::new(10_000, 25);
        for party in 0..5_000 {
            ledger.take(Party::of_token(party), 1).expect("free");
        }
        for party in 0..5_000 {
            ledger.give(Party::of_token(party), 1);
        }
        assert!(ledger.is_empty() && ledger.by_party.capacity() < 100);
    }

    #[test]
    fn the_share_of_a_huge_whole_does_not_overflow() {
        assert_eq!(share(usize::MAX, 100), usize::MAX);
        assert_eq!(share(1 << 40, 25), 1 << 38);
        assert_eq!(share(1, 1), 1);
    }
}
