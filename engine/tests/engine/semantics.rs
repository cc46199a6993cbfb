//! Every rule of conflict, order, grant and withdrawal as a named example, with the hard cases of the Go
//! original.

use super::{enqueue, granted, lock, set};
use locktopus_engine::{Lock, LockManager, Path, Pending, Resource};

/// Enqueues the first set, then the second: whether the second has to wait.
fn sets_conflict(first: Vec<Resource>, second: Vec<Resource>) -> bool {
    let locks = LockManager::new();
    let first = granted(locks.enqueue(first).expect("open"));
    let second = locks.enqueue(second).expect("open");
    let blocked = !second.is_acquired();
    first.release();
    assert!(second.is_acquired(), "nothing is left to wait for");
    blocked
}

fn blocks(first: &str, second: &str) -> bool {
    sets_conflict(set(first), set(second))
}

#[test]
fn the_first_request_is_granted_at_once() {
    let locks = LockManager::new();
    for text in ["w:", "r:", "w:a", "r:a/b/c", "w:a w:b r:c"] {
        lock(&locks, text).release();
    }
}

#[test]
fn only_reads_share_a_path() {
    assert!(blocks("w:a", "w:a"));
    assert!(blocks("w:a", "r:a"));
    assert!(blocks("r:a", "w:a"));
    assert!(!blocks("r:a", "r:a"));
}

#[test]
fn a_path_locks_its_subtree_in_both_orders() {
    for (above, below) in [
        ("a", "a/b"),
        ("a", "a/b/c"),
        ("", "a"),
        ("", "a/b/c"),
        ("a/b", "a/b/"),
    ] {
        for (first, second) in [(above, below), (below, above)] {
            assert!(blocks(&format!("w:{first}"), &format!("w:{second}")));
            assert!(blocks(&format!("r:{first}"), &format!("w:{second}")));
            assert!(blocks(&format!("w:{first}"), &format!("r:{second}")));
            assert!(!blocks(&format!("r:{first}"), &format!("r:{second}")));
        }
    }
}

#[test]
fn siblings_do_not_conflict() {
    for (first, second) in [
        ("a", "b"),
        ("a/b", "a/c"),
        ("a/b/c", "a/bc"),
        ("a", "aa"),
        ("a/", "a/b"),
        ("ab/c", "a/bc"),
    ] {
        assert!(
            !blocks(&format!("w:{first}"), &format!("w:{second}")),
            "{first} and {second}"
        );
    }
    let one_segment = || vec![Resource::write(["a/b"])];
    assert!(!sets_conflict(one_segment(), set("w:a/b")));
    let empty_segment = || vec![Resource::write([""])];
    assert!(!sets_conflict(empty_segment(), set("w:a")));
}

#[test]
fn a_write_on_a_parent_waits_for_reads_and_writes_of_children() {
    let locks = LockManager::new();
    let children = ["w:a/1", "r:a/2", "r:a/2", "w:a/3/x"].map(|text| lock(&locks, text));
    let reader = enqueue(&locks, "r:a");
    assert!(!reader.is_acquired(), "it waits for the writes below");
    let parent = enqueue(&locks, "w:a");
    for child in children {
        assert!(!parent.is_acquired());
        child.release();
    }
    assert!(!parent.is_acquired());
    granted(reader).release();
    assert!(parent.is_acquired());
}

#[test]
fn a_waiting_parent_keeps_later_children_back() {
    let locks = LockManager::new();
    let child = lock(&locks, "r:a/1");
    let parent = enqueue(&locks, "w:a");
    let later = ["r:a/1", "w:a/2", "r:a/2/x"].map(|text| enqueue(&locks, text));
    let _other = lock(&locks, "w:b");
    assert!(later.iter().all(|later| !later.is_acquired()));
    child.release();
    assert!(parent.is_acquired());
    assert!(later.iter().all(|later| !later.is_acquired()));
    granted(parent).release();
    assert!(later[0].is_acquired() && later[1].is_acquired() && !later[2].is_acquired());
}

#[test]
fn writers_are_granted_in_order_of_arrival() {
    let locks = LockManager::new();
    let mut queue: Vec<Pending> = (0..100).map(|_| enqueue(&locks, "w:a")).collect();
    while !queue.is_empty() {
        let acquired: Vec<bool> = queue.iter().map(Pending::is_acquired).collect();
        assert!(acquired[0] && acquired[1..].iter().all(|acquired| !acquired));
        granted(queue.remove(0)).release();
    }
}

#[test]
fn a_reader_does_not_overtake_a_waiting_writer() {
    let locks = LockManager::new();
    let reader = lock(&locks, "r:a");
    let writer = enqueue(&locks, "w:a");
    let late = enqueue(&locks, "r:a");
    assert!(!writer.is_acquired() && !late.is_acquired());
    reader.release();
    assert!(writer.is_acquired() && !late.is_acquired());
    granted(writer).release();
    assert!(late.is_acquired());
}

#[test]
fn all_readers_behind_a_writer_are_granted_together() {
    let locks = LockManager::new();
    let writer = lock(&locks, "w:a");
    let readers: Vec<Pending> = (0..1000)
        .map(|i| enqueue(&locks, &format!("r:a/{i} r:a")))
        .collect();
    assert_eq!(locks.stats().waiting, 1000);
    writer.release();
    assert!(readers.iter().all(Pending::is_acquired));
    assert_eq!(locks.stats().waiting, 0);
}

#[test]
fn a_set_is_granted_as_a_whole() {
    let locks = LockManager::new();
    let a = lock(&locks, "w:a");
    let b = lock(&locks, "w:b");
    let both = enqueue(&locks, "w:a w:b w:c");
    let c = enqueue(&locks, "w:c");
    a.release();
    assert!(!both.is_acquired());
    assert!(
        !c.is_acquired(),
        "c is free, but an earlier request needs it"
    );
    b.release();
    assert!(both.is_acquired() && !c.is_acquired());
    granted(both).release();
    assert!(c.is_acquired());
}

#[test]
fn the_same_two_resources_in_opposite_order_do_not_deadlock() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a w:b");
    let second = enqueue(&locks, "w:b w:a");
    assert!(!second.is_acquired());
    first.release();
    assert!(second.is_acquired());
}

#[test]
fn resources_that_overlap_within_one_request_do_not_block_it() {
    for text in [
        "w:a w:a",
        "r:a w:a",
        "w:a r:a/b w:a/b/c",
        "r:a w:a/b r:a/b/c w:a/b/c/d",
        "w: r:a w:b",
        "r:a/b w:a",
    ] {
        let locks = LockManager::new();
        let one = enqueue(&locks, text);
        assert!(one.is_acquired(), "{text}");
        let next = enqueue(&locks, text);
        assert!(!next.is_acquired(), "{text}");
        granted(one).release();
        assert!(next.is_acquired(), "{text}");
    }
}

#[test]
fn read_and_write_of_one_path_act_as_a_write() {
    assert!(blocks("r:a w:a", "r:a"));
    assert!(blocks("w:a r:a", "r:a"));
}

#[test]
fn read_of_a_parent_with_write_of_its_child_act_as_both() {
    let locks = LockManager::new();
    let one = lock(&locks, "r:a w:a/b");
    assert!(enqueue(&locks, "r:a/c").is_acquired());
    assert!(!enqueue(&locks, "w:a/c").is_acquired());
    assert!(!enqueue(&locks, "r:a").is_acquired(), "the write below");
    assert!(!enqueue(&locks, "r:a/b").is_acquired());
    one.release();
}

#[test]
fn a_covered_resource_does_not_hide_the_one_that_covers_it() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a/1");
    let second = enqueue(&locks, "r:a/1/2 w:a/1");
    let third = enqueue(&locks, "r:a/1");
    first.release();
    assert!(second.is_acquired() && !third.is_acquired());
}

#[test]
fn partly_overlapping_sets_are_granted_one_after_another() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a/1 w:a/2 w:a/3");
    let second = enqueue(&locks, "r:a/3 r:a/4 r:a/5");
    let third = enqueue(&locks, "w:a/5 w:a/6 w:a/7");
    assert!(!second.is_acquired() && !third.is_acquired());
    first.release();
    assert!(second.is_acquired() && !third.is_acquired());
    granted(second).release();
    assert!(third.is_acquired());
}

#[test]
fn the_root_conflicts_with_every_path() {
    let locks = LockManager::new();
    let leaf = lock(&locks, "w:a/b/c");
    let root = enqueue(&locks, "w:");
    let other = enqueue(&locks, "r:x");
    assert!(!root.is_acquired() && !other.is_acquired());
    leaf.release();
    granted(root).release();
    assert!(other.is_acquired());
}

#[test]
fn withdrawn_writer_lets_the_next_reader_in() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let writer = enqueue(&locks, "w:a");
    let reader = enqueue(&locks, "r:a");
    writer.withdraw();
    assert!(reader.is_acquired());
    holder.release();
    assert!(reader.is_acquired());
}

#[test]
fn withdrawal_in_the_middle_of_a_queue_keeps_the_order() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = enqueue(&locks, "w:a");
    let third = enqueue(&locks, "w:a");
    second.withdraw();
    assert!(!third.is_acquired());
    first.release();
    assert!(third.is_acquired());
}

#[test]
fn the_queue_pictured_in_the_readme_behaves_as_described() {
    let queue = || {
        let locks = LockManager::new();
        let sets = [
            "w:user/it",
            "r:user",
            "w:user/it/42",
            "r:user/us",
            "w:reports",
        ];
        sets.map(|text| enqueue(&locks, text))
    };
    let all = queue();
    let acquired = all.each_ref().map(Pending::is_acquired);
    assert_eq!(acquired, [true, false, false, true, true]);
    let [one, two, three, ..] = all;
    granted(one).release();
    assert!(two.is_acquired() && !three.is_acquired());
    let [one, two, three, ..] = queue();
    two.withdraw();
    assert!(!three.is_acquired());
    granted(one).release();
    assert!(three.is_acquired());
}

#[test]
fn dropping_a_lock_releases_it() {
    let locks = LockManager::new();
    drop(lock(&locks, "w:a"));
    let _held = lock(&locks, "w:a");
    drop(enqueue(&locks, "w:a"));
    assert_eq!(locks.stats().resources, 1);
}

#[test]
fn try_lock_takes_all_or_leaves_nothing() {
    let locks = LockManager::new();
    let _held = locks.try_lock(set("w:a r:b")).expect("open").expect("free");
    for text in ["w:b", "r:a", "w:c w:a/x", "w:"] {
        assert!(locks.try_lock(set(text)).expect("open").is_none());
    }
    assert_eq!(locks.requests().count(), 1);
    assert!(locks.try_lock(set("r:b w:c")).expect("open").is_some());
}

#[test]
fn try_lock_does_not_overtake_a_waiting_request() {
    let locks = LockManager::new();
    let _reader = lock(&locks, "r:a");
    let writer = enqueue(&locks, "w:a");
    assert!(locks.try_lock(set("r:a")).expect("open").is_none());
    writer.withdraw();
    assert!(locks.try_lock(set("r:a")).expect("open").is_some());
}

#[test]
fn paths_deeper_than_the_depth_marks_still_conflict() {
    for depth in [62, 63, 64, 65, 100] {
        let locks = LockManager::new();
        let path = |depth| Path::from((0..depth).map(|_| "x"));
        let enqueue = |resource| locks.enqueue([resource]).unwrap();
        let below = granted(enqueue(Resource::write(path(depth + 1))));
        let at = enqueue(Resource::write(path(depth)));
        let above = enqueue(Resource::read(path(depth - 1)));
        let below_again = enqueue(Resource::read(path(depth + 20)));
        assert!(!at.is_acquired() && !above.is_acquired() && !below_again.is_acquired());
        below.release();
        assert!(at.is_acquired() && !above.is_acquired() && !below_again.is_acquired());
        granted(at).release();
        assert!(above.is_acquired() && below_again.is_acquired());
    }
}

#[test]
fn a_holder_that_panics_releases_its_lock_without_poisoning() {
    let locks = LockManager::new();
    let next = std::thread::scope(|scope| {
        let holder: Lock = lock(&locks, "w:a");
        let next = enqueue(&locks, "w:a");
        let panics = scope.spawn(move || {
            let _holder = holder;
            // Without the message that `panic!` would print.
            std::panic::resume_unwind(Box::new("in the critical section"));
        });
        let next = next.wait();
        assert!(panics.join().is_err());
        next
    });
    next.release();
    lock(&locks, "w:a").release();
    assert_eq!(locks.stats().resources, 0);
}
