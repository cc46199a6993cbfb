//! Lock-freedom, shown: a thread is suspended at each step of an operation in turn, for as long as
//! others take for thousands of operations on conflicting and on disjoint paths. Then it resumes,
//! and all ends well.

use crate::outstanding::Outstanding;
use crate::steps::{self, Suspension};
use crate::{LockManager, Pending, Resource};
use locktopus_loom_tests::{Mutation, with};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::thread;

/// Operations of the others while one is suspended.
const ROUNDS: usize = 400;
/// More steps than any of these operations has.
const MANY_STEPS: usize = 1_000;

fn set(text: &str) -> Vec<Resource> {
    let resource = |word: &str| match word.split_once(':').expect("r: or w:") {
        ("r", path) => Resource::read(path.split('/').filter(|segment| !segment.is_empty())),
        (_, path) => Resource::write(path.split('/').filter(|segment| !segment.is_empty())),
    };
    text.split_whitespace().map(resource).collect()
}

fn lock(locks: &LockManager, text: &str) -> Pending {
    locks.enqueue(set(text)).expect("open")
}

/// The exact grant rule, for everything that is outstanding, in the order of tokens.
fn check(outstanding: &[Outstanding]) {
    for (index, one) in outstanding.iter().enumerate() {
        let blocked = outstanding[..index].iter().any(|other| {
            let others = other.resources();
            one.resources()
                .iter()
                .any(|a| others.iter().any(|b| a.conflicts_with(b)))
        });
        assert_eq!(one.is_acquired(), !blocked, "the grant rule: {one:?}");
    }
}

/// What others do meanwhile. None of it may wait.
fn others_go_on(locks: &LockManager) {
    for round in 0..ROUNDS {
        // In the way of the suspended one, above it, below it, and with it.
        for text in ["w:a", "r:a", "w:a/b r:c", "r:", "w:c"] {
            drop(lock(locks, text));
        }
        drop(locks.try_lock(set("w:a w:c")).expect("open"));
        // A small queue of their own, beside it.
        let own = [
            lock(locks, "w:x/1"),
            lock(locks, "r:x"),
            lock(locks, "w:x/1/y"),
        ];
        let acquired = own.iter().map(Pending::is_acquired).collect::<Vec<_>>();
        assert_eq!(acquired, [true, false, false], "nobody else wants these");
        let [first, second, third] = own;
        first.withdraw();
        assert!(second.is_acquired() && !third.is_acquired());
        second.withdraw();
        assert!(third.is_acquired());
        if round % 100 == 0 {
            let _ = (locks.stats(), locks.requests().count());
        }
    }
}

/// Suspends `operation` at each of its steps in turn; it runs on what `prepare` makes. Returns how
/// many steps it has.
fn suspend_everywhere<T: Send>(
    prepare: impl Fn(&LockManager) -> (Vec<Pending>, T),
    operation: impl Fn(&LockManager, T) -> Option<Outstanding> + Sync,
) -> usize {
    for steps in 0..MANY_STEPS {
        let locks = LockManager::new();
        let (others, prepared) = prepare(&locks);
        let (suspended_sender, suspended) = channel();
        let (resume, resume_receiver) = channel();
        let (locks, operation) = (&locks, &operation);
        // It owns the end of the channel: if a check fails here, the suspended thread is let go.
        let finished = thread::scope(move |scope| {
            let stalling = scope.spawn(move || {
                let suspension = Suspension {
                    steps,
                    suspended: suspended_sender,
                    resume: resume_receiver,
                };
                steps::suspended(suspension, || operation(locks, prepared))
            });
            // An error: it has ended before it took so many steps.
            let finished = suspended.recv().is_err();
            if !finished {
                others_go_on(locks);
                resume.send(()).expect("it is suspended");
            }
            let left = stalling.join().expect("no panic");
            let others = others.into_iter().map(Outstanding::from);
            let mut outstanding: Vec<Outstanding> = others.chain(left).collect();
            outstanding.sort_by_key(Outstanding::token);
            while !outstanding.is_empty() {
                check(&outstanding);
                drop(outstanding.remove(0));
            }
            finished
        });
        let stats = locks.stats();
        assert_eq!((stats.acquired, stats.waiting, stats.resources), (0, 0, 0));
        assert_eq!(locks.requests().count(), 0);
        if finished {
            return steps;
        }
    }
    panic!("more than {MANY_STEPS} steps");
}

#[test]
fn in_a_lock_that_is_granted_at_once() {
    let steps = suspend_everywhere(
        |_| (vec![], ()),
        |locks, ()| Some(lock(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 10, "only {steps} steps");
}

#[test]
fn in_a_lock_that_has_to_wait() {
    let steps = suspend_everywhere(
        |locks| (vec![lock(locks, "r:a"), lock(locks, "w:c/1")], ()),
        |locks, ()| Some(lock(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 15, "only {steps} steps");
}

#[test]
fn in_a_release_that_grants_others() {
    let steps = suspend_everywhere(
        |locks| {
            let holder = lock(locks, "w:a w:c");
            (
                vec![
                    lock(locks, "r:a/b"),
                    lock(locks, "r:a/b"),
                    lock(locks, "w:c w:a"),
                ],
                holder,
            )
        },
        |_, holder| {
            holder.withdraw();
            None
        },
    );
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn in_a_withdrawal_that_lets_others_in() {
    let steps = suspend_everywhere(
        |locks| {
            let holder = lock(locks, "r:a");
            let writer = lock(locks, "w:a");
            (vec![holder, lock(locks, "r:a/b")], writer)
        },
        |_, writer| {
            writer.withdraw();
            None
        },
    );
    assert!(steps > 10, "only {steps} steps");
}

#[test]
fn in_a_try_lock_that_succeeds() {
    let steps = suspend_everywhere(
        |_| (vec![], ()),
        |locks, ()| {
            let tried = locks.try_lock(set("w:a/b r:c")).expect("open");
            tried.map(Outstanding::from)
        },
    );
    assert!(steps > 10, "only {steps} steps");
}

#[test]
fn in_a_try_lock_that_fails() {
    let steps = suspend_everywhere(
        |locks| (vec![lock(locks, "w:a")], ()),
        |locks, ()| {
            let tried = locks.try_lock(set("w:a/b r:c")).expect("open");
            tried.map(Outstanding::from)
        },
    );
    assert!(steps > 2, "only {steps} steps");
}

#[test]
fn in_a_close() {
    // Others would be refused: what counts is that a second closer completes the close.
    for steps in 0.. {
        let locks = LockManager::new();
        let mut drained = pin!(locks.drained());
        let mut context = Context::from_waker(Waker::noop());
        assert!(drained.as_mut().poll(&mut context).is_pending());
        let (suspended_sender, suspended) = channel();
        let (resume, resume_receiver) = channel();
        let locks = &locks;
        let mut poll = || drained.as_mut().poll(&mut context).is_ready();
        let finished = thread::scope(move |scope| {
            scope.spawn(move || {
                let suspension = Suspension {
                    steps,
                    suspended: suspended_sender,
                    resume: resume_receiver,
                };
                steps::suspended(suspension, || locks.close());
            });
            let finished = suspended.recv().is_err();
            if !finished {
                locks.close();
                assert!(locks.is_closed() && locks.enqueue(set("w:a")).is_err());
                assert!(poll());
                resume.send(()).expect("it is suspended");
            }
            finished
        });
        if finished {
            assert!(steps >= 2, "only {steps} steps");
            break;
        }
    }
}

#[test]
fn waiting_for_another_is_noticed() {
    let waits = catch_unwind(AssertUnwindSafe(|| {
        with(Mutation::WaitForTheTicket, || {
            in_a_lock_that_is_granted_at_once();
        });
    }));
    let panic = waits.expect_err("nobody notices that one waits for another");
    let message = panic.downcast::<&str>().expect("a message");
    assert_eq!(*message, "it waits for a ticket");
}

/// Not about threads that stall, but about what is withdrawn behind a lock that is held.
#[test]
fn withdrawn_requests_that_pile_up_are_noticed() {
    let property = || {
        let table = crate::table::Table::new(1);
        let enter = |mode| {
            let resource = Resource {
                path: crate::Path::from(["a"]),
                mode,
            };
            let set = crate::resource::ResourceSet::collect([resource]).expect("one");
            table.enter(set).expect("open").0
        };
        let holder = enter(crate::resource::Mode::Write);
        for _ in 0..1000 {
            table.leave(&enter(crate::resource::Mode::Read));
        }
        let left = holder.released.subscribers();
        table.leave(&holder);
        assert!(left < 10, "{left} watches of withdrawn requests are left");
    };
    property();
    for mutation in [Mutation::NoPurge, Mutation::NoRetiring] {
        assert!(
            catch_unwind(|| with(mutation, property)).is_err(),
            "nobody notices {mutation:?}"
        );
    }
}
