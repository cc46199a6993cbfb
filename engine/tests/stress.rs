//! The bug finder as a bounded test; `examples/bug_finder.rs` runs it without end.

mod bug_finder;

#[test]
fn eight_threads_find_no_bug() {
    let report = bug_finder::hunt(8, 20_000);
    assert!(
        report.grants > 10_000 && report.withdrawals > 100 && report.refused_tries > 100,
        "{report}"
    );
}
