//! Models: small scenarios, each explored in every order of its threads' steps that the bound of
//! preemptions allows, with every value that the memory orderings let a load return.
//!
//! A preemption takes the processor from a thread that could go on. The bound limits their number in
//! one execution; `ALL` is no bound. Each model has two bounds: one for every day, one for the CI.
//!
//! ```sh
//! cargo test -p locktopus-loom-tests --test models                          # the quick bounds
//! LOOM_FULL=1 cargo test -p locktopus-loom-tests --test models              # the full bounds
//! LOOM_MAX_PREEMPTIONS=4 cargo test -p locktopus-loom-tests --test models a_try   # one bound, for all
//! ```
//!
//! The variables do not apply to the mutations: each of these is explored up to the least bound at which
//! its model notices it.

mod mutations;
mod scenarios;

use scenarios::ALL;

macro_rules! models {
    ($($scenario:ident: $quick:expr, $full:expr;)*) => {
        $(#[test]
        fn $scenario() {
            scenarios::explore_up_to($quick, $full, scenarios::$scenario);
        })*
    };
}

models! {
    two_requests_over_the_same_two_resources: 3, 5;
    three_requests_that_overlap_pairwise: 2, 3;
    parent_child_and_grandchild: 3, 3;
    readers_and_a_writer: 3, 3;
    a_ticket_before_all_entries_are_there: 3, 5;
    help_races_the_owners_ticket: 3, 3;
    tickets_overtake_births: 3, 5;
    the_first_lock_of_a_depth: 4, ALL;
    a_depth_that_another_has_marked: 3, 3;
    a_release_races_a_watch: ALL, ALL;
    a_parent_above_two_children_that_leave: ALL, ALL;
    a_withdrawal_races_the_grant: ALL, ALL;
    a_withdrawal_races_another: ALL, ALL;
    a_withdrawal_races_a_watch: ALL, ALL;
    a_purge_races_the_release: ALL, ALL;
    a_purge_races_a_new_watch: ALL, ALL;
    a_purge_races_another: ALL, ALL;
    a_holder_sees_what_the_last_one_did: 3, 5;
    a_successor_sees_what_the_holder_did: ALL, ALL;
    a_waker_that_panics_strands_nobody: ALL, ALL;
    a_waker_is_registered_while_the_lock_is_granted: ALL, ALL;
    a_replaced_waker_races_the_grant: ALL, ALL;
    a_dropped_wait_races_the_grant: ALL, ALL;
    a_thread_parks_while_the_lock_is_granted: ALL, ALL;
    a_close_races_a_lock: ALL, ALL;
    draining_races_the_last_release: 5, ALL;
    a_try_races_a_lock: 3, 5;
    two_tries_race: 3, 5;
}
