//! The costs of the engine, beside a floor and other locks.
//!
//! ```sh
//! cargo bench -p locktopus-engine --bench limits            # everything, about three minutes
//! cargo bench -p locktopus-engine --bench limits -- queue   # the cases whose names contain "queue"
//! ```
//!
//! Prints a line for each figure, `name median unit, p10 value`, and at the end a table of the most important ones.
//!
//! The *floor* is one insert and one removal of such a key (same bytes, same order, same size) in a raw `SkipMap`
//! with as many entries. The sides of a comparison run in turn, in batches of about 100 µs. The median of a ratio is
//! the median of the ratios of the rounds, and its `p10` is the ratio of the tenth percentiles. On a noisy machine, the
//! ratio of two measurements close in time is more reliable than an absolute time. Of two threads, only the spans count
//! in which both ran the whole time; `together.rs` says how that is known.

mod floor;
mod locks;
mod many_paths;
mod measure;
mod memory;
mod messages;
mod one_path;
mod peers;
mod together;
mod two_threads;
mod waiting;

use measure::Report;

/// Measures, and prints what it has measured.
type Case = fn(&mut Report);

fn main() {
    if let Ok(case) = std::env::var(memory::CASE) {
        return memory::measure(&case);
    }
    // `cargo bench` passes `--bench`. Any other argument selects cases.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let is_selected = |name: &str| {
        let mut filters = filter.iter();
        filters.all(|filter| name.contains(filter.as_str()))
    };
    let cases: [(&str, Case); 15] = [
        ("memory", memory::memory),
        ("again", one_path::again),
        ("prepared", one_path::prepared),
        ("threads", two_threads::threads),
        ("new_paths", many_paths::new_paths),
        ("keys", many_paths::keys),
        ("tasks", waiting::tasks),
        ("parent", waiting::parent),
        ("line", waiting::line),
        ("restored", waiting::restored),
        ("path", one_path::path),
        ("read", one_path::one_more_reader),
        ("queue", waiting::queue),
        ("resources", many_paths::resources),
        ("messages", messages::messages),
    ];
    let mut report = Report::default();
    for (name, case) in cases {
        if is_selected(name) {
            case(&mut report);
        }
    }
    report.finish();
}
