//! Narrowing, in every schedule with one interruption: an operation stops after each number of its steps in turn, the
//! other one runs to its end, and the first goes on. At the end the grant rule holds.
//!
//! The models explore the same scenarios with more interruptions. Here a history can be long, and its births and
//! identities are the real ones.

use crate::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use crate::{Lock, LockManager, Work};
use generator::Gn;
use locktopus_loom_tests::{Mutation, with};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// The stack of the interrupted operation, in words.
const STACK: usize = 16 * 1024;
/// More steps than any of the operations has.
const MANY_STEPS: usize = 1_000;

/// A lock, what it is narrowed to, and the set of a request that enters: above, at and below the lock, and sets.
const PLACES: [(&str, &str, &str); 14] = [
    ("w:", "w:a", "w:a/b"),
    ("w:a", "w:a/b", "w:a/b/c"),
    ("w:a", "w:a/b w:a/c", "r:a/b/c"),
    ("w:a", "w:a/b/c", "w:a/b"),
    ("w:a", "w:a/b", "w:a/b"),
    ("w:a", "w:a/b", "w:a/c"),
    ("w:a/b", "w:a/b/c", "w:a"),
    ("w:a/b", "r:a/b/c", "r:"),
    ("w:a", "r:a", "w:a"),
    ("w:a", "r:a", "r:a/b"),
    ("w:a", "r:a/b", "w:a/b"),
    ("w:a w:b", "w:b", "w:a w:b"),
    ("w:a w:b", "r:a/1 w:b/2", "w:a/1 r:b/2/3"),
    ("r:a w:a/b", "w:a/b/1 r:a/c", "r:a w:a/c/1"),
];

/// Interrupts an operation after so many of its steps. Returns its result, and whether it had more steps than that.
fn interrupt<R: Send + 'static>(
    operation: impl FnOnce() -> R + Send + 'static,
    steps: usize,
    other: impl FnOnce(),
) -> (R, bool) {
    let result = Arc::new(Mutex::new(None));
    let mut operation = {
        let result = Arc::clone(&result);
        Gn::<()>::new_opt(STACK, move || {
            let done = operation();
            *result.lock().expect("no panic") = Some(done);
            true
        })
    };
    let mut go_on = || operation.resume().expect("no panic");
    let has_ended = (0..steps).any(|_| go_on());
    other();
    let _ = has_ended || (0..MANY_STEPS).any(|_| go_on());
    let done = result.lock().expect("no panic").take();
    (done.expect("it has fewer steps"), !has_ended)
}

/// Runs a scenario with each number of steps until the first operation has no more.
fn at_each_step(scenario: impl Fn(usize) -> bool) {
    let steps = (0..MANY_STEPS).find(|steps| !scenario(*steps));
    assert!(steps.expect("it ends") > 5, "only {steps:?} steps");
}

fn narrow(lock: &mut Lock, text: &str) {
    lock.narrow(set(text)).expect("the lock covers the set");
}

fn a_lock_is_narrowed_while_a_request_enters() {
    for (held, narrowed, entering) in PLACES {
        at_each_step(|steps| {
            let locks = LockManager::new();
            let mut holder = lock(&locks, held);
            let enters = {
                let locks = locks.clone();
                move || enqueue(&locks, entering)
            };
            let (request, was_interrupted) =
                interrupt(enters, steps, || narrow(&mut holder, narrowed));
            check_to_the_end(&locks, [holder.into(), request.into()] as [Outstanding; 2]);
            was_interrupted
        });
    }
}

#[test]
fn a_request_meets_a_lock_that_is_narrowed_at_any_of_its_steps() {
    a_lock_is_narrowed_while_a_request_enters();
}

/// The second request enters before, so its walk goes on behind the old request.
#[test]
fn requests_meet_a_lock_at_any_step_of_its_narrowing() {
    for (held, narrowed, entering) in PLACES {
        at_each_step(|steps| {
            let locks = LockManager::new();
            let mut holder = lock(&locks, held);
            let first = enqueue(&locks, entering);
            let narrows = move || {
                narrow(&mut holder, narrowed);
                holder
            };
            let mut second = None;
            let enters = || second = Some(enqueue(&locks, entering));
            let (holder, was_interrupted) = interrupt(narrows, steps, enters);
            let second = second.expect("it has entered");
            let all = [holder.into(), first.into(), second.into()] as [Outstanding; 3];
            check_to_the_end(&locks, all);
            was_interrupted
        });
    }
}

fn finish(mut work: Work) {
    while !work.step(0) {}
}

/// Also between the last entry of the new set and its ticket.
#[test]
fn a_lock_is_released_or_narrowed_again_at_any_step_of_a_work() {
    for is_released in [true, false] {
        at_each_step(|steps| {
            let locks = LockManager::new();
            let mut holder = lock(&locks, "w:a w:b");
            let waiters = ["r:a/1", "w:b"].map(|text| enqueue(&locks, text));
            let work = holder.narrow_in_steps(set("w:a/1 w:a/2")).expect("covered");
            let mut left = Vec::<Outstanding>::new();
            let other = || {
                if is_released {
                    holder.release();
                } else {
                    narrow(&mut holder, "r:a/1");
                    left.push(holder.into());
                }
            };
            let ((), was_interrupted) = interrupt(|| finish(work), steps, other);
            left.extend(waiters.map(Outstanding::from));
            check_to_the_end(&locks, left);
            was_interrupted
        });
    }
}

#[test]
fn mutations_of_narrowing_are_noticed() {
    for mutation in [
        Mutation::NarrowedFirst,
        Mutation::RemoveBeforeNarrowed,
        Mutation::MarksReadOnce,
        Mutation::ShortcutBeforeAncestors,
    ] {
        let check = || with(mutation, a_lock_is_narrowed_while_a_request_enters);
        assert!(
            catch_unwind(AssertUnwindSafe(check)).is_err(),
            "the check passes in spite of {mutation:?}"
        );
    }
}
