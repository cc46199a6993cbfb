//! Every rule of the lock manager as a named example, the hard cases of the Go original included.

use locktopus_engine::{
    Lock, LockError, LockManager, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES, Path, RequestState,
    Resource,
};

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

/// `"w:a/b r:c"` is a write of `a/b` and a read of `c`.
fn set(text: &str) -> Vec<Resource> {
    let resource = |word: &str| match word.split_once(':') {
        Some(("r", text)) => Resource::read(path(text)),
        Some(("w", text)) => Resource::write(path(text)),
        _ => panic!("neither r: nor w: in {word}"),
    };
    text.split_whitespace().map(resource).collect()
}

fn lock(locks: &LockManager, text: &str) -> Lock {
    locks.lock(set(text)).expect("queued")
}

/// Queues the first set, then the second: whether the second has to wait.
fn blocks(first: &str, second: &str) -> bool {
    let locks = LockManager::new();
    let first = lock(&locks, first);
    assert!(first.is_acquired());
    let second = lock(&locks, second);
    let blocked = !second.is_acquired();
    first.release();
    assert!(second.is_acquired(), "nothing is left to wait for");
    blocked
}

#[test]
fn the_first_request_is_granted_at_once() {
    let locks = LockManager::new();
    for text in ["w:", "r:", "w:a", "r:a/b/c", "w:a w:b r:c"] {
        assert!(lock(&locks, text).is_acquired());
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
        (r"a\/b", "a/b"),
        (r"\e", "a"),
    ] {
        assert!(
            !blocks(&format!("w:{first}"), &format!("w:{second}")),
            "{first} and {second}"
        );
    }
}

#[test]
fn a_write_on_a_parent_waits_for_reads_and_writes_of_children() {
    let locks = LockManager::new();
    let children = ["w:a/1", "r:a/2", "r:a/2", "w:a/3/x", "r:a"];
    let mut children: Vec<Lock> = children.iter().map(|text| lock(&locks, text)).collect();
    let late = children.pop().expect("the last");
    assert!(!late.is_acquired(), "it waits for the writes below");
    let parent = lock(&locks, "w:a");
    for child in children {
        assert!(!parent.is_acquired());
        child.release();
    }
    assert!(late.is_acquired() && !parent.is_acquired());
    late.release();
    assert!(parent.is_acquired());
}

#[test]
fn a_waiting_parent_keeps_later_children_back() {
    let locks = LockManager::new();
    let child = lock(&locks, "r:a/1");
    let parent = lock(&locks, "w:a");
    let later = [
        lock(&locks, "r:a/1"),
        lock(&locks, "w:a/2"),
        lock(&locks, "r:a/2/x"),
    ];
    let other = lock(&locks, "w:b");
    assert!(other.is_acquired());
    assert!(later.iter().all(|later| !later.is_acquired()));
    child.release();
    assert!(parent.is_acquired());
    assert!(later.iter().all(|later| !later.is_acquired()));
    parent.release();
    assert!(later[0].is_acquired() && later[1].is_acquired() && !later[2].is_acquired());
}

#[test]
fn writers_are_served_in_the_order_they_came() {
    let locks = LockManager::new();
    let mut queue: Vec<Lock> = (0..100).map(|_| lock(&locks, "w:a")).collect();
    while !queue.is_empty() {
        let acquired: Vec<bool> = queue.iter().map(Lock::is_acquired).collect();
        assert!(acquired[0] && acquired[1..].iter().all(|acquired| !acquired));
        queue.remove(0).release();
    }
}

#[test]
fn a_reader_does_not_overtake_a_waiting_writer() {
    let locks = LockManager::new();
    let reader = lock(&locks, "r:a");
    let writer = lock(&locks, "w:a");
    let late = lock(&locks, "r:a");
    assert!(!writer.is_acquired() && !late.is_acquired());
    reader.release();
    assert!(writer.is_acquired() && !late.is_acquired());
    writer.release();
    assert!(late.is_acquired());
}

#[test]
fn all_readers_behind_a_writer_are_granted_together() {
    let locks = LockManager::new();
    let writer = lock(&locks, "w:a");
    let readers: Vec<Lock> = (0..1000)
        .map(|i| lock(&locks, &format!("r:a/{i} r:a")))
        .collect();
    assert_eq!(locks.stats().waiting, 1000);
    writer.release();
    assert!(readers.iter().all(Lock::is_acquired));
    assert_eq!(locks.stats().waiting, 0);
}

#[test]
fn a_set_is_granted_as_a_whole() {
    let locks = LockManager::new();
    let a = lock(&locks, "w:a");
    let b = lock(&locks, "w:b");
    let both = lock(&locks, "w:a w:b w:c");
    let c = lock(&locks, "w:c");
    a.release();
    assert!(
        !both.is_acquired() && !c.is_acquired(),
        "c is free but promised"
    );
    b.release();
    assert!(both.is_acquired() && !c.is_acquired());
    both.release();
    assert!(c.is_acquired());
}

#[test]
fn the_same_two_resources_in_opposite_order_do_not_deadlock() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a w:b");
    let second = lock(&locks, "w:b w:a");
    assert!(first.is_acquired() && !second.is_acquired());
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
        let one = lock(&locks, text);
        assert!(one.is_acquired(), "{text}");
        let next = lock(&locks, text);
        assert!(!next.is_acquired(), "{text}");
        one.release();
        assert!(next.is_acquired(), "{text}");
    }
}

#[test]
fn a_read_and_a_write_of_one_path_is_a_write() {
    assert!(blocks("r:a w:a", "r:a"));
    assert!(blocks("w:a r:a", "r:a"));
}

#[test]
fn a_read_of_a_parent_with_a_write_of_its_child_is_both() {
    let locks = LockManager::new();
    let one = lock(&locks, "r:a w:a/b");
    assert!(lock(&locks, "r:a/c").is_acquired());
    assert!(!lock(&locks, "w:a/c").is_acquired());
    assert!(!lock(&locks, "r:a").is_acquired(), "the write below");
    assert!(!lock(&locks, "r:a/b").is_acquired());
    one.release();
}

#[test]
fn the_head_of_a_set_does_not_hide_its_tail() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a/1");
    let second = lock(&locks, "r:a/1/2 w:a/1");
    let third = lock(&locks, "r:a/1");
    first.release();
    assert!(second.is_acquired() && !third.is_acquired());
}

#[test]
fn partly_overlapping_sets_are_chained() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a/1 w:a/2 w:a/3");
    let second = lock(&locks, "r:a/3 r:a/4 r:a/5");
    let third = lock(&locks, "w:a/5 w:a/6 w:a/7");
    assert!(!second.is_acquired() && !third.is_acquired());
    first.release();
    assert!(second.is_acquired() && !third.is_acquired());
    second.release();
    assert!(third.is_acquired());
}

#[test]
fn the_root_is_everything() {
    let locks = LockManager::new();
    let leaf = lock(&locks, "w:a/b/c");
    let root = lock(&locks, "w:");
    let other = lock(&locks, "r:x");
    assert!(!root.is_acquired() && !other.is_acquired());
    leaf.release();
    assert!(root.is_acquired());
    root.release();
    assert!(other.is_acquired());
}

#[test]
fn withdrawn_writer_lets_the_next_reader_in() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let writer = lock(&locks, "w:a");
    let reader = lock(&locks, "r:a");
    writer.release();
    assert!(reader.is_acquired());
    holder.release();
    assert!(reader.is_acquired());
}

#[test]
fn withdrawal_in_the_middle_of_a_queue_keeps_the_order() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = lock(&locks, "w:a");
    let third = lock(&locks, "w:a");
    second.release();
    assert!(!third.is_acquired());
    first.release();
    assert!(third.is_acquired());
}

#[test]
fn the_picture_in_the_readme_is_true() {
    let queue = || {
        let locks = LockManager::new();
        let sets = [
            "w:user/it",
            "r:user",
            "w:user/it/42",
            "r:user/us",
            "w:reports",
        ];
        sets.map(|text| lock(&locks, text))
    };
    let acquired =
        |locks: &[&Lock]| -> Vec<bool> { locks.iter().map(|lock| lock.is_acquired()).collect() };
    let [one, two, three, four, five] = queue();
    let all = [&one, &two, &three, &four, &five];
    assert_eq!(acquired(&all), [true, false, false, true, true]);
    one.release();
    assert_eq!(acquired(&[&two, &three]), [true, false]);
    let [one, two, three, ..] = queue();
    two.release();
    assert!(!three.is_acquired());
    one.release();
    assert!(three.is_acquired());
}

#[test]
fn dropping_a_lock_releases_it() {
    let locks = LockManager::new();
    drop(lock(&locks, "w:a"));
    let held = lock(&locks, "w:a");
    assert!(held.is_acquired());
    drop(lock(&locks, "w:a"));
    assert_eq!(locks.stats().resources, 1);
}

#[test]
fn tokens_grow_and_belong_to_one_lock() {
    let locks = LockManager::new();
    assert_eq!(locks.stats().last_token, 0);
    let mut last = 0;
    for text in ["w:a", "w:a", "r:b", "w:c"] {
        let lock = lock(&locks, text);
        assert!(lock.token() > last);
        last = lock.token();
        assert_eq!(locks.stats().last_token, last);
    }
}

#[test]
fn tokens_of_a_successor_go_on() {
    let locks = LockManager::with_last_token(41);
    assert_eq!(locks.stats().last_token, 41);
    assert_eq!(lock(&locks, "w:a").token(), 42);
}

#[test]
fn try_lock_takes_all_or_leaves_nothing() {
    let locks = LockManager::new();
    let held = locks.try_lock(set("w:a r:b")).expect("open").expect("free");
    assert!(held.is_acquired());
    for text in ["w:b", "r:a", "w:c w:a/x", "w:"] {
        assert!(locks.try_lock(set(text)).expect("open").is_none());
    }
    assert_eq!(locks.requests().count(), 1);
    assert!(locks.try_lock(set("r:b w:c")).expect("open").is_some());
}

#[test]
fn try_lock_does_not_overtake_one_that_waits() {
    let locks = LockManager::new();
    let _reader = lock(&locks, "r:a");
    let writer = lock(&locks, "w:a");
    assert!(locks.try_lock(set("r:a")).expect("open").is_none());
    writer.release();
    assert!(locks.try_lock(set("r:a")).expect("open").is_some());
}

#[test]
fn limits_are_errors_and_leave_nothing() {
    let locks = LockManager::new();
    let deep = |depth| Resource::read((0..depth).map(|_| "x"));
    let long = |bytes: usize| Resource::read(["x".repeat(bytes - 1)]);
    let many = |count: usize| (0..count).map(|i| Resource::read([i.to_string()]));

    assert_eq!(locks.lock([]).unwrap_err(), LockError::NoResources);
    assert_eq!(locks.try_lock([]).unwrap_err(), LockError::NoResources);
    let depth = MAX_DEPTH + 1;
    assert_eq!(
        locks.lock([deep(depth)]).unwrap_err(),
        LockError::PathTooDeep { depth }
    );
    let bytes = MAX_PATH_BYTES + 1;
    assert_eq!(
        locks.lock([long(bytes)]).unwrap_err(),
        LockError::PathTooLong { bytes }
    );
    assert_eq!(
        locks.lock([deep(1), long(bytes)]).unwrap_err(),
        LockError::PathTooLong { bytes }
    );
    assert_eq!(
        locks.lock(many(MAX_RESOURCES + 1)).unwrap_err(),
        LockError::TooManyResources
    );
    // An endless iterator is cut short, too.
    assert_eq!(
        locks.lock((0..).map(|_| deep(1))).unwrap_err(),
        LockError::TooManyResources
    );
    assert_eq!(locks.stats().resources, 0);
    assert_eq!(locks.stats().last_token, 0);

    assert!(locks.lock([deep(MAX_DEPTH)]).unwrap().is_acquired());
    assert!(locks.lock([long(MAX_PATH_BYTES)]).unwrap().is_acquired());
    assert!(locks.lock(many(MAX_RESOURCES)).unwrap().is_acquired());
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn paths_deeper_than_the_depth_marks_still_conflict() {
    for depth in [62, 63, 64, 65, 100] {
        let locks = LockManager::new();
        let path = |depth| Path::from((0..depth).map(|_| "x"));
        let below = locks.lock([Resource::write(path(depth + 1))]).unwrap();
        let at = locks.lock([Resource::write(path(depth))]).unwrap();
        let above = locks.lock([Resource::read(path(depth - 1))]).unwrap();
        let below_again = locks.lock([Resource::read(path(depth + 20))]).unwrap();
        assert!(!at.is_acquired() && !above.is_acquired() && !below_again.is_acquired());
        below.release();
        assert!(at.is_acquired() && !above.is_acquired() && !below_again.is_acquired());
        at.release();
        assert!(above.is_acquired() && below_again.is_acquired());
    }
}

#[test]
fn listing_tells_who_holds_who_waits_and_why() {
    let locks = LockManager::new();
    let reader = lock(&locks, "r:b r:a");
    let writer = lock(&locks, "w:a/x");
    let last = lock(&locks, "w:a/x/y");
    let mut listed: Vec<_> = locks.requests().collect();
    listed.sort_by_key(|request| request.token);
    let facts: Vec<_> = listed
        .iter()
        .map(|request| (request.token, request.state, request.waits_for))
        .collect();
    assert_eq!(
        facts,
        [
            (reader.token(), RequestState::Acquired, None),
            (writer.token(), RequestState::Waiting, Some(reader.token())),
            (last.token(), RequestState::Waiting, Some(writer.token())),
        ]
    );
    assert_eq!(listed[0].resources, set("r:a r:b"));
    reader.release();
    writer.release();
    assert_eq!(locks.requests().count(), 1);
    assert_eq!(locks.requests().next().unwrap().waits_for, None);
}

#[test]
fn statistics_count_requests_and_resources() {
    let locks = LockManager::new();
    let figures = || {
        let stats = locks.stats();
        (stats.acquired, stats.waiting, stats.resources)
    };
    let first = lock(&locks, "w:a r:b r:c");
    let second = lock(&locks, "w:a w:a/b");
    let third = lock(&locks, "r:c");
    assert_eq!(figures(), (2, 1, 5));
    first.release();
    assert_eq!(figures(), (2, 0, 2));
    drop((second, third));
    assert_eq!(figures(), (0, 0, 0));
}

#[test]
fn after_close_new_locks_are_refused_and_old_ones_go_on() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = lock(&locks, "w:a");
    let clone = locks.clone();
    clone.close();
    clone.close();
    assert!(locks.is_closed() && locks.stats().closed);
    assert_eq!(locks.lock(set("w:b")).unwrap_err(), LockError::Closed);
    assert_eq!(locks.try_lock(set("w:b")).unwrap_err(), LockError::Closed);
    assert_eq!(locks.stats().last_token, second.token());
    first.release();
    assert!(second.is_acquired());
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn handles_may_go_to_other_threads() {
    fn sendable<T: Send + Sync + 'static>(_: &T) {}
    let locks = LockManager::new();
    sendable(&locks);
    sendable(&lock(&locks, "w:a"));
    sendable(&locks.drained());
    fn also<T: Send + Sync>(_: T) {}
    also(lock(&locks, "w:a").acquired());
}

#[test]
fn a_lock_outlives_its_manager() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let second = lock(&locks, "w:a");
    drop(locks);
    first.release();
    assert!(second.is_acquired());
}
