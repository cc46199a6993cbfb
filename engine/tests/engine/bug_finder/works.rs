//! The works under way, which all threads share, and the ways to wait for a grant.

use locktopus_engine::{Entering, LockError, LockManager, Pending, RequestInfo, Work};
use std::fmt::Debug;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Locks are held for some microseconds, and steps follow soon, so a wait of this length never ends.
const LOST: Duration = Duration::from_secs(60);

/// Each thread does steps of the works between its own operations and while it waits.
#[derive(Default)]
pub(super) struct Works(Mutex<Vec<Work>>);

impl Works {
    pub(super) fn add(&self, work: Work) {
        if !work.is_done() {
            self.0.lock().expect("no panic").push(work);
        }
    }

    /// Does a step of a random work; `false` if there is none.
    pub(super) fn step(&self) -> bool {
        let picked = {
            let mut works = self.0.lock().expect("no panic");
            let count = works.len();
            (count > 0).then(|| works.swap_remove(fastrand::usize(..count)))
        };
        let is_any = picked.is_some();
        if let Some(mut work) = picked {
            if fastrand::u8(..50) == 0 {
                drop(work);
            } else {
                work.step(fastrand::usize(..50) * fastrand::usize(..2));
                self.add(work);
            }
        }
        is_any
    }

    pub(super) fn enter_in_steps(&self, mut entering: Entering) -> Result<Pending, LockError> {
        loop {
            if let Some(entered) = entering.step(fastrand::usize(..5)) {
                let (pending, work) = entered?;
                self.add(work);
                return Ok(pending);
            }
            self.step();
        }
    }

    /// Waits with the `wait_timeout` of a pending request.
    pub(super) fn wait_or_panic<P: Debug, L>(
        &self,
        locks: &LockManager,
        mut pending: P,
        wait_timeout: impl Fn(P, Duration) -> Result<L, P>,
    ) -> L {
        let since = Instant::now();
        while since.elapsed() < LOST {
            let patience = match self.step() {
                true => Duration::ZERO,
                false => Duration::from_micros(100),
            };
            match wait_timeout(pending, patience) {
                Ok(lock) => return lock,
                Err(waits) => pending = waits,
            }
        }
        panic!("lost: {pending:?} in {:#?}", listing(locks))
    }

    /// Awaits as an executor does: it polls only after a wake-up.
    pub(super) fn await_or_panic<F: Future>(&self, locks: &LockManager, future: F) -> F::Output {
        struct Unpark(Thread, AtomicBool);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.1.store(true, Ordering::Release);
                self.0.unpark();
            }
        }
        let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&unpark));
        let mut future = pin!(future);
        let since = Instant::now();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            while !unpark.1.swap(false, Ordering::Acquire) {
                if !self.step() {
                    // Not longer: another thread may add a work.
                    thread::park_timeout(Duration::from_micros(100));
                }
                assert!(since.elapsed() < LOST, "lost among {:#?}", listing(locks));
            }
        }
    }
}

fn listing(locks: &LockManager) -> Vec<RequestInfo> {
    locks.requests().collect()
}

pub(super) fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
