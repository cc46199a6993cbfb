//! A fair queue of jobs. Pure: no clock, no thread, no runtime.
//!
//! ```text
//!   line of parties      jobs of each party
//!   A ──────────────►    a1 a2 a3             next() takes a1, and A goes to the end of the line: B's turn is next
//!   B ──────────────►    b1                   put_back(A, a1) puts a1 behind a3
//! ```
//!
//! # Invariants
//! Q1. A party is in the line exactly while it has a job in the queue, and once.
//! Q2. A new job of a party without jobs starts after at most one turn of each other party, also if they push more.
//! Q3. A job is in the queue once, or at its driver. No job is lost.
//!
//! Source: round robin over flows, as in Nagle's RFC 970; differs in that each turn has the same limit of time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Jobs of parties that take turns. The jobs of a party take turns as well.
#[derive(Debug)]
pub(crate) struct Queue<P, J> {
    line: VecDeque<P>,
    jobs: HashMap<P, VecDeque<J>>,
}

impl<P: Copy + Eq + Hash, J> Queue<P, J> {
    pub(crate) fn new() -> Queue<P, J> {
        Queue {
            line: VecDeque::new(),
            jobs: HashMap::new(),
        }
    }

    /// Adds a job behind the other jobs of its party.
    pub(crate) fn push(&mut self, party: P, job: J) {
        let jobs = self.jobs.entry(party).or_default();
        if jobs.is_empty() {
            self.line.push_back(party);
        }
        jobs.push_back(job);
    }

    /// Takes the job whose turn is next. After its turn the caller drops the job, or puts it back.
    pub(crate) fn next(&mut self) -> Option<(P, J)> {
        let party = self.line.pop_front()?;
        let jobs = self.jobs.get_mut(&party)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            // A party without jobs takes no memory.
            self.jobs.remove(&party);
        } else {
            self.line.push_back(party);
        }
        Some((party, job))
    }

    /// Puts a job back that needs another turn: behind the other jobs of its party.
    pub(crate) fn put_back(&mut self, party: P, job: J) {
        self.push(party, job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parties_take_turns() {
        let mut queue = Queue::new();
        for job in ["a1", "a2", "a3"] {
            queue.push('a', job);
        }
        queue.push('b', "b1");
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        let expected = [('a', "a1"), ('b', "b1"), ('a', "a2"), ('a', "a3")];
        assert_eq!(order, expected);
    }

    #[test]
    fn the_jobs_of_a_party_take_turns() {
        let mut queue = Queue::new();
        queue.push('a', 1);
        queue.push('a', 2);
        for expected in [1, 2, 1, 2] {
            let (party, job) = queue.next().expect("two jobs");
            assert_eq!(job, expected);
            queue.put_back(party, job);
        }
    }

    #[test]
    fn a_party_without_jobs_takes_no_memory() {
        let mut queue = Queue::new();
        for party in 0..1000 {
            queue.push(party, ());
        }
        while queue.next().is_some() {}
        assert!(queue.jobs.is_empty() && queue.line.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Event {
        Push(u8),
        /// A turn. The job is put back if the value is true, after another job of its party was pushed if the second
        /// value is true.
        Turn(bool, bool),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (0..5_u8).prop_map(Event::Push),
            any::<(bool, bool)>().prop_map(|(back, more)| Event::Turn(back, more)),
        ];
        prop::collection::vec(event, 0..200)
    }

    proptest! {
        /// Properties: a job that is pushed for a party without jobs waits for at most one turn of each other party
        /// (Q2); between two turns of a party that has jobs throughout, each other party has at most one turn; no job
        /// is lost or doubled (Q3).
        #[test]
        fn a_party_waits_for_at_most_one_turn_of_each_other_party(events in events()) {
            let mut queue = Queue::new();
            let mut outstanding = Vec::new();
            let mut number = 0;
            // For each party with jobs in the queue: the turns of the other parties since it began to wait.
            let mut passed: HashMap<u8, HashMap<u8, u32>> = HashMap::new();
            for event in events {
                let mut push = |queue: &mut Queue<u8, u32>, party| {
                    number += 1;
                    outstanding.push(number);
                    queue.push(party, number);
                };
                match event {
                    Event::Push(party) => {
                        push(&mut queue, party);
                        passed.entry(party).or_default();
                    }
                    Event::Turn(back, more) => {
                        let Some((party, job)) = queue.next() else {
                            prop_assert!(passed.is_empty());
                            continue;
                        };
                        prop_assert!(passed.remove(&party).is_some());
                        for turns in passed.values_mut() {
                            *turns.entry(party).or_default() += 1;
                            prop_assert!(turns[&party] <= 1);
                        }
                        if more {
                            push(&mut queue, party);
                        }
                        if back {
                            queue.put_back(party, job);
                        } else {
                            outstanding.retain(|other| *other != job);
                        }
                        if queue.jobs.contains_key(&party) {
                            passed.insert(party, HashMap::new());
                        }
                    }
                }
            }
            let mut left: Vec<_> = std::iter::from_fn(|| queue.next()).map(|(_, job)| job).collect();
            left.sort_unstable();
            prop_assert_eq!(left, outstanding);
        }
    }
}
