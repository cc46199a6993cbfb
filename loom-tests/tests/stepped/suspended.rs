//! Lock-freedom: a thread is suspended at each step of an operation in turn. Meanwhile another thread goes on
//! with thousands of operations, on conflicting and on disjoint paths. Then the suspended thread resumes, and
//! the grant rule holds for all outstanding requests.

use crate::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use crate::steps::{Suspension, suspend};
use crate::{Lock, LockManager, Options, Pending};
use locktopus_loom_tests::{Mutation, with};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::thread;

/// Rounds of operations during each suspension.
const ROUNDS: usize = 400;
/// More steps than any of the suspended operations has.
const MANY_STEPS: usize = 1_000;

/// Runs an operation on a thread of its own, and `meanwhile` once it has taken some steps. Returns the result
/// of the operation, and whether it had more steps than that.
fn suspend_after<R: Send>(
    steps: usize,
    operation: impl FnOnce() -> R + Send,
    meanwhile: impl FnOnce(),
) -> (R, bool) {
    let (suspended_sender, suspended) = channel();
    let (resume, resume_receiver) = channel();
    let suspension = Suspension {
        steps,
        suspended: suspended_sender,
        resume: resume_receiver,
    };
    // The closure owns `resume`: if a check of `meanwhile` fails, the suspended thread goes on.
    thread::scope(move |scope| {
        let thread = scope.spawn(move || suspend(suspension, operation));
        // An error: the operation has ended.
        let was_suspended = suspended.recv().is_ok();
        if was_suspended {
            meanwhile();
            resume.send(()).expect("the thread waits for it");
        }
        (thread.join().expect("no panic"), was_suspended)
    })
}

/// Operations that must not wait for the suspended thread.
fn others_go_on(locks: &LockManager) {
    for round in 0..ROUNDS {
        // Above and below the paths of the suspended operation, and at them.
        for text in ["w:a", "r:a", "w:a/b r:c", "r:", "w:c"] {
            drop(enqueue(locks, text));
        }
        drop(locks.try_lock(set("w:a w:c")).expect("open"));
        // A queue beside these paths.
        let first = lock(locks, "w:x/1");
        let (second, third) = (enqueue(locks, "r:x"), enqueue(locks, "w:x/1/y"));
        assert!(!second.is_acquired() && !third.is_acquired());
        first.release();
        assert!(second.is_acquired() && !third.is_acquired());
        second.withdraw();
        assert!(third.is_acquired());
        if round % 100 == 0 {
            let _ = (locks.stats(), locks.requests().count());
        }
    }
}

/// Suspends `operation` at each of its steps in turn. It runs on the second result of `prepare`, beside the
/// requests of the first. Returns its number of steps.
fn suspend_everywhere<T: Send>(
    prepare: impl Fn(&LockManager) -> (Vec<Pending>, T),
    operation: impl Fn(&LockManager, T) -> Option<Outstanding> + Sync,
) -> usize {
    suspend_everywhere_until(prepare, operation, |_| ())
}

/// The same. `first` is what another thread does first with those requests, before it goes on.
fn suspend_everywhere_until<T: Send>(
    prepare: impl Fn(&LockManager) -> (Vec<Pending>, T),
    operation: impl Fn(&LockManager, T) -> Option<Outstanding> + Sync,
    first: impl Fn(&mut Vec<Pending>),
) -> usize {
    for steps in 0..MANY_STEPS {
        // Requests rest at their first release.
        let locks = LockManager::with(Options::new().places(8).eager());
        let (mut others, prepared) = prepare(&locks);
        let (left, was_suspended) = suspend_after(
            steps,
            || operation(&locks, prepared),
            || {
                first(&mut others);
                others_go_on(&locks);
            },
        );
        let others = others.into_iter().map(Outstanding::from);
        check_to_the_end(&locks, others.chain(left));
        if !was_suspended {
            return steps;
        }
    }
    panic!("more than {MANY_STEPS} steps");
}

#[test]
fn others_go_on_beside_a_suspended_request_that_is_granted_at_once() {
    let steps = suspend_everywhere(
        |_| (vec![], ()),
        |locks, ()| Some(enqueue(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 15, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_request_that_has_to_wait() {
    let steps = suspend_everywhere(
        |locks| (vec![enqueue(locks, "r:a"), enqueue(locks, "w:c/1")], ()),
        |locks, ()| Some(enqueue(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_request_that_is_restored() {
    let steps = suspend_everywhere(
        |locks| (vec![enqueue(locks, "r:a"), enqueue(locks, "w:c/1")], ()),
        |locks, ()| {
            let restored = locks.restore(1 << 32, set("w:a/b w:c"));
            Some(restored.expect("a large token").into())
        },
    );
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_release_that_grants() {
    let steps = suspend_everywhere(
        |locks| {
            let holder = lock(locks, "w:a w:c");
            let waiters = ["r:a/b", "r:a/b", "w:c w:a"];
            (waiters.map(|text| enqueue(locks, text)).into(), holder)
        },
        |_, holder| {
            holder.release();
            None
        },
    );
    assert!(steps > 30, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_withdrawal_that_grants() {
    let steps = suspend_everywhere(
        |locks| {
            let (holder, writer) = (enqueue(locks, "r:a"), enqueue(locks, "w:a"));
            (vec![holder, enqueue(locks, "r:a/b")], writer)
        },
        |_, writer| {
            writer.withdraw();
            None
        },
    );
    assert!(steps > 15, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_narrowing_that_grants() {
    let steps = suspend_everywhere(
        |locks| {
            let holder = lock(locks, "w:a w:c");
            let waiters = ["r:a/b", "w:c", "r:a"];
            (waiters.map(|text| enqueue(locks, text)).into(), holder)
        },
        |_, mut holder| {
            holder.narrow(set("w:a/b r:a/c")).expect("covered");
            Some(holder.into())
        },
    );
    assert!(steps > 30, "only {steps} steps");
}

fn try_lock(locks: &LockManager) -> Option<Outstanding> {
    let tried: Option<Lock> = locks.try_lock(set("w:a/b r:c")).expect("open");
    tried.map(Outstanding::from)
}

#[test]
fn others_go_on_beside_a_suspended_try_that_succeeds() {
    let steps = suspend_everywhere(|_| (vec![], ()), |locks, ()| try_lock(locks));
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_try_that_fails() {
    let steps = suspend_everywhere(
        |locks| (vec![enqueue(locks, "w:a")], ()),
        |locks, ()| try_lock(locks),
    );
    assert!(steps > 4, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_look_at_the_blockers() {
    let steps = suspend_everywhere(
        |locks| (vec![enqueue(locks, "r:a"), enqueue(locks, "w:a/b w:c")], ()),
        |locks, ()| {
            let blockers = || locks.blockers_of(set("w:a w:c")).expect("open");
            assert!(blockers().count() >= 2);
            assert!(blockers().root_holder().is_some());
            None
        },
    );
    assert!(steps > 15, "only {steps} steps");
}

/// A request rests in a place, after so many lives.
fn rest_after(lives: usize, locks: &LockManager, text: &str) {
    (0..lives).for_each(|_| lock(locks, text).release());
}

#[test]
fn others_go_on_beside_a_suspended_request_that_is_locked_again() {
    for lives in [1, 2, 6] {
        let steps = suspend_everywhere(
            |locks| {
                rest_after(lives, locks, "w:a/b w:c");
                (vec![], ())
            },
            |locks, ()| Some(enqueue(locks, "w:a/b w:c").into()),
        );
        assert!(steps > 5, "only {steps} steps");
    }
}

#[test]
fn others_go_on_beside_a_suspended_request_that_is_locked_again_and_has_to_wait() {
    let steps = suspend_everywhere(
        |locks| {
            rest_after(2, locks, "w:a/b w:c");
            // Its walk does not clear away what rests: it comes to the held child first.
            (vec![enqueue(locks, "r:c/1")], ())
        },
        |locks, ()| Some(enqueue(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_release_to_rest() {
    for lives in [0, 2] {
        let steps = suspend_everywhere(
            |locks| {
                rest_after(lives, locks, "w:a/b w:c");
                (vec![], lock(locks, "w:a/b w:c"))
            },
            |_, held| {
                held.release();
                None
            },
        );
        assert!(steps > 4, "only {steps} steps");
    }
}

/// The walk has met the holder. The holder is released, and its request rests and is locked again, before the watch is
/// there.
#[test]
fn others_go_on_beside_a_suspended_watch_of_a_request_that_rests() {
    let steps = suspend_everywhere_until(
        |locks| (vec![enqueue(locks, "w:a/b")], ()),
        |locks, ()| Some(enqueue(locks, "w:a w:c").into()),
        Vec::clear,
    );
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_walk_that_clears_resting_requests_away() {
    let steps = suspend_everywhere(
        |locks| {
            ["w:a/b/1", "w:a/b/2 w:c/2", "r:a"]
                .iter()
                .for_each(|text| rest_after(1, locks, text));
            (vec![], ())
        },
        |locks, ()| Some(enqueue(locks, "w:a/b w:c").into()),
    );
    assert!(steps > 30, "only {steps} steps");
}

#[test]
fn others_go_on_beside_a_suspended_prepared_set() {
    for lives in [0, 1, 2, 6] {
        let steps = suspend_everywhere(
            |locks| {
                let mut prepared = locks.prepare(set("w:a/b w:c")).expect("within the limits");
                for _ in 0..lives {
                    prepared.blocking_lock().expect("open").release();
                }
                (vec![], prepared)
            },
            |_, mut prepared| {
                // It may have to wait, and is withdrawn then.
                drop(prepared.enqueue().expect("open"));
                None
            },
        );
        assert!(steps > 9, "only {steps} steps");
    }
}

#[test]
fn others_go_on_beside_a_suspended_arm() {
    let steps = suspend_everywhere(
        |locks| {
            let holder = lock(locks, "w:a/b");
            (vec![enqueue(locks, "w:a")], holder)
        },
        |_, holder| {
            let mut wanted = holder.wanted();
            let polled = pin!(&mut wanted).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "a request waits throughout");
            drop(wanted);
            Some(holder.into())
        },
    );
    assert!(steps > 8, "only {steps} steps");
}

/// Requests would be refused, so the other thread closes the lock manager, too. That completes the close.
#[test]
fn a_second_close_completes_a_suspended_close() {
    for steps in 0..MANY_STEPS {
        let locks = LockManager::new();
        let mut drained = pin!(locks.drained());
        let mut context = Context::from_waker(Waker::noop());
        assert!(drained.as_mut().poll(&mut context).is_pending());
        let close_again = || {
            locks.close();
            assert!(locks.is_closed() && locks.enqueue(set("w:a")).is_err());
            assert!(drained.as_mut().poll(&mut context).is_ready());
        };
        let ((), was_suspended) = suspend_after(steps, || locks.close(), close_again);
        if !was_suspended {
            assert!(steps > 2, "only {steps} steps");
            return;
        }
    }
    panic!("more than {MANY_STEPS} steps");
}

#[test]
fn waiting_for_another_thread_is_noticed() {
    let check = others_go_on_beside_a_suspended_request_that_is_granted_at_once;
    let mutated = catch_unwind(AssertUnwindSafe(|| with(Mutation::WaitForTheTicket, check)));
    let panic = mutated.expect_err("the check passes in spite of the mutation");
    let message = panic.downcast::<&str>().expect("a message");
    assert_eq!(*message, "it waits for a ticket");
}
