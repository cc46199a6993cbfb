//! The time to restore the requests of another lock manager. Prints one line for each table: `name value unit`, the
//! median of several runs.
//!
//! ```sh
//! cargo bench -p locktopus-engine --bench restore
//! ```

use locktopus_engine::{LockManager, Resource};
use std::time::Instant;

const COUNT: u64 = 100_000;
const RUNS: usize = 7;

fn main() {
    table("held", |i| {
        vec![Resource::write(["a".to_owned(), i.to_string()])]
    });
    table("queue", |_| vec![Resource::write(["a"])]);
    table("pairs_10_waiting_for_each", |i| {
        let name = |i: u64| Resource::write(["accounts".to_owned(), (i / 10).to_string()]);
        vec![name(i), name(i + 5)]
    });
}

fn table(name: &str, set: impl Fn(u64) -> Vec<Resource>) {
    let mut millis: Vec<f64> = (0..RUNS).map(|_| restore(&set)).collect();
    millis.sort_by(f64::total_cmp);
    println!("restore_{COUNT}_{name} {:.1} ms", millis[RUNS / 2]);
}

fn restore(set: impl Fn(u64) -> Vec<Resource>) -> f64 {
    let sets: Vec<_> = (0..COUNT).map(|i| (3 * i + 1, set(i))).collect();
    let locks = LockManager::new();
    let mut restored = Vec::with_capacity(sets.len());
    let start = Instant::now();
    for (token, set) in sets {
        restored.push(locks.restore(token, set).expect("the tokens grow"));
    }
    start.elapsed().as_secs_f64() * 1e3
}
