//! Runs random operations on the real structures until it finds a bug or is stopped.
//!
//! ```sh
//! cargo run --release -p locktopus-engine --example bug_finder
//! ```
//!
//! The environment can limit it: `SECONDS`, or `GRANTS`, the number of grants. `THREADS` is the number of threads, 8 by
//! default, and `SEED` the seed of the first hunt. Each hunt is a new lock manager, prints the totals, and takes the
//! next seed. With an odd seed, requests rest at their first release, in few places.

#[path = "../tests/engine/bug_finder/mod.rs"]
mod bug_finder;

use bug_finder::Report;
use locktopus_engine::Options;
use std::time::{Duration, Instant};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")))
}

fn main() {
    let threads = number("THREADS").unwrap_or(8) as usize;
    let duration = number("SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let grants = number("GRANTS").unwrap_or(u64::MAX);
    let mut seed = number("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let (start, mut total) = (Instant::now(), Report::default());
    while start.elapsed() < duration && total.grants < grants {
        let options = match seed % 2 {
            0 => Options::new(),
            _ => Options::new().places(8).eager(),
        };
        total += bug_finder::hunt(threads, 100_000, seed, options);
        let seconds = start.elapsed().as_secs();
        println!("{seconds} s, seed {seed}: {total}, no bug");
        seed += 1;
    }
}
