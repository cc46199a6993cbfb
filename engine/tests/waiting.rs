//! Waiting for a grant: as a task, as a thread, cancelled, from several places at once; and draining.

use locktopus_engine::{Lock, LockManager, Resource};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

fn write(locks: &LockManager, path: &str) -> Lock {
    locks.lock([Resource::write([path])]).expect("open")
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakeups(AtomicUsize);

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Task {
    wakeups: Arc<Wakeups>,
    waker: Waker,
}

impl Task {
    fn new() -> Task {
        let wakeups = Arc::new(Wakeups::default());
        let waker = Waker::from(Arc::clone(&wakeups));
        Task { wakeups, waker }
    }

    fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker))
    }

    fn wakeups(&self) -> usize {
        self.wakeups.0.load(Ordering::Relaxed)
    }
}

/// Runs to the end, parking between the polls.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_task_is_woken_once_when_it_is_granted() {
    let locks = LockManager::new();
    let (first, second) = (write(&locks, "a"), write(&locks, "a"));
    let task = Task::new();
    let mut acquired = pin!(second.acquired());
    for _ in 0..3 {
        assert!(task.poll(acquired.as_mut()).is_pending());
    }
    assert_eq!(task.wakeups(), 0);
    first.release();
    assert_eq!(task.wakeups(), 1);
    assert!(task.poll(acquired.as_mut()).is_ready());
    assert!(task.poll(acquired.as_mut()).is_ready(), "it stays acquired");
}

#[test]
fn a_dropped_future_keeps_the_place_in_line() {
    let locks = LockManager::new();
    let (first, second, third) = (write(&locks, "a"), write(&locks, "a"), write(&locks, "a"));
    let task = Task::new();
    assert!(task.poll(pin!(second.acquired())).is_pending());
    first.release();
    assert_eq!(task.wakeups(), 0, "nobody awaits it any more");
    assert!(second.is_acquired() && !third.is_acquired());
}

#[test]
fn the_latest_waker_of_a_future_is_woken() {
    let locks = LockManager::new();
    let (first, second) = (write(&locks, "a"), write(&locks, "a"));
    let (before, after) = (Task::new(), Task::new());
    let mut acquired = pin!(second.acquired());
    assert!(before.poll(acquired.as_mut()).is_pending());
    assert!(after.poll(acquired.as_mut()).is_pending());
    first.release();
    assert_eq!(after.wakeups(), 1);
}

#[test]
fn several_tasks_may_await_one_lock() {
    let locks = LockManager::new();
    let (first, second) = (write(&locks, "a"), write(&locks, "a"));
    let tasks: Vec<Task> = (0..100).map(|_| Task::new()).collect();
    let mut futures: Vec<_> = tasks.iter().map(|_| Box::pin(second.acquired())).collect();
    for (task, future) in tasks.iter().zip(&mut futures) {
        assert!(task.poll(future.as_mut()).is_pending());
    }
    first.release();
    assert!(tasks.iter().all(|task| task.wakeups() == 1));
}

#[test]
fn a_waker_that_panics_does_not_keep_others_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from the waker");
        }
    }
    let locks = LockManager::new();
    let first = write(&locks, "a");
    let readers: Vec<Lock> = (0..5)
        .map(|_| locks.lock([Resource::read(["a"])]).expect("open"))
        .collect();
    let tasks: Vec<Task> = readers.iter().map(|_| Task::new()).collect();
    let panics = Waker::from(Arc::new(Panics));
    let mut futures: Vec<_> = readers
        .iter()
        .map(|reader| Box::pin(reader.acquired()))
        .collect();
    let _ = futures[0].as_mut().poll(&mut Context::from_waker(&panics));
    for (task, future) in tasks.iter().zip(&mut futures).skip(2) {
        assert!(task.poll(future.as_mut()).is_pending());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| first.release())).is_err());
    assert!(readers.iter().all(Lock::is_acquired));
    assert!(tasks.iter().skip(2).all(|task| task.wakeups() == 1));
}

/// The waker of a future that is gone stays behind for a while; dropping it is code from outside.
#[test]
fn a_waker_that_panics_when_it_is_dropped_strands_nobody() {
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
    let reader = locks.lock([Resource::read(["a"])]).expect("open");
    let writer = write(&locks, "a");
    let later = locks.lock([Resource::read(["a"])]).expect("open");
    let panics = Waker::from(Arc::new(Panics));
    let _ = pin!(writer.acquired()).poll(&mut Context::from_waker(&panics));
    drop(panics);
    assert!(catch_unwind(AssertUnwindSafe(|| writer.release())).is_err());
    assert!(later.is_acquired());
    drop((reader, later));
    assert_eq!(locks.stats().resources, 0);
}

#[test]
fn who_is_woken_finds_that_the_last_holder_is_gone() {
    struct Counts(LockManager, AtomicUsize);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.stats().resources, Ordering::Relaxed);
        }
    }
    let locks = LockManager::new();
    let holder = locks
        .lock([Resource::write(["a"]), Resource::read(["b"])])
        .expect("open");
    let waiter = write(&locks, "a");
    let counts = Arc::new(Counts(locks.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&counts));
    let mut acquired = pin!(waiter.acquired());
    assert!(
        acquired
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    holder.release();
    assert_eq!(counts.1.load(Ordering::Relaxed), 1);
}

#[test]
fn a_waker_may_call_back_into_the_engine() {
    struct Queues(LockManager);
    impl Wake for Queues {
        fn wake(self: Arc<Self>) {
            write(&self.0, "b").release();
            drop(write(&self.0, "a"));
        }
    }
    let locks = LockManager::new();
    let (first, second) = (write(&locks, "a"), write(&locks, "a"));
    let waker = Waker::from(Arc::new(Queues(locks.clone())));
    let mut acquired = pin!(second.acquired());
    assert!(
        acquired
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    first.release();
    assert!(second.is_acquired());
    assert_eq!(locks.requests().count(), 1);
}

#[test]
fn a_blocked_thread_goes_on_when_it_is_granted() {
    let locks = LockManager::new();
    let first = write(&locks, "a");
    let second = write(&locks, "a");
    thread::scope(|scope| {
        let waits = scope.spawn(|| second.wait());
        let also_waits = scope.spawn(|| assert!(second.wait_timeout(Duration::MAX)));
        first.release();
        waits.join().expect("woken");
        also_waits.join().expect("woken");
    });
    assert!(second.is_acquired());
    second.wait();
}

#[test]
fn a_wait_that_times_out_loses_nothing() {
    let locks = LockManager::new();
    let (first, second, third) = (write(&locks, "a"), write(&locks, "a"), write(&locks, "a"));
    assert!(first.wait_timeout(Duration::ZERO));
    assert!(!second.wait_timeout(Duration::ZERO));
    assert!(!second.wait_timeout(Duration::from_millis(2)));
    assert_eq!(locks.stats().waiting, 2);
    first.release();
    assert!(second.wait_timeout(Duration::ZERO) && !third.is_acquired());
}

#[test]
fn drained_waits_for_the_close_and_for_the_last_release() {
    let locks = LockManager::new();
    let (first, second) = (write(&locks, "a"), write(&locks, "a"));
    let other = write(&locks, "b");
    let task = Task::new();
    let mut drained = pin!(locks.drained());
    assert!(task.poll(drained.as_mut()).is_pending());
    locks.close();
    assert_eq!(task.wakeups(), 1);
    for lock in [other, second, first] {
        assert!(task.poll(drained.as_mut()).is_pending());
        assert_eq!(
            locks.stats().waiting,
            locks.requests().filter(|r| r.waits_for.is_some()).count()
        );
        lock.release();
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
    let held = write(&locks, "a");
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
                    while let Ok(lock) = locks.lock([Resource::write(["a"])]) {
                        lock.wait();
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
