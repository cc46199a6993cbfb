//! How long the tasks of the server occupy a thread of the runtime at a time.
//!
//! A long poll delays everything else on its thread, and the I/O of the whole runtime while its thread polls it.

use crate::metrics::Metrics;
use pin_project_lite::pin_project;
use prometheus::IntCounter;
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
    /// A future whose polls are measured. It adds two looks at the clock to each poll.
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
        let result = this.future.poll(context);
        this.metrics.polls.add(start.elapsed());
        result
    }
}

/// The figures of all polls.
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
    }
}
