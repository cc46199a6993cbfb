//! Runs scenarios in the model checker.

use locktopus_loom_tests::begin;
use loom::model::Builder;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// No bound: every order is explored.
pub(crate) const ALL: usize = usize::MAX;

/// The largest number of preemptions in one execution.
pub(crate) struct Bounds {
    pub(crate) quick: usize,
    pub(crate) full: usize,
}

/// Explores a scenario within the bound that the environment sets.
pub(crate) fn explore_within(bounds: Bounds, scenario: fn()) {
    let bound = match env::var("LOOM_MAX_PREEMPTIONS") {
        Ok(bound) => bound.parse().expect("LOOM_MAX_PREEMPTIONS is a number"),
        Err(_) if env::var_os("LOOM_FULL").is_some() => bounds.full,
        Err(_) => bounds.quick,
    };
    let start = Instant::now();
    let executions = explore(bound, scenario);
    println!("{executions} executions in {:.1?}", start.elapsed());
}

/// Explores a scenario within a bound. Returns the number of executions.
pub(crate) fn explore(bound: usize, scenario: fn()) -> usize {
    let mut builder = Builder::new();
    builder.preemption_bound = (bound != ALL).then_some(bound);
    builder.max_branches = 10_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        begin();
        scenario();
    });
    executions.load(Ordering::Relaxed)
}
