//! The blockers of a request while others end.

use super::shared::{Outstanding, check_to_the_end, enqueue, lock, set};
use super::{LockManager, Pending, RequestState};
use loom::thread;

/// The second holder and the writer in line are there throughout; the first holder ends.
pub(crate) fn blockers_are_listed_during_a_release() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "r:a/1"), lock(&locks, "w:a/2 w:a/3"));
    let waiting: Pending = enqueue(&locks, "w:a");
    let token = second.token();
    let releases = thread::spawn(move || first.release());
    let tokens: Vec<u64> = waiting.blockers().map(|one| one.token).collect();
    releases.join().expect("no panic");
    let of_second = tokens.iter().filter(|one| **one == token).count();
    assert!(of_second == 1, "{tokens:?}");
    assert!(tokens.len() <= 2, "{tokens:?}");
    check_to_the_end(&locks, [Outstanding::from(second), waiting.into()]);
}

/// The reader at the root stays. The writer on the way to it is withdrawn.
pub(crate) fn the_root_is_looked_for_during_a_withdrawal() {
    let locks = LockManager::new();
    let (reader, writer) = (enqueue(&locks, "r:a"), enqueue(&locks, "w:a"));
    let withdraws = thread::spawn(move || writer.withdraw());
    let root = (locks.blockers_before(9, set("w:a")))
        .expect("a set")
        .root_holder();
    withdraws.join().expect("no panic");
    let root = root.expect("the reader stays");
    assert_eq!(
        (root.token, root.state),
        (reader.token(), RequestState::Acquired)
    );
    check_to_the_end(&locks, [reader]);
}
