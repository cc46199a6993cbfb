//! How much work one step of a divided operation may do.

/// What is left of the work that a step may do. A plain operation has an unlimited budget.
///
/// The counts are estimates of time: they bound a step to within a small factor on any machine, and they make
/// the same step stop at the same place on every machine. No budget is spent
/// before the first part of the work: so every step makes progress.
pub(crate) struct Budget {
    nanos: u64,
}

impl Budget {
    /// A search in a list, besides the comparison of paths.
    const SEARCH: u64 = 500;
    /// A step from an entry to the next one, besides the comparison of paths.
    const STEP: u64 = 60;

    /// A budget that is never spent.
    pub(crate) const fn unlimited() -> Budget {
        Budget { nanos: u64::MAX }
    }

    /// A budget of so many units. A unit is about one microsecond. A budget of 0 is spent by any part of the work.
    pub(crate) fn new(units: usize) -> Budget {
        Budget {
            nanos: (units as u64).saturating_mul(1000).max(1),
        }
    }

    /// Counts work that takes about this long.
    pub(crate) fn spend(&mut self, nanos: u64) {
        #[cfg(test)]
        SPENT.set(SPENT.get().wrapping_add(nanos));
        // An unlimited budget would last for centuries, so it needs no check of its own.
        self.nanos = self.nanos.saturating_sub(nanos);
    }

    /// Counts a search, an insertion or a removal of a key whose path has this many bytes.
    pub(crate) fn search(&mut self, path_bytes: usize) {
        self.spend(Budget::SEARCH + path_bytes as u64);
    }

    /// Counts a step to the next entry, whose path was compared to one of this many bytes.
    pub(crate) fn step(&mut self, path_bytes: usize) {
        self.spend(Budget::STEP + path_bytes as u64 / 16);
    }

    /// Counts the passes over a path of this many bytes that find its spans in a list.
    pub(crate) fn scan(&mut self, path_bytes: usize) {
        self.spend(path_bytes as u64);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.nanos == 0
    }
}

#[cfg(test)]
thread_local! {
    /// The sum of what the thread has spent, in nanoseconds.
    pub(crate) static SPENT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_by_about_as_many_microseconds_of_work() {
        let mut budget = Budget::new(10);
        let searches = (0..).take_while(|_| {
            budget.search(100);
            !budget.is_spent()
        });
        assert_eq!(searches.count(), 16);
        let mut smallest = Budget::new(0);
        assert!(!smallest.is_spent());
        smallest.step(0);
        assert!(smallest.is_spent());
        let mut unlimited = Budget::unlimited();
        unlimited.spend(u64::MAX / 2);
        assert!(!unlimited.is_spent());
    }
}
