//! Models: small scenarios, each explored in every order of the steps of its threads, with every value
//! that the memory orderings allow a load to return.
//!
//! A preemption takes the processor from a thread that could go on. The bound of a model is the largest
//! number of preemptions in one execution; `ALL` stands for no bound. Each model has a quick bound, for
//! the test command of the README, and a full bound, for the CI.
//!
//! ```sh
//! cargo test -p locktopus-loom-tests --test models              # the quick bounds, less than two minutes
//! LOOM_FULL=1 cargo test -p locktopus-loom-tests --test models  # the full bounds, some minutes
//! # One bound for the models named; prints the number of executions.
//! LOOM_MAX_PREEMPTIONS=4 cargo test -p locktopus-loom-tests --test models two_tries -- --nocapture
//! ```
//!
//! The variables do not change the bounds of the mutations: the table in `mutations.rs` has the least bound
//! at which each mutation is noticed.

mod blockers;
mod close;
mod enter;
mod explore;
mod leave;
mod mutations;
mod narrow;
mod prepared;
mod reserve;
mod restore;
mod reuse;
#[path = "../shared/mod.rs"]
mod shared;
mod steps;
mod wait;
mod wanted;

use explore::{ALL, Bounds, explore_within};
use locktopus_loom_tests::{
    Entering, Lock, LockManager, Options, Pending, PreparedPending, PreparedSet, RequestState,
    Resource, Wanted, Work, explore_counters,
};

macro_rules! models {
    ($($module:ident { $($scenario:ident: quick $quick:expr, full $full:expr;)* })*) => {
        $($(#[test]
        fn $scenario() {
            let bounds = Bounds { quick: $quick, full: $full };
            explore_within(bounds, $module::$scenario);
        })*)*
    };
}

models! {
    enter {
        two_requests_for_the_same_two_resources: quick 3, full 5;
        three_requests_that_overlap_pairwise: quick 2, full 3;
        parent_child_and_grandchild: quick 3, full 3;
        readers_and_a_writer: quick 3, full 3;
        a_walk_meets_a_half_inserted_request: quick 3, full 5;
        helpers_race_the_owner_for_its_ticket: quick 3, full 3;
        tickets_overtake_births: quick 3, full 5;
        the_first_lock_of_a_depth: quick 4, full ALL;
        a_depth_that_another_request_has_marked: quick 3, full 3;
        a_try_races_a_request: quick 3, full 5;
        two_tries_race: quick 3, full 5;
    }
    leave {
        a_release_races_a_watch: quick ALL, full ALL;
        a_release_races_a_second_watch: quick ALL, full ALL;
        two_watches_race_a_release: quick 2, full 3;
        a_parent_moves_from_child_to_child: quick ALL, full ALL;
        a_withdrawal_races_the_grant: quick ALL, full ALL;
        a_withdrawal_races_another: quick ALL, full ALL;
        a_withdrawal_races_a_watch: quick ALL, full ALL;
        a_withdrawal_of_the_first_watch_races_the_release: quick ALL, full ALL;
        a_purge_races_the_release: quick ALL, full ALL;
        a_purge_races_a_new_watch: quick ALL, full ALL;
        a_purge_races_another: quick ALL, full ALL;
        a_holder_sees_the_writes_of_the_last_holder: quick 3, full 5;
        a_waiter_sees_the_writes_of_the_last_holder: quick ALL, full ALL;
    }
    wait {
        a_poll_races_the_grant: quick ALL, full ALL;
        a_replaced_waker_races_the_grant: quick ALL, full ALL;
        a_panicking_waker_stops_no_other_grant: quick ALL, full ALL;
        a_parking_thread_races_the_grant: quick ALL, full ALL;
        a_timeout_races_the_grant: quick ALL, full ALL;
        a_conversion_races_the_grant: quick 4, full ALL;
        a_dropped_pending_races_the_grant: quick ALL, full ALL;
        a_dropped_lock_future_races_the_grant: quick ALL, full ALL;
        a_dropped_grant_races_a_request: quick ALL, full ALL;
    }
    steps {
        a_step_races_a_withdrawal: quick 3, full 5;
        a_step_races_a_new_request: quick 3, full 5;
        two_works_overlap: quick 3, full ALL;
        a_work_is_dropped_in_mid_walk: quick 3, full 5;
        a_divided_purge_races_a_new_watch: quick 4, full ALL;
        a_divided_purge_races_the_release: quick 4, full ALL;
        two_divided_purges_race: quick 4, full ALL;
        two_requests_enter_in_steps: quick 3, full 5;
        entering_in_steps_races_a_release: quick 3, full 5;
        entering_dropped_before_its_first_step_races_a_request: quick ALL, full ALL;
        entering_dropped_after_one_step_races_a_request: quick 3, full ALL;
        entering_dropped_after_two_steps_races_a_request: quick 3, full 5;
        a_close_races_entering_in_steps: quick 3, full ALL;
    }
    restore {
        a_restored_request_races_a_later_one: quick 3, full ALL;
        a_restored_request_races_another_for_its_token: quick 3, full ALL;
        two_requests_are_restored_at_once: quick 3, full ALL;
        a_close_races_a_restored_request: quick ALL, full ALL;
        skipped_tokens_race_a_request: quick ALL, full ALL;
    }
    blockers {
        blockers_are_listed_during_a_release: quick 4, full ALL;
        the_root_is_looked_for_during_a_withdrawal: quick 4, full ALL;
    }
    narrow {
        a_lock_is_narrowed_from_above_a_walk_to_below: quick ALL, full ALL;
        a_lock_is_narrowed_above_a_walk: quick ALL, full ALL;
        a_lock_is_narrowed_from_above_a_walk_to_its_path: quick ALL, full ALL;
        a_lock_is_narrowed_below_a_walk: quick ALL, full ALL;
        a_write_becomes_a_read_beside_a_read: quick ALL, full ALL;
        a_write_becomes_a_read_beside_a_write: quick ALL, full ALL;
        a_write_becomes_a_read_behind_the_first_resource_of_a_walk: quick 3, full ALL;
        a_write_becomes_a_read_before_another_read: quick 3, full ALL;
        a_set_is_narrowed_beside_a_set: quick ALL, full ALL;
        a_narrowed_lock_is_the_first_of_its_depth: quick ALL, full ALL;
        a_waiting_walk_goes_on_behind_a_narrowed_lock: quick ALL, full ALL;
        a_narrowing_races_a_withdrawal: quick ALL, full ALL;
        two_locks_are_narrowed: quick ALL, full ALL;
        a_narrowing_races_a_close: quick 4, full ALL;
        a_release_races_a_narrowing: quick ALL, full ALL;
        a_narrowing_races_another_of_the_same_lock: quick ALL, full ALL;
    }
    reuse {
        a_resting_request_races_another_for_its_path: quick 2, full 3;
        a_resting_request_races_one_above_it: quick 2, full 3;
        a_resting_request_races_one_below_it: quick 2, full 3;
        a_resting_set_races_a_set: quick 2, full 3;
        a_request_that_was_alone_races_another: quick 3, full 3;
        a_release_to_rest_races_a_watch: quick 3, full ALL;
        two_watches_race_a_release_to_rest: quick 1, full 2;
        two_threads_lock_one_resting_request_again: quick 2, full 3;
        a_close_races_a_request_that_is_locked_again: quick 3, full ALL;
        prepared_sets_rest_at_one_path: quick 0, full 0;
        a_child_enters_below_a_prepared_set: quick 0, full 0;
    }
    prepared {
        a_prepared_set_races_a_request_for_its_path: quick 3, full 5;
        a_prepared_set_races_a_request_above_it: quick 3, full 5;
        a_prepared_set_races_a_request_below_it: quick 3, full 5;
        a_prepared_set_races_another_set: quick 3, full 4;
        a_prepared_set_walks_beside_a_request_below_it: quick 2, full 3;
        a_prepared_set_races_the_first_lock_of_another: quick 3, full 5;
        two_resting_sets_race: quick 3, full 3;
        a_request_sees_the_writes_of_a_life_that_has_ended: quick 3, full 3;
        a_close_races_a_prepared_set: quick 3, full 5;
    }
    wanted {
        an_arm_races_a_request_that_waits: quick 3, full ALL;
        an_arm_after_a_withdrawal_races_a_request_that_waits: quick 3, full ALL;
        a_poll_of_an_arm_races_two_requests: quick 3, full 5;
        a_poll_of_an_arm_races_the_release: quick 3, full ALL;
        an_arm_races_a_request_that_moves_on: quick 3, full ALL;
        a_dropped_arm_races_a_request_that_waits: quick 3, full ALL;
        a_narrowing_races_a_request_that_waits: quick 3, full ALL;
        an_arm_races_a_narrowing_in_steps: quick 3, full ALL;
    }
    reserve {
        a_life_takes_a_number_in_reserve: quick 0, full 0;
        a_number_in_reserve_races_a_request_for_its_path: quick 3, full 5;
        a_number_in_reserve_races_a_request_above_it: quick 3, full 5;
        a_number_in_reserve_races_a_request_below_it: quick 3, full 5;
        numbers_in_reserve_race_another_set: quick 3, full 4;
        a_request_sees_the_writes_of_a_life_with_a_number_in_reserve: quick 3, full 3;
        a_close_races_a_number_in_reserve: quick 3, full 5;
        a_try_with_numbers_in_reserve_races_another: quick 3, full 4;
        a_walk_voids_the_numbers_in_reserve: quick 2, full 3;
        skipped_tokens_race_a_number_in_reserve: quick 3, full 5;
        a_restored_request_races_a_number_in_reserve: quick 3, full 4;
        a_life_sees_the_writes_of_the_last_one: quick 3, full 4;
    }
    close {
        a_close_races_a_request: quick ALL, full ALL;
        draining_races_the_last_release: quick 5, full ALL;
    }
}
