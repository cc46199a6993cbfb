//! Runs random operations on the real structures until it finds a bug or is stopped.
//!
//! ```sh
//! cargo run --release -p locktopus-engine --example bug_finder -- [THREADS [SECONDS]]
//! ```

#[path = "../tests/engine/bug_finder.rs"]
mod bug_finder;

use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u64>().expect("a number"));
    let threads = args.next().unwrap_or(8);
    let seconds = args.next().unwrap_or(u64::MAX);
    let start = Instant::now();
    let (mut grants, mut withdrawals) = (0, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let report = bug_finder::hunt(threads as usize, 100_000);
        grants += report.grants;
        withdrawals += report.withdrawals;
        println!(
            "{:?}: {grants} grants, {withdrawals} withdrawals, no bug",
            start.elapsed()
        );
    }
}
