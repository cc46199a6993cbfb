//! Every interleaving of small scenarios, up to a number of preemptions.
//!
//! ```sh
//! cargo test --release -p locktopus-loom-tests --test models
//! LOOM_MAX_PREEMPTIONS=4 cargo test --release -p locktopus-loom-tests --test models   # deeper
//! ```

mod mutations;
mod scenarios;

macro_rules! models {
    ($($scenario:ident up to $preemptions:literal;)*) => {
        $(#[test]
        fn $scenario() {
            scenarios::explore($preemptions, scenarios::$scenario);
        })*
    };
}

models! {
    two_requests_over_the_same_two_resources up to 3;
    three_requests_that_overlap_pairwise up to 2; // up to 3 takes more than ten minutes
    parent_child_and_grandchild up to 3;
    readers_and_a_writer up to 3;
    a_ticket_before_all_entries_are_there up to 3;
    help_races_the_owners_ticket up to 3;
    tickets_overtake_births up to 3;
    the_first_lock_of_a_depth up to 3;
    a_release_races_a_watch up to 3;
    a_parent_above_two_children_that_leave up to 3;
    a_withdrawal_races_the_grant up to 3;
    a_withdrawal_races_another up to 3;
    a_withdrawal_races_a_watch up to 3;
    a_purge_races_the_release up to 3;
    a_purge_races_a_new_watch up to 3;
    a_purge_races_another up to 3;
    a_holder_sees_what_the_last_one_did up to 3;
    a_successor_sees_what_the_holder_did up to 3;
    a_waker_that_panics_strands_nobody up to 3;
    a_waker_is_registered_while_the_lock_is_granted up to 3;
    a_replaced_waker_races_the_grant up to 3;
    a_dropped_wait_races_the_grant up to 3;
    a_thread_parks_while_the_lock_is_granted up to 3;
    a_close_races_a_lock up to 3;
    draining_races_the_last_release up to 3;
    a_try_races_a_lock up to 3;
    two_tries_race up to 3;
}
