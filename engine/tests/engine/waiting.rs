//! Waiting for a grant, as a task and as a thread, and waiting for a closed lock manager to drain.

use super::{enqueue, granted, lock, set};
use locktopus_engine::{LockManager, Pending};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Counts how often it is woken.
#[derive(Default)]
struct Wakeups(AtomicUsize);

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Task {
    wakeups: Arc<Wakeups>,
    waker: Waker,
}

impl Task {
    pub(crate) fn new() -> Task {
        let wakeups = Arc::new(Wakeups::default());
        let waker = Waker::from(Arc::clone(&wakeups));
        Task { wakeups, waker }
    }

    pub(crate) fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker))
    }

    pub(crate) fn wakeups(&self) -> usize {
        self.wakeups.0.load(Ordering::Relaxed)
    }
}

/// Polls once with this waker.
pub(crate) fn poll_with<F: Future>(waker: &Waker, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Runs the future to its end, parking the thread between polls.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match poll_with(&waker, future.as_mut()) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_task_is_woken_once_when_it_is_granted() {
    let locks = LockManager::new();
    let (first, mut second) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let task = Task::new();
    for _ in 0..3 {
        assert!(task.poll(pin!(&mut second)).is_pending());
    }
    assert_eq!(task.wakeups(), 0);
    first.release();
    assert_eq!(task.wakeups(), 1);
    assert!(task.poll(pin!(&mut second)).is_ready());
    assert!(second.is_acquired(), "it stays acquired");
}

#[test]
fn an_async_lock_is_woken_once_when_it_is_granted() {
    let locks = LockManager::new();
    let first = block_on(locks.lock(set("w:a"))).expect("open");
    let task = Task::new();
    let mut second = pin!(locks.lock(set("w:a")));
    for _ in 0..3 {
        assert!(task.poll(second.as_mut()).is_pending());
    }
    first.release();
    assert_eq!(task.wakeups(), 1);
    let Poll::Ready(Ok(second)) = task.poll(second.as_mut()) else {
        panic!("the lock was granted");
    };
    assert_eq!(second.token(), 2);
}

#[test]
fn a_dropped_borrow_keeps_the_place_in_line() {
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let (mut second, third) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    let task = Task::new();
    {
        let borrowed = pin!(&mut second);
        assert!(task.poll(borrowed).is_pending());
    }
    first.release();
    assert!(second.is_acquired() && !third.is_acquired());
    assert_eq!(task.wakeups(), 1, "the latest waker is still registered");
}

#[test]
fn only_the_latest_waker_is_woken() {
    let locks = LockManager::new();
    let (first, mut second) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let tasks: Vec<Task> = (0..100).map(|_| Task::new()).collect();
    for task in &tasks {
        assert!(task.poll(pin!(&mut second)).is_pending());
    }
    first.release();
    let wakeups: usize = tasks.iter().map(Task::wakeups).sum();
    assert_eq!((wakeups, tasks[99].wakeups()), (1, 1));
    assert!(tasks[0].poll(pin!(&mut second)).is_ready());
}

#[test]
fn two_tasks_may_poll_one_request_in_turn() {
    let locks = LockManager::new();
    let (first, mut second) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let tasks = [Task::new(), Task::new()];
    for task in tasks.iter().cycle().take(101) {
        assert!(task.poll(pin!(&mut second)).is_pending());
    }
    first.release();
    assert_eq!(tasks.map(|task| task.wakeups()), [1, 0]);
}

#[test]
fn all_readers_behind_a_writer_are_woken() {
    let locks = LockManager::new();
    let writer = lock(&locks, "w:a");
    let mut readers: Vec<(Task, Pending)> = (0..100)
        .map(|_| (Task::new(), enqueue(&locks, "r:a")))
        .collect();
    for (task, reader) in &mut readers {
        assert!(task.poll(pin!(reader)).is_pending());
    }
    writer.release();
    assert!(readers.iter().all(|(task, _)| task.wakeups() == 1));
}

#[test]
fn a_waker_that_panics_does_not_keep_others_waiting() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from the waker");
        }
    }
    let locks = LockManager::new();
    let first = lock(&locks, "w:a");
    let mut readers: Vec<Pending> = (0..5).map(|_| enqueue(&locks, "r:a")).collect();
    let tasks: Vec<Task> = readers.iter().map(|_| Task::new()).collect();
    let panics = Waker::from(Arc::new(Panics));
    assert!(poll_with(&panics, pin!(&mut readers[0])).is_pending());
    for (task, reader) in tasks.iter().zip(&mut readers).skip(2) {
        assert!(task.poll(pin!(reader)).is_pending());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| first.release())).is_err());
    assert!(readers.iter().all(Pending::is_acquired));
    assert!(tasks.iter().skip(2).all(|task| task.wakeups() == 1));
}

/// The waker of an abandoned wait stays behind for a while. Dropping it runs foreign code.
#[test]
fn a_waker_that_panics_when_it_is_dropped_leaves_no_request_behind() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("from the drop");
        }
    }
    let locks = LockManager::new();
    let reader = lock(&locks, "r:a");
    let mut writer = enqueue(&locks, "w:a");
    let later = enqueue(&locks, "r:a");
    let panics = Waker::from(Arc::new(Panics));
    assert!(poll_with(&panics, pin!(&mut writer)).is_pending());
    drop(panics);
    assert!(catch_unwind(AssertUnwindSafe(|| writer.withdraw())).is_err());
    assert!(later.is_acquired());
    drop((reader, later));
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn a_woken_task_finds_that_the_last_holder_is_gone() {
    struct Counts(LockManager, AtomicUsize);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.stats().resources, Ordering::Relaxed);
        }
    }
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a r:b");
    let mut waiter = enqueue(&locks, "w:a");
    let counts = Arc::new(Counts(locks.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&counts));
    assert!(poll_with(&waker, pin!(&mut waiter)).is_pending());
    holder.release();
    assert_eq!(counts.1.load(Ordering::Relaxed), 1);
}

#[test]
fn a_waker_may_call_back_into_the_engine() {
    struct Queues(LockManager);
    impl Wake for Queues {
        fn wake(self: Arc<Self>) {
            lock(&self.0, "w:b").release();
            drop(enqueue(&self.0, "w:a"));
        }
    }
    let locks = LockManager::new();
    let (first, mut second) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let waker = Waker::from(Arc::new(Queues(locks.clone())));
    assert!(poll_with(&waker, pin!(&mut second)).is_pending());
    first.release();
    assert!(second.is_acquired());
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn a_blocked_thread_continues_when_its_request_is_granted() {
    let locks = LockManager::new();
    let first = lock(&locks, "r:a");
    let blocked = |run: fn(&LockManager)| {
        let locks = &locks;
        move || run(locks)
    };
    thread::scope(|scope| {
        let threads: [fn(&LockManager); 4] = [
            |locks| drop(enqueue(locks, "w:a").wait()),
            |locks| drop(enqueue(locks, "w:a").wait_timeout(Duration::MAX).unwrap()),
            |locks| drop(locks.blocking_lock(set("w:a")).unwrap()),
            |locks| {
                let lock = locks.blocking_lock_timeout(set("w:a"), Duration::MAX);
                drop(lock.unwrap().unwrap());
            },
        ];
        let threads = threads.map(|run| scope.spawn(blocked(run)));
        let finished = || threads.iter().any(thread::ScopedJoinHandle::is_finished);
        while locks.stats().waiting < 4 && !finished() {
            thread::yield_now();
        }
        // Longer than they spin.
        thread::sleep(Duration::from_millis(20));
        assert!(!finished(), "a waiting thread gave up");
        first.release();
        for thread in threads {
            thread.join().expect("woken");
        }
    });
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn a_wait_that_times_out_keeps_the_place_in_line() {
    let locks = LockManager::new();
    let [first, second, third] = ["w:a"; 3].map(|text| enqueue(&locks, text));
    let first = first.wait_timeout(Duration::ZERO).expect("granted");
    let second = second.wait_timeout(Duration::ZERO).expect_err("in line");
    let second = second.wait_timeout(Duration::from_millis(2));
    let second = second.expect_err("in line");
    assert_eq!(locks.stats().waiting, 2);
    first.release();
    let second = second.wait_timeout(Duration::ZERO).expect("granted");
    assert!(second.token() == 2 && !third.is_acquired());
}

#[test]
fn zero_timeout_acquires_a_free_lock() {
    let locks = LockManager::new();
    let lock = locks.blocking_lock_timeout(set("w:a"), Duration::ZERO);
    assert!(lock.expect("open").is_some());
}

#[test]
fn a_blocking_lock_that_times_out_is_withdrawn() {
    let locks = LockManager::new();
    let _holder = lock(&locks, "r:a");
    for timeout in [Duration::ZERO, Duration::from_millis(2)] {
        let timed_out = locks.blocking_lock_timeout(set("w:a"), timeout);
        assert!(timed_out.expect("open").is_none());
        lock(&locks, "r:a").release();
    }
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn drained_waits_for_the_close_and_for_the_last_release() {
    let locks = LockManager::new();
    let (first, second) = (enqueue(&locks, "w:a"), enqueue(&locks, "w:a"));
    let other = enqueue(&locks, "w:b");
    let task = Task::new();
    let mut drained = pin!(locks.drained());
    assert!(task.poll(drained.as_mut()).is_pending());
    locks.close();
    assert_eq!(task.wakeups(), 1);
    for pending in [other, second, first] {
        assert!(task.poll(drained.as_mut()).is_pending());
        let waiting = locks.requests().filter(|one| one.waits_for.is_some());
        assert_eq!(locks.stats().waiting, waiting.count());
        drop(pending);
    }
    assert!(task.wakeups() >= 2);
    assert!(task.poll(drained.as_mut()).is_ready());
}

#[test]
fn an_open_and_empty_manager_is_not_drained() {
    let locks = LockManager::new();
    let task = Task::new();
    let mut drained = pin!(locks.drained());
    assert!(task.poll(drained.as_mut()).is_pending());
    locks.close();
    assert!(task.poll(drained.as_mut()).is_ready());
    assert!(task.poll(pin!(locks.drained())).is_ready());
}

#[test]
fn drained_can_be_dropped_and_awaited_again() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a");
    locks.close();
    let task = Task::new();
    for _ in 0..100 {
        assert!(task.poll(pin!(locks.drained())).is_pending());
    }
    let mut drained = pin!(locks.drained());
    assert!(task.poll(drained.as_mut()).is_pending());
    held.release();
    assert_eq!(task.wakeups(), 1);
    assert!(task.poll(drained.as_mut()).is_ready());
}

#[test]
fn close_while_threads_lock_drains_to_nothing() {
    for _ in 0..200 {
        let locks = LockManager::new();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Ok(lock) = locks.blocking_lock(set("w:a")) {
                        assert!(lock.token() <= locks.stats().last_token);
                    }
                });
            }
            scope.spawn(|| {
                locks.close();
                block_on(locks.drained());
                assert_eq!(locks.requests().count(), 0);
            });
        });
        let stats = locks.stats();
        assert_eq!((stats.acquired, stats.waiting, stats.resources), (0, 0, 0));
    }
}

#[test]
fn a_request_that_was_polled_can_wait_as_a_thread() {
    let locks = LockManager::new();
    let (first, mut second) = (lock(&locks, "w:a"), enqueue(&locks, "w:a"));
    let task = Task::new();
    assert!(task.poll(pin!(&mut second)).is_pending());
    let second = second.wait_timeout(Duration::ZERO).expect_err("in line");
    first.release();
    assert_eq!(
        task.wakeups(),
        1,
        "the waker of the poll is still the latest"
    );
    granted(second).release();
}
