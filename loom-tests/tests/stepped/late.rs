//! A schedule in which a helper is late by a life: it draws a number for one life of a request, and installs the
//! number once the request has rested and has begun another life. The models reach such a schedule only with more
//! preemptions than they can explore.

use crate::shared::{enqueue, set};
use crate::{LockManager, Pending};
use generator::{Generator, Gn};
use locktopus_loom_tests::{Mutation, with};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The stack of a virtual thread, in words.
const STACK: usize = 16 * 1024;

/// A virtual thread. A result of `false` is a step, `true` the end.
struct Virtual(Generator<'static, (), bool>);

impl Virtual {
    fn new(operation: impl FnOnce() + Send + 'static) -> Virtual {
        Virtual(Gn::new_opt(STACK, move || {
            operation();
            true
        }))
    }

    fn step(&mut self) {
        assert_eq!(
            self.0.resume(),
            Some(false),
            "the thread has ended or panicked"
        );
    }

    /// Takes steps until the condition holds at one of them. Returns their number.
    fn run_until(&mut self, condition: impl Fn() -> bool) -> usize {
        let mut steps = 0;
        while !condition() {
            self.step();
            steps += 1;
        }
        steps
    }

    fn run_to_the_end(mut self) {
        while !self.0.resume().expect("no panic") {}
    }
}

/// Locks a prepared set twice. Then tells whether the second lock was granted at once, and holds it.
fn two_lives(locks: &LockManager, is_granted: &Arc<AtomicBool>) -> Virtual {
    let (locks, is_granted) = (locks.clone(), Arc::clone(is_granted));
    Virtual::new(move || {
        let mut prepared = locks.prepare(set("w:a")).expect("within the limits");
        prepared.enqueue().expect("open").wait().release();
        let second = prepared.enqueue().expect("open");
        is_granted.store(second.is_acquired(), Relaxed);
    })
}

fn last_token(locks: &LockManager) -> u64 {
    locks.stats().last_token
}

fn a_late_helper_gives_its_number_to_no_other_life() {
    // How many steps lead to the first draw? Before it the request is published.
    let is_granted = Arc::new(AtomicBool::new(false));
    let rehearsal = LockManager::new();
    let to_the_draw = two_lives(&rehearsal, &is_granted).run_until(|| last_token(&rehearsal) == 1);

    let locks = LockManager::new();
    let mut lives = two_lives(&locks, &is_granted);
    (1..to_the_draw).for_each(|_| lives.step());
    let mut helper = {
        let locks = locks.clone();
        Virtual::new(move || drop(locks.try_lock(set("r:a")).expect("open")))
    };
    helper.run_until(|| last_token(&locks) == 1);
    // The helper has drawn 1 for the first life. That life takes a number of its own, and ends.
    lives.run_until(|| locks.stats().acquired == 1);
    lives.run_until(|| locks.stats().acquired == 0);
    // Between the two lives another request locks the path.
    let holder: Pending = enqueue(&locks, "w:a");
    assert!(holder.is_acquired());
    // The second life is published, and has drawn a number.
    let drawn = last_token(&locks) + 1;
    lives.run_until(|| last_token(&locks) == drawn);
    helper.run_to_the_end();
    lives.run_to_the_end();
    assert!(
        !is_granted.load(Relaxed),
        "the grant rule: both hold the lock"
    );
}

#[test]
fn a_helper_that_is_late_by_a_life_changes_nothing() {
    a_late_helper_gives_its_number_to_no_other_life();
    let mutated = catch_unwind(AssertUnwindSafe(|| {
        with(
            Mutation::ConstantPublished,
            a_late_helper_gives_its_number_to_no_other_life,
        );
    }));
    let panic = mutated.expect_err("the schedule shows nothing");
    let message = panic.downcast::<&str>().expect("a message");
    assert_eq!(*message, "the grant rule: both hold the lock");
}
