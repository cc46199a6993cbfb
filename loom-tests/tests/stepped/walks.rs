//! Walks over deep trees, with siblings at every depth: also deeper than the marks tell apart.
//!
//! Properties:
//! 1. a walk that goes on behind each request that it meets meets all earlier, conflicting requests and no other;
//! 2. a walk that pauses, wherever its budget ends, meets them in the same order. It may meet one of them again.

use crate::budget::Budget;
use crate::path::Path;
use crate::resource::{Mode, Resource, ResourceSet};
use crate::sync::pin;
use crate::table::Table;
use crate::walk::Cursor;
use crate::walker::{Found, Met, Walker};
use locktopus_loom_tests::{Mutation, with};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeSet;
use std::iter::repeat_n;

/// One more than the last depth with a mark of its own, and some more.
const DEEPEST: usize = 67;

/// Paths on one branch or beside it, at all depths, and most of them at a few.
fn path() -> impl Strategy<Value = Path> {
    let depth = prop_oneof![0..4_usize, 60..=DEEPEST, 0..=DEEPEST];
    let off_the_branch = prop::sample::select(vec![&[][..], &["a"], &["z"], &["a", "m"], &["n"]]);
    (depth, off_the_branch)
        .prop_map(|(depth, off)| repeat_n("m", depth).chain(off.iter().copied()).collect())
}

fn set() -> impl Strategy<Value = Vec<Resource>> {
    let mode = prop_oneof![Just(Mode::Write), Just(Mode::Read)];
    let resource = (path(), mode).prop_map(|(path, mode)| Resource { path, mode });
    prop::collection::vec(resource, 1..4)
}

/// Requests, and the index of the one that walks.
fn scenario() -> impl Strategy<Value = (Vec<Vec<Resource>>, usize)> {
    (1..40_usize).prop_flat_map(|count| (prop::collection::vec(set(), count), 0..count))
}

/// The tokens of all requests that a walk meets, and the number of its pauses.
fn meets(table: &Table, walker: &mut Walker<'_>, budget: impl Fn() -> Budget) -> (Vec<u64>, usize) {
    let guard = pin();
    let (mut met, mut pauses, mut steps, mut cursor) = (Vec::new(), 0, 0, Cursor::START);
    loop {
        let mut budget = budget();
        let found = (table.entries).next_blocker(walker, &table.clock, cursor, &mut budget, &guard);
        cursor = match found {
            Found::Nothing => return (met, pauses),
            Found::Blocker(cursor, blocker, _) => {
                if !met.contains(&blocker.ticket()) {
                    met.push(blocker.ticket());
                }
                cursor
            }
            Found::Paused(cursor) => {
                pauses += 1;
                cursor
            }
        };
        steps += 1;
        assert!(steps < 10_000, "the walk makes no progress");
    }
}

fn budget_of(nanos: u64) -> Budget {
    let mut budget = Budget::new(nanos as usize / 1000 + 1);
    budget.spend(1000 - nanos % 1000);
    budget
}

fn run((sets, walking): (Vec<Vec<Resource>>, usize)) {
    let table = Table::new(1, 1);
    let collect =
        |set: &Vec<Resource>| ResourceSet::collect(set.iter().cloned()).expect("within the limits");
    let enter = |set| {
        table
            .enter(collect(set), &mut Met::default())
            .expect("open")
            .0
    };
    let entered: Vec<_> = sets.iter().map(enter).collect();
    let conflicts = |other: &Vec<Resource>| {
        let with = |one: &Resource| other.iter().any(|other| one.conflicts_with(other));
        sets[walking].iter().any(with)
    };
    let conflicting: BTreeSet<u64> = (sets.iter().zip(&entered).take(walking))
        .filter(|(other, _)| conflicts(other))
        .map(|(_, request)| request.ticket())
        .collect();
    let mut walker = Walker::of(&entered[walking]);
    let (met, _) = meets(&table, &mut walker, Budget::unlimited);
    assert_eq!(met.iter().copied().collect::<BTreeSet<_>>(), conflicting);
    let mut fewest_pauses = usize::MAX;
    for nanos in (0..1_500).step_by(150).chain((2_000..).step_by(1_000)) {
        let (met_with_pauses, pauses) = meets(&table, &mut walker, || budget_of(nanos));
        assert_eq!(met_with_pauses, met, "with pauses after {nanos} ns");
        fewest_pauses = fewest_pauses.min(pauses);
        if pauses == 0 {
            break;
        }
    }
    assert_eq!(fewest_pauses, 0);
    for request in &entered {
        table.leave(request);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_meets_all_conflicting_requests_however_often_it_pauses(scenario in scenario()) {
        run(scenario);
    }
}

#[test]
fn mutations_of_walks_are_noticed() {
    for mutation in [
        Mutation::NearIsFarEnough,
        Mutation::OneStepIsFarEnough,
        Mutation::StopAtTheFirstSibling,
        Mutation::ReadsVisitReads,
        Mutation::PauseBehindTheSpan,
        Mutation::ResumePastTheSpan,
    ] {
        let config = ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::with_cases(2000)
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let found = with(mutation, || {
            TestRunner::new_with_rng(config, rng).run(&scenario(), |scenario| {
                run(scenario);
                Ok(())
            })
        });
        assert!(found.is_err(), "no walk notices {mutation:?}");
    }
}
