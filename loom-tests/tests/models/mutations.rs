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

/// Runs a check twice: it must pass, and fail with the mutation, for the reason given.
fn is_noticed(mutation: Mutation, reason: &str, check: impl Fn()) {
    check();
    let mutated = catch_unwind(AssertUnwindSafe(|| with(mutation, &check)));
    let panic = mutated.expect_err("nobody notices the mutation");
    let message = match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    };
    assert!(
        message.contains(reason),
        "{mutation:?} is noticed by: {message}"
    );
}

macro_rules! noticed {
    ($($mutation:ident by $scenario:ident at $preemptions:literal for $reason:literal;)*) => {
        $(#[test]
        #[allow(non_snake_case, reason = "named after the mutation")]
        fn $mutation() {
            is_noticed(Mutation::$mutation, $reason, || {
                scenarios::explore($preemptions, scenarios::$scenario);
            });
        })*
    };
}

// The model, and the least bound of preemptions at which it fails.
noticed! {
    PublishedFromTheStart by a_ticket_before_all_entries_are_there at 3 for "the grant rule";
    NoHelping by two_requests_over_the_same_two_resources at 0 for "the grant rule";
    TakeBeforeSetting by a_release_races_a_watch at 1 for "the grant rule";
    NoLookAfterPush by a_release_races_a_watch at 1 for "the grant rule";
    NoAnnouncement by a_release_races_a_watch at 0 for "the grant rule";
    ResumePastTheSpan by a_parent_above_two_children_that_leave at 0 for "the grant rule";
    RelaxedDraw by two_requests_over_the_same_two_resources at 0 for "the grant rule";
    AlwaysShortcut by tickets_overtake_births at 1 for "the grant rule";
    MarkAfterPublishing by the_first_lock_of_a_depth at 0 for "the grant rule";
    CountEveryGrant by a_withdrawal_races_the_grant at 1 for "the statistics";
    PurgeForgetsTheNew by a_purge_races_a_new_watch at 2 for "the grant rule";
}

/// Outside a model there is nothing to explore: loom still wants to be asked.
fn sequentially(property: fn()) {
    scenarios::explore(0, property);
}

#[test]
#[allow(non_snake_case, reason = "named after the mutation")]
fn NoPurge() {
    is_noticed(Mutation::NoPurge, "futures that are gone", || {
        sequentially(|| {
            let kept = Arc::new(());
            struct Keeps(#[expect(dead_code, reason = "counted")] Arc<()>);
            impl Wake for Keeps {
                fn wake(self: Arc<Self>) {}
            }
            let locks = LockManager::new();
            let _holder = locks.enqueue([Resource::write(["a"])]).expect("open");
            let mut waiter = locks.enqueue([Resource::write(["a"])]).expect("open");
            for _ in 0..100 {
                let waker = Waker::from(Arc::new(Keeps(Arc::clone(&kept))));
                let _ = pin!(&mut waiter).poll(&mut Context::from_waker(&waker));
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
    is_noticed(
        Mutation::RemoveAfterAdvancing,
        "still finds the last holder",
        || {
            sequentially(|| {
                let locks = LockManager::new();
                let holder = locks.enqueue([Resource::write(["a"])]).expect("open");
                let mut waiter = locks.enqueue([Resource::write(["a"])]).expect("open");
                let counts = Arc::new(Counts(locks.clone(), AtomicUsize::new(0)));
                let waker = Waker::from(Arc::clone(&counts));
                let _ = pin!(&mut waiter).poll(&mut Context::from_waker(&waker));
                holder.withdraw();
                drop(waiter);
                let resources = counts.1.load(Ordering::Relaxed);
                assert_eq!(resources, 1, "who is woken still finds the last holder");
            });
        },
    );
}
