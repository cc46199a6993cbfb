//! Tests of the lock manager through its public face, in one program.

mod blockers;
mod bug_finder;
mod handles;
mod listing;
mod manager;
mod narrow;
mod oracle;
mod outstanding;
mod paths;
mod restored;
mod reuse;
mod semantics;
#[cfg(feature = "serde")]
mod serialized;
mod steps;
mod waiting;
mod wanted;

use locktopus_engine::{Lock, LockManager, Options, Path, Pending, Resource};

/// `"w:a/b r:c"` is a write of `a/b` and a read of `c`; `"w:"` is a write of the root.
fn set(text: &str) -> Vec<Resource> {
    let path = |text: &str| match text {
        "" => Path::root(),
        text => Path::from(text.split('/')),
    };
    let resource = |word: &str| match word.split_once(':') {
        Some(("r", text)) => Resource::read(path(text)),
        Some(("w", text)) => Resource::write(path(text)),
        _ => panic!("neither r: nor w: in {word}"),
    };
    text.split_whitespace().map(resource).collect()
}

fn enqueue(locks: &LockManager, text: &str) -> Pending {
    locks.enqueue(set(text)).expect("open")
}

/// Locks a set that must be free.
fn lock(locks: &LockManager, text: &str) -> Lock {
    granted(enqueue(locks, text))
}

/// The lock of a request that must have been granted.
fn granted(pending: Pending) -> Lock {
    pending.try_acquired().expect("granted")
}

/// The example `bug_finder` runs without end.
#[test]
fn eight_threads_find_no_bug() {
    for options in [Options::new(), Options::new().places(8).eager()] {
        let report = bug_finder::hunt(8, 10_000, fastrand::u64(..), options);
        let rare = [report.withdrawals, report.refused_tries];
        let common = [report.again, report.prepared, report.narrowed];
        assert!(report.grants > 10_000, "{report}");
        assert!(rare.iter().all(|count| *count > 100), "{report}");
        assert!(common.iter().all(|count| *count > 1_000), "{report}");
    }
}
