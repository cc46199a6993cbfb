//! Each deliberate defect makes a model or a property fail. A check that stayed green without what
//! it is to guard would be no check.

use crate::scenarios;
use locktopus_loom_tests::{LockManager, Mutation, Resource, with};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

/// Runs a check twice: it must pass, and fail with the mutation.
fn is_noticed(mutation: Mutation, check: impl Fn()) {
    check();
    let mutated = catch_unwind(AssertUnwindSafe(|| with(mutation, &check)));
    assert!(mutated.is_err(), "nobody notices {mutation:?}");
}

macro_rules! noticed {
    ($($mutation:ident by $scenario:ident up to $preemptions:literal;)*) => {
        $(#[test]
        #[allow(non_snake_case, reason = "named after the mutation")]
        fn $mutation() {
            is_noticed(Mutation::$mutation, || {
                scenarios::explore($preemptions, scenarios::$scenario);
            });
        })*
    };
}

noticed! {
    PublishedFromTheStart by a_ticket_before_all_entries_are_there up to 3;
    NoHelping by two_requests_over_the_same_two_resources up to 3;
    TakeBeforeHappening by a_release_races_a_watch up to 3;
    NoLookAfterPush by a_release_races_a_watch up to 3;
    NoAnnouncement by a_release_races_a_watch up to 3;
    ResumePastTheSpan by a_parent_above_two_children_that_leave up to 3;
    RelaxedDraw by two_requests_over_the_same_two_resources up to 3;
    AlwaysShortcut by tickets_overtake_births up to 3;
    NoMark by the_first_lock_of_a_depth up to 3;
    CountEveryGrant by a_withdrawal_races_the_grant up to 3;
}

/// Outside a model there is nothing to explore: loom still wants to be asked.
fn sequentially(property: fn()) {
    scenarios::explore(0, property);
}

#[test]
#[allow(non_snake_case, reason = "named after the mutation")]
fn NoPurge() {
    is_noticed(Mutation::NoPurge, || {
        sequentially(|| {
            let kept = Arc::new(());
            struct Keeps(#[expect(dead_code, reason = "counted")] Arc<()>);
            impl Wake for Keeps {
                fn wake(self: Arc<Self>) {}
            }
            let locks = LockManager::new();
            let _holder = locks.lock([Resource::write(["a"])]).expect("open");
            let waiter = locks.lock([Resource::write(["a"])]).expect("open");
            for _ in 0..100 {
                let waker = Waker::from(Arc::new(Keeps(Arc::clone(&kept))));
                let _ = pin!(waiter.acquired()).poll(&mut Context::from_waker(&waker));
            }
            let left = Arc::strong_count(&kept);
            drop(waiter);
            assert!(left < 40, "{left} futures that are gone are remembered");
        });
    });
}

#[test]
#[allow(non_snake_case, reason = "named after the mutation")]
fn RemoveAfterAdvancing() {
    struct Counts(LockManager, AtomicUsize);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.stats().resources, Ordering::Relaxed);
        }
    }
    is_noticed(Mutation::RemoveAfterAdvancing, || {
        sequentially(|| {
            let locks = LockManager::new();
            let holder = locks.lock([Resource::write(["a"])]).expect("open");
            let waiter = locks.lock([Resource::write(["a"])]).expect("open");
            let counts = Arc::new(Counts(locks.clone(), AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&counts));
            {
                let mut acquired = pin!(waiter.acquired());
                let _ = acquired.as_mut().poll(&mut Context::from_waker(&waker));
                holder.release();
            }
            drop(waiter);
            let resources = counts.1.load(Ordering::Relaxed);
            assert_eq!(resources, 1, "who is woken still finds the last holder");
        });
    });
}
