//! Each mutation makes a model or a property fail, or the check shows nothing about the part of the engine
//! that the mutation breaks.

use super::explore::explore;
use super::{enter, leave, narrow, prepared, reserve, restore, reuse, steps, wait, wanted};
use locktopus_loom_tests::{Mutation, with};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Explores a scenario twice: it passes, and with the mutation it fails for the reason given.
fn is_noticed(mutation: Mutation, bound: usize, scenario: fn(), reason: &str) {
    explore(bound, scenario);
    let mutated = catch_unwind(AssertUnwindSafe(|| {
        with(mutation, || explore(bound, scenario))
    }));
    let panic = mutated.expect_err("the scenario passes in spite of the mutation");
    let message = match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    };
    assert!(
        message.contains(reason),
        "{mutation:?} is noticed for another reason: {message}"
    );
}

macro_rules! noticed {
    ($($mutation:ident by $module:ident::$scenario:ident at $bound:literal for $reason:literal;)*) => {
        $(#[test]
        #[allow(non_snake_case, reason = "named after the mutation")]
        fn $mutation() {
            is_noticed(Mutation::$mutation, $bound, $module::$scenario, $reason);
        })*
    };
}

// The bound is the least one at which the scenario fails.
noticed! {
    PublishedFromTheStart by enter::a_walk_meets_a_half_inserted_request at 3 for "the grant rule";
    NoHelping by enter::two_requests_for_the_same_two_resources at 0 for "the grant rule";
    TakeBeforeSetting by leave::a_release_races_a_watch at 1 for "the grant rule";
    NoLookAfterTheFirst by leave::a_release_races_a_watch at 1 for "the grant rule";
    NoLookAfterPush by leave::a_release_races_a_second_watch at 1 for "the grant rule";
    NoAnnouncement by leave::a_release_races_a_watch at 0 for "the grant rule";
    NoAnnouncementOfTheChain by leave::a_release_races_a_second_watch at 0 for "the grant rule";
    TwoFirsts by leave::a_release_races_a_second_watch at 0 for "the grant rule";
    TakeOnlyTheChain by leave::a_release_races_a_watch at 0 for "the grant rule";
    ResumePastTheSpan by leave::a_parent_moves_from_child_to_child at 0 for "the grant rule";
    RelaxedDraw by enter::two_requests_for_the_same_two_resources at 0 for "the grant rule";
    AlwaysShortcut by enter::tickets_overtake_births at 1 for "the grant rule";
    MarkAfterPublishing by enter::the_first_lock_of_a_depth at 0 for "the grant rule";
    CountEveryGrant by leave::a_withdrawal_races_the_grant at 1 for "the statistics";
    PurgeDropsNewSubscribers by leave::a_purge_races_a_new_watch at 2 for "the grant rule";
    NoPurge by one_thread::many_tasks_wait_for_the_close at 0 for "remembers its former tasks";
    TakeTheWaiterBeforeSetting by wait::a_poll_races_the_grant at 1 for "a lost wake-up";
    NoLookOfTheWaiter by wait::a_poll_races_the_grant at 1 for "a lost wake-up";
    NoAnnouncementOfTheWaiter by wait::a_poll_races_the_grant at 0 for "a lost wake-up";
    PublishAtAPause by steps::two_requests_enter_in_steps at 0 for "the statistics";
    ReleaseAtAPause by steps::a_step_races_a_new_request at 0 for "the statistics";
    ForgetPausedWalk by steps::two_works_overlap at 0 for "the grant rule";
    DropUndone by steps::a_work_is_dropped_in_mid_walk at 0 for "the grant rule";
    PausedPurgeSkips by steps::a_divided_purge_races_a_new_watch at 1 for "the grant rule";
    UncountedPause by steps::entering_in_steps_races_a_release at 0 for "the statistics";
    LeaveHalfEntered by steps::entering_dropped_after_one_step_races_a_request at 0 for "the statistics";
    TakeBeforeInserting by restore::a_restored_request_races_a_later_one at 1 for "the grant rule";
    RelaxedTake by restore::a_restored_request_races_a_later_one at 2 for "the grant rule";
    RestoreBehindTheClock by restore::two_requests_are_restored_at_once at 0 for "the grant rule";
    NarrowedFirst by narrow::a_waiting_walk_goes_on_behind_a_narrowed_lock at 0 for "the grant rule";
    RemoveBeforeNarrowed by narrow::a_lock_is_narrowed_below_a_walk at 1 for "the grant rule";
    LeaveHalfNarrowed by narrow::a_release_races_a_narrowing at 1 for "the statistics";
    TrustOldPlaces by narrow::a_write_becomes_a_read_before_another_read at 1 for "the grant rule";
    MarksReadOnce by narrow::a_narrowed_lock_is_the_first_of_its_depth at 1 for "the grant rule";
    ShortcutBeforeAncestors by narrow::a_lock_is_narrowed_from_above_a_walk_to_below at 1 for "the grant rule";
    LookBeforeArming by wanted::an_arm_races_a_request_that_waits at 1 for "a lost wake-up";
    ArmBeforeAdding by wanted::an_arm_races_a_request_that_waits at 0 for "a lost wake-up";
    ForgetArms by wanted::a_narrowing_races_a_request_that_waits at 0 for "a lost wake-up";
    EndArmsAtNarrowing by wanted::a_narrowing_races_a_request_that_waits at 0 for "the lock is held";
    LookBeforeTheWaker by wanted::an_arm_races_a_request_that_waits at 1 for "a lost wake-up";
    NoLookForArms by wanted::an_arm_races_a_request_that_waits at 0 for "a lost wake-up";
    WakeBeforeTelling by wanted::an_arm_races_a_request_that_waits at 2 for "a lost wake-up";
    LoseTheOtherWakes by one_thread::a_panicking_waker_stands_before_another at 0 for "woken";
    RestThoughAnnounced by reuse::a_release_to_rest_races_a_watch at 1 for "the grant rule";
    NoLookAfterAnnouncement by reuse::a_release_to_rest_races_a_watch at 1 for "the grant rule";
    RestingIsNotMet by reuse::prepared_sets_rest_at_one_path at 0 for "the grant rule";
    WalkAgainFromTheTicket by reuse::a_resting_request_races_another_for_its_path at 2 for "the grant rule";
    NoInterest by reuse::a_child_enters_below_a_prepared_set at 0 for "the grant rule";
    NearIsNeverChecked by reuse::a_child_enters_below_a_prepared_set at 0 for "the grant rule";
    RelaxedRest by prepared::a_request_sees_the_writes_of_a_life_that_has_ended at 1 for "missed a write";
    OwnerBeforeResting by reuse::a_resting_request_races_another_for_its_path at 0 for "the grant rule";
    LookAroundAfterTheWalk by prepared::a_prepared_set_walks_beside_a_request_below_it at 2 for "the grant rule";
    InterestIsNotCounted by prepared::a_prepared_set_walks_beside_a_request_below_it at 2 for "the grant rule";
    LookBeforeTaking by reserve::a_number_in_reserve_races_a_request_for_its_path at 0 for "the grant rule";
    RelaxedTakeUp by reserve::a_number_in_reserve_races_a_request_for_its_path at 0 for "the grant rule";
    RelaxedNear by reserve::a_number_in_reserve_races_a_request_for_its_path at 0 for "the grant rule";
    RelaxedCount by reserve::a_number_in_reserve_races_a_request_for_its_path at 0 for "the grant rule";
    RelaxedOrder by reserve::a_number_in_reserve_races_a_request_for_its_path at 0 for "the grant rule";
    OldZones by reserve::a_number_in_reserve_races_a_request_above_it at 1 for "the grant rule";
    KeepReserveOverWalk by reserve::a_walk_voids_the_numbers_in_reserve at 1 for "tokens of conflicting";
    KeepReserves by reserve::skipped_tokens_race_a_number_in_reserve at 0 for "a number in reserve is smaller";
    ReserveForTries by reserve::a_try_with_numbers_in_reserve_races_another at 2 for "one try succeeds";
    RemoveAfterAdvancing by one_thread::a_task_counts_the_locked_resources at 0 for "the last holder is gone";
}

/// Scenarios of one thread, which have one execution.
mod one_thread {
    use crate::LockManager;
    use crate::shared::{enqueue, lock};
    use crate::wait::Wakeups;
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    pub(super) fn a_panicking_waker_stands_before_another() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                std::panic::resume_unwind(Box::new("from the waker"));
            }
        }
        let locks = LockManager::new();
        let holder = lock(&locks, "w:a");
        let (mut first, mut second) = (enqueue(&locks, "r:a"), enqueue(&locks, "r:a"));
        let wakeups = Arc::new(Wakeups::default());
        let wakers = [
            Waker::from(Arc::new(Panics)),
            Waker::from(Arc::clone(&wakeups)),
        ];
        for (waker, pending) in wakers.iter().zip([&mut first, &mut second]) {
            let _ = pin!(pending).poll(&mut Context::from_waker(waker));
        }
        let mut work = holder.release_in_steps();
        while !catch_unwind(AssertUnwindSafe(|| work.step(100))).is_ok_and(|is_done| is_done) {}
        assert_eq!(wakeups.count(), 1, "the second task is woken");
    }

    pub(super) fn many_tasks_wait_for_the_close() {
        struct Keeps(#[expect(dead_code, reason = "counted")] Arc<()>);
        impl Wake for Keeps {
            fn wake(self: Arc<Self>) {}
        }
        let kept = Arc::new(());
        let locks = LockManager::new();
        for _ in 0..100 {
            let waker = Waker::from(Arc::new(Keeps(Arc::clone(&kept))));
            let _ = pin!(locks.drained()).poll(&mut Context::from_waker(&waker));
        }
        let left = Arc::strong_count(&kept);
        assert!(
            left < 40,
            "the lock manager remembers its former tasks: {left}"
        );
    }

    pub(super) fn a_task_counts_the_locked_resources() {
        struct Counts(LockManager, AtomicUsize);
        impl Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.1.store(self.0.stats().resources, Ordering::Relaxed);
            }
        }
        let locks = LockManager::new();
        let (holder, mut waiter) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
        let counts = Arc::new(Counts(locks.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counts));
        let _ = pin!(&mut waiter).poll(&mut Context::from_waker(&waker));
        holder.release();
        drop(waiter);
        let resources = counts.1.load(Ordering::Relaxed);
        assert_eq!(
            resources, 1,
            "the last holder is gone when its waiter is woken"
        );
    }
}
