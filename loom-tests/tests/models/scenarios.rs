//! Small scenarios of two or three threads. Each ends with the same check: what is outstanding is
//! granted exactly when nothing earlier conflicts, before and after each further release, and at
//! the end the table is empty.

use locktopus_loom_tests::{Lock, LockManager, Pending, Resource, begin};
use loom::model::Builder;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Unseen, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

#[path = "../../../engine/tests/engine/outstanding.rs"]
mod outstanding;
use outstanding::Outstanding;

/// Stands for no bound: every order is explored.
pub(crate) const ALL: usize = usize::MAX;

/// Explores a scenario up to the bound that the environment asks for; see `main.rs`.
pub(crate) fn explore_up_to(quick: usize, full: usize, scenario: fn()) {
    let bound = match std::env::var("LOOM_MAX_PREEMPTIONS") {
        Ok(bound) => bound.parse().expect("LOOM_MAX_PREEMPTIONS is a number"),
        Err(_) if std::env::var_os("LOOM_FULL").is_some() => full,
        Err(_) => quick,
    };
    let begin = Instant::now();
    let executions = explore(bound, scenario);
    println!("{executions} executions in {:.1?}", begin.elapsed());
}

/// Runs a scenario in every order with at most so many preemptions. Returns how many orders there are.
pub(crate) fn explore(preemptions: usize, scenario: fn()) -> usize {
    let mut builder = Builder::new();
    builder.preemption_bound = (preemptions != ALL).then_some(preemptions);
    builder.max_branches = 10_000;
    let executions = Arc::new(Unseen::new(0));
    let counted = Arc::clone(&executions);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        begin();
        scenario();
    });
    executions.load(Relaxed)
}

/// `"w:a/b r:c"` is a write of `a/b` and a read of `c`.
fn set(text: &str) -> Vec<Resource> {
    let resource = |word: &str| match word.split_once(':').expect("r: or w:") {
        ("r", path) => Resource::read(path.split('/').filter(|segment| !segment.is_empty())),
        (_, path) => Resource::write(path.split('/').filter(|segment| !segment.is_empty())),
    };
    text.split_whitespace().map(resource).collect()
}

/// In line, or granted at once.
fn lock(locks: &LockManager, text: &str) -> Pending {
    locks.enqueue(set(text)).expect("open")
}

fn poll(waker: &Waker, pending: &mut Pending) -> Poll<Lock> {
    pin!(pending).poll(&mut Context::from_waker(waker))
}

/// The exact grant rule, for everything that is outstanding.
fn check(locks: &LockManager, outstanding: &[Outstanding]) {
    let conflict = |one: &Outstanding, other: &Outstanding| {
        let others = other.resources();
        one.resources()
            .iter()
            .any(|a| others.iter().any(|b| a.conflicts_with(b)))
    };
    let mut waiting = 0;
    for one in outstanding {
        let earlier = |other: &&Outstanding| other.token() < one.token() && conflict(one, other);
        let blocked = outstanding.iter().any(|other| earlier(&other));
        assert_eq!(
            one.is_acquired(),
            !blocked,
            "the grant rule: {one:?} among {outstanding:?}"
        );
        waiting += usize::from(blocked);
    }
    let stats = locks.stats();
    assert_eq!(
        (stats.acquired, stats.waiting),
        (outstanding.len() - waiting, waiting),
        "the statistics"
    );
    assert_eq!(locks.requests().count(), outstanding.len());
}

/// Checks what is outstanding, and again after each release.
fn check_to_the_end<O: Into<Outstanding>>(locks: &LockManager, outstanding: Vec<O>) {
    let mut outstanding: Vec<Outstanding> = outstanding.into_iter().map(Into::into).collect();
    outstanding.sort_by_key(Outstanding::token);
    check(locks, &outstanding);
    while !outstanding.is_empty() {
        drop(outstanding.remove(0).converted());
        check(locks, &outstanding);
    }
    assert_eq!(locks.stats().resources, 0);
}

/// Each thread queues these sets one after the other; what comes out is outstanding together.
fn queue_together<const N: usize>(threads: [&'static [&'static str]; N]) {
    queue_together_in(LockManager::new(), threads);
}

/// The same where each depth at which a set locks was locked before. So three threads do not race for
/// the marks of depths, too, of which `the_first_lock_of_a_depth` and its neighbour show enough: a tenth
/// of the executions is left.
fn queue_together_at_known_depths<const N: usize>(threads: [&'static [&'static str]; N]) {
    let locks = LockManager::new();
    let resources = threads
        .iter()
        .flat_map(|sets| *sets)
        .flat_map(|text| set(text));
    let depths: BTreeSet<_> = resources.map(|it| (it.mode, it.path.depth())).collect();
    for (mode, depth) in depths {
        let path = std::iter::repeat_n("z", depth).collect();
        drop(locks.enqueue([Resource { path, mode }]).expect("open"));
    }
    queue_together_in(locks, threads);
}

fn queue_together_in<const N: usize>(locks: LockManager, threads: [&'static [&'static str]; N]) {
    let run = |sets: &'static [&'static str]| {
        let locks = locks.clone();
        move || {
            sets.iter()
                .map(|text| lock(&locks, text))
                .collect::<Vec<_>>()
        }
    };
    let [first, others @ ..] = &threads[..] else {
        unreachable!("there is a thread");
    };
    let others: Vec<_> = others.iter().map(|sets| thread::spawn(run(sets))).collect();
    let mut outstanding = run(first)();
    outstanding.extend(
        others
            .into_iter()
            .flat_map(|other| other.join().expect("no panic")),
    );
    check_to_the_end(&locks, outstanding);
}

pub(crate) fn two_requests_over_the_same_two_resources() {
    queue_together([&["w:a w:b"], &["w:b w:a"]]);
}

pub(crate) fn three_requests_that_overlap_pairwise() {
    queue_together_at_known_depths([&["w:a w:b"], &["w:b w:c"], &["w:c w:a"]]);
}

pub(crate) fn parent_child_and_grandchild() {
    queue_together_at_known_depths([&["w:a/b"], &["r:a"], &["w:a/b/c"]]);
}

pub(crate) fn readers_and_a_writer() {
    queue_together_at_known_depths([&["r:a"], &["w:a"], &["r:a"]]);
}

/// The second thread meets the first's request while it may be half inserted, then goes where the
/// first's other entry is to come.
pub(crate) fn a_ticket_before_all_entries_are_there() {
    queue_together([&["w:a w:b"], &["w:a", "w:b"]]);
}

pub(crate) fn help_races_the_owners_ticket() {
    queue_together_at_known_depths([&["w:a"], &["w:a"], &["w:a"]]);
}

/// Tickets and births do not agree: the first's may be drawn between the others'.
pub(crate) fn tickets_overtake_births() {
    queue_together([&["w:a"], &["w:x", "w:a"]]);
}

/// Nothing was ever locked at the depth of the parent before.
pub(crate) fn the_first_lock_of_a_depth() {
    queue_together([&["r:a"], &["w:a/b"]]);
}

/// The third must look up the depth of the second, which may have found it marked by the first.
pub(crate) fn a_depth_that_another_has_marked() {
    queue_together([&["r:x"], &["r:a"], &["w:a/b"]]);
}

pub(crate) fn a_release_races_a_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let releases = thread::spawn(move || holder.withdraw());
    let waiter = lock(&locks, "w:a/b");
    releases.join().expect("no panic");
    check_to_the_end(&locks, vec![waiter]);
}

/// The walk of the parent has to go on behind the child that is released first.
pub(crate) fn a_parent_above_two_children_that_leave() {
    let locks = LockManager::new();
    let (first, second) = (lock(&locks, "w:a/1"), lock(&locks, "w:a/2"));
    let releases = thread::spawn(move || first.withdraw());
    let parent = lock(&locks, "w:a");
    releases.join().expect("no panic");
    check_to_the_end(&locks, vec![second, parent]);
}

pub(crate) fn a_withdrawal_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let writer = lock(&locks, "w:a");
    let reader = lock(&locks, "r:a");
    let releases = thread::spawn(move || holder.withdraw());
    writer.withdraw();
    releases.join().expect("no panic");
    check_to_the_end(&locks, vec![reader]);
}

pub(crate) fn a_withdrawal_races_another() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let (first, second) = (lock(&locks, "w:a"), lock(&locks, "w:a"));
    let reader = lock(&locks, "r:a");
    let withdraws = thread::spawn(move || second.withdraw());
    first.withdraw();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, vec![holder, reader]);
}

pub(crate) fn a_withdrawal_races_a_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "r:a");
    let writer = lock(&locks, "w:a");
    let withdraws = thread::spawn(move || writer.withdraw());
    let reader = lock(&locks, "r:a");
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, vec![holder, reader]);
}

/// The purge that the first withdrawal brings about.
pub(crate) fn a_purge_races_the_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (first, second) = (lock(&locks, "r:a"), lock(&locks, "r:a"));
    let withdraws = thread::spawn(move || first.withdraw());
    holder.withdraw();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, vec![second]);
}

pub(crate) fn a_purge_races_a_new_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (first, second) = (lock(&locks, "r:a"), lock(&locks, "r:a"));
    let withdraws = thread::spawn(move || first.withdraw());
    let third = lock(&locks, "r:a");
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, vec![holder, second, third]);
}

pub(crate) fn a_purge_races_another() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (first, second) = (lock(&locks, "r:a"), lock(&locks, "r:a"));
    let third = lock(&locks, "r:a");
    let withdraws = thread::spawn(move || second.withdraw());
    first.withdraw();
    withdraws.join().expect("no panic");
    check_to_the_end(&locks, vec![holder, third]);
}

/// The same for a lock that is handed over: to a waiter, or to one that has just missed the holder.
pub(crate) fn a_successor_sees_what_the_holder_did() {
    let locks = LockManager::new();
    let done = Arc::new(AtomicUsize::new(0));
    let holder = lock(&locks, "w:a");
    let releases = {
        let done = Arc::clone(&done);
        thread::spawn(move || {
            done.store(1, Ordering::Relaxed);
            holder.withdraw();
        })
    };
    let successor = lock(&locks, "w:a");
    // Not the thread that joins, as below.
    let waits = thread::spawn(move || {
        let lock = successor.wait();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        lock
    });
    releases.join().expect("no panic");
    let successor = waits.join().expect("no panic");
    check_to_the_end(&locks, vec![successor]);
}

/// Each counts up without an atomic step: who does not see what the last holder did loses a count.
pub(crate) fn a_holder_sees_what_the_last_one_did() {
    let locks = LockManager::new();
    let counter = Arc::new(AtomicUsize::new(0));
    let held = Arc::new(Unseen::new(0));
    let run = {
        let (locks, counter, held) = (locks.clone(), Arc::clone(&counter), Arc::clone(&held));
        move || {
            let lock = lock(&locks, "w:a");
            if lock.is_acquired() {
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                held.fetch_add(1, Relaxed);
            }
            lock.withdraw();
        }
    };
    let other = thread::spawn(run.clone());
    run();
    other.join().expect("no panic");
    assert_eq!(counter.load(Ordering::Relaxed), held.load(Relaxed));
    check_to_the_end::<Lock>(&locks, Vec::new());
}

#[derive(Default)]
struct Wakeups(Unseen);

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

pub(crate) fn a_waker_is_registered_while_the_lock_is_granted() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut waiter = lock(&locks, "w:a");
    let releases = thread::spawn(move || holder.withdraw());
    let wakeups = Arc::new(Wakeups::default());
    let waker = Waker::from(Arc::clone(&wakeups));
    let polled = poll(&waker, &mut waiter);
    releases.join().expect("no panic");
    assert!(
        polled.is_ready() || wakeups.0.load(Relaxed) > 0,
        "a lost wake-up"
    );
    match polled {
        Poll::Ready(lock) => check_to_the_end(&locks, vec![lock]),
        Poll::Pending => check_to_the_end(&locks, vec![waiter]),
    }
}

#[derive(Default)]
struct Panics(Unseen);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
        // Without the message that a panic of a check would print.
        resume_unwind(Box::new("from the waker"));
    }
}

/// Whoever meets the release wakes the first reader: the holder, or who comes to lock.
pub(crate) fn a_waker_that_panics_strands_nobody() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let (mut first, second) = (lock(&locks, "r:a"), lock(&locks, "r:a"));
    let panics = Arc::new(Panics::default());
    assert!(poll(&Waker::from(Arc::clone(&panics)), &mut first).is_pending());
    let locking = {
        let locks = locks.clone();
        thread::spawn(move || catch_unwind(AssertUnwindSafe(|| lock(&locks, "r:a"))))
    };
    let released = catch_unwind(AssertUnwindSafe(|| holder.withdraw()));
    let locked = locking.join().expect("no panic");
    assert_eq!(panics.0.load(Relaxed), 1, "woken once");
    assert!(released.is_err() != locked.is_err(), "the panic goes on");
    check_to_the_end(&locks, [first, second].into_iter().chain(locked).collect());
}

/// A poll replaces the waker of an earlier one, which may be purged: the new one must not go with it.
pub(crate) fn a_replaced_waker_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut waiter = lock(&locks, "w:a");
    assert!(poll(Waker::noop(), &mut waiter).is_pending());
    let releases = thread::spawn(move || holder.withdraw());
    let wakeups = Arc::new(Wakeups::default());
    let polled = poll(&Waker::from(Arc::clone(&wakeups)), &mut waiter);
    releases.join().expect("no panic");
    assert!(
        polled.is_ready() || wakeups.0.load(Relaxed) > 0,
        "a lost wake-up"
    );
    match polled {
        Poll::Ready(lock) => check_to_the_end(&locks, vec![lock]),
        Poll::Pending => check_to_the_end(&locks, vec![waiter]),
    }
}

/// The grant may come between the last poll and the drop: then the drop releases the lock.
pub(crate) fn a_dropped_wait_races_the_grant() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut waiter = lock(&locks, "w:a");
    let last = lock(&locks, "w:a");
    assert!(poll(Waker::noop(), &mut waiter).is_pending());
    let releases = thread::spawn(move || holder.withdraw());
    drop(waiter);
    releases.join().expect("no panic");
    check_to_the_end(&locks, vec![last]);
}

pub(crate) fn a_thread_parks_while_the_lock_is_granted() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let waiter = lock(&locks, "w:a");
    // Not the thread that joins: loom would take the wake-up for the end of the other thread.
    let waits = thread::spawn(move || waiter.wait());
    holder.withdraw();
    let waiter = waits.join().expect("no panic");
    check_to_the_end(&locks, vec![waiter]);
}

fn is_drained(locks: &LockManager) -> bool {
    pin!(locks.drained())
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

pub(crate) fn a_close_races_a_lock() {
    let locks = LockManager::new();
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || {
            locks.close();
            // Nobody is granted any more once it has drained.
            is_drained(&locks)
        })
    };
    let locked = locks.enqueue(set("w:a"));
    let drained = closes.join().expect("no panic");
    assert!(
        locked.is_err() || !drained,
        "drained before a lock that was granted"
    );
    assert!(locks.enqueue(set("w:a")).is_err());
    check_to_the_end(&locks, locked.into_iter().collect());
    assert!(is_drained(&locks));
}

pub(crate) fn draining_races_the_last_release() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a w:b");
    locks.close();
    let releases = thread::spawn(move || holder.withdraw());
    let wakeups = Arc::new(Wakeups::default());
    let waker = Waker::from(Arc::clone(&wakeups));
    let mut drained = pin!(locks.drained());
    let mut context = Context::from_waker(&waker);
    let at_once = drained.as_mut().poll(&mut context).is_ready();
    let left = locks.requests().count();
    assert!(!at_once || left == 0, "drained before {left} requests");
    releases.join().expect("no panic");
    assert!(at_once || wakeups.0.load(Relaxed) > 0, "a lost wake-up");
    assert!(is_drained(&locks));
    check_to_the_end::<Lock>(&locks, Vec::new());
}

pub(crate) fn a_try_races_a_lock() {
    let locks = LockManager::new();
    let tries = {
        let locks = locks.clone();
        thread::spawn(move || locks.try_lock(set("w:a/b")).expect("open"))
    };
    let locked = lock(&locks, "w:a");
    let tried = tries.join().expect("no panic");
    assert!(tried.is_some() || locked.is_acquired());
    let tried = tried.into_iter().map(Outstanding::from);
    check_to_the_end(&locks, tried.chain([locked.into()]).collect());
}

pub(crate) fn two_tries_race() {
    let locks = LockManager::new();
    let tries = {
        let locks = locks.clone();
        thread::spawn(move || locks.try_lock(set("w:a")).expect("open"))
    };
    let first = locks.try_lock(set("w:a")).expect("open");
    let second = tries.join().expect("no panic");
    assert_eq!(
        usize::from(first.is_some()) + usize::from(second.is_some()),
        1
    );
    check_to_the_end(&locks, first.into_iter().chain(second).collect());
}
