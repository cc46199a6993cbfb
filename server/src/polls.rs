//! How long the tasks of the server occupy a thread of the runtime at a time.
//!
//! A long poll delays everything else on its thread, and the I/O of the whole runtime while its thread polls it. A poll
//! can be long because the server works that long, or because the kernel runs other programs meanwhile. So long polls
//! are measured twice: by the clock, and by the processor time of the thread.

use crate::metrics::Metrics;
use pin_project_lite::pin_project;
use prometheus::IntCounter;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Polls over these times are counted.
const LONG: Duration = Duration::from_millis(1);
const TOO_LONG: Duration = Duration::from_millis(5);

pin_project! {
    /// A future whose polls are measured. It adds two looks at the clock to each poll, and one look at the processor
    /// time of the thread for each millisecond.
    pub(crate) struct Measured<F> {
        #[pin]
        future: F,
        metrics: Arc<Metrics>,
    }
}

/// Measures the polls of a future.
pub(crate) fn measured<F: Future>(metrics: &Arc<Metrics>, future: F) -> Measured<F> {
    Measured {
        future,
        metrics: Arc::clone(metrics),
    }
}

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let start = Instant::now();
        let busy_since = busy_since(start);
        let result = this.future.poll(context);
        let took = start.elapsed();
        this.metrics.polls.add(took);
        if took > LONG {
            let busy = busy_time().saturating_sub(busy_since);
            this.metrics.busy_polls.add(busy.min(took));
        }
        result
    }
}

/// The processor time of this thread at a moment at most 1 ms before the given one, which is now.
///
/// Reading this clock is a system call, which would cost each poll several times as much as the other clock. So a
/// reading serves for a millisecond, and a poll may count as busy for up to 1 ms too long.
fn busy_since(now: Instant) -> Duration {
    thread_local! {
        static LAST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    }
    let last = LAST.get();
    let fresh = last.filter(|(at, _)| now.saturating_duration_since(*at) < LONG);
    let (at, busy) = fresh.unwrap_or_else(|| (now, busy_time()));
    LAST.set(Some((at, busy)));
    busy
}

/// The time for which this thread has run.
fn busy_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The figures of all polls, by one of the clocks.
#[derive(Debug)]
pub(crate) struct Polls {
    longest_ns: AtomicU64,
    long: IntCounter,
    too_long: IntCounter,
}

impl Polls {
    /// Counts polls over 1 ms in the first counter, and polls over 5 ms in both.
    pub(crate) fn new(long: IntCounter, too_long: IntCounter) -> Polls {
        Polls {
            longest_ns: AtomicU64::new(0),
            long,
            too_long,
        }
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed))
    }

    fn add(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // Reads first: almost no poll is the longest.
        if ns > self.longest_ns.load(Ordering::Relaxed) {
            self.longest_ns.fetch_max(ns, Ordering::Relaxed);
        }
        if took > LONG {
            self.long.inc();
            if took > TOO_LONG {
                self.too_long.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn each_poll_is_measured_and_not_the_time_between_polls() {
        let [busy, idle] = [(); 2].map(|()| Arc::new(Metrics::new()));
        let working = async {
            sleep(2 * TOO_LONG);
            yield_now().await;
            sleep(2 * LONG);
        };
        tokio::join!(measured(&idle, yield_now()), measured(&busy, working));
        assert!(busy.polls.longest() >= 2 * TOO_LONG);
        assert_eq!(busy.polls.long.get(), 2);
        assert!(busy.polls.too_long.get() >= 1);
        assert_eq!(idle.polls.too_long.get(), 0);
        assert_eq!(busy.busy_polls.too_long.get(), 0, "it slept");
    }

    #[tokio::test]
    async fn a_poll_that_works_is_busy() {
        let metrics = Arc::new(Metrics::new());
        let working = async {
            let start = busy_time();
            while busy_time() - start <= TOO_LONG {}
        };
        measured(&metrics, working).await;
        assert_eq!(metrics.busy_polls.too_long.get(), 1);
        assert!(metrics.busy_polls.longest() <= metrics.polls.longest());
    }
}
