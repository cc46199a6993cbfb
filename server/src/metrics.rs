//! Figures for `/metrics` and for the log.

use crate::polls::Polls;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, exponential_buckets,
};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::info;

/// How many lines of the log were dropped since the start of the process.
static DROPPED_LOG_LINES: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>> = OnceLock::new();

/// Sets the function that counts the lines of the log that were dropped since the start of the process. `/metrics` and
/// the statistics in the log show its result. A process has one log, so only the first call counts.
pub fn count_dropped_log_lines(count: impl Fn() -> u64 + Send + Sync + 'static) {
    let _ = DROPPED_LOG_LINES.set(Box::new(count));
}

/// The figures of a server. Gauges are set when they are read.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: IntGauge,
    namespaces: IntGauge,
    acquired: IntGauge,
    waiting: IntGauge,
    longest_poll: Gauge,
    longest_busy_poll: Gauge,
    pub(crate) polls: Polls,
    pub(crate) busy_polls: Polls,
    /// Jobs in the queues of work.
    pub(crate) jobs: IntGauge,
    pub(crate) turns: IntCounter,
    pub(crate) connected: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) grants: IntCounter,
    pub(crate) withdrawals: IntCounter,
    pub(crate) waited_too_long: IntCounter,
    pub(crate) abandoned: IntCounter,
    pub(crate) revoked: IntCounter,
    pub(crate) dead_peers: IntCounter,
    pub(crate) protocol_errors: IntCounter,
    answer_bytes: IntGauge,
    answer_bytes_peak: IntGauge,
    /// Connections that were closed because their clients read a long answer too slowly.
    pub(crate) answers_cut: IntCounter,
    over_share: IntCounterVec,
    dropped_log_lines: IntCounter,
    /// How many dropped lines the counter includes.
    counted_log_lines: AtomicU64,
    wait: Histogram,
    hold: Histogram,
}

/// The current values of the gauges.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) connections: usize,
    pub(crate) namespaces: usize,
    pub(crate) acquired: usize,
    pub(crate) waiting: usize,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("locktopus_{name}_total"), help);
            let counter = counter.expect("a valid name");
            let registered = registry.register(Box::new(counter.clone()));
            registered.expect("registered once");
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("locktopus_{name}"), help).expect("a valid name");
            let registered = registry.register(Box::new(gauge.clone()));
            registered.expect("registered once");
            gauge
        };
        let seconds = |name: &str, help: &str| {
            let name = format!("locktopus_{name}_seconds");
            let gauge = Gauge::new(name, help).expect("a valid name");
            let registered = registry.register(Box::new(gauge.clone()));
            registered.expect("registered once");
            gauge
        };
        let histogram = |name: &str, help: &str| {
            // From 100 µs to an hour.
            let buckets = exponential_buckets(0.0001, 4.0, 13).expect("valid buckets");
            let options = HistogramOpts::new(format!("locktopus_{name}_seconds"), help);
            let histogram = Histogram::with_opts(options.buckets(buckets)).expect("a valid name");
            let registered = registry.register(Box::new(histogram.clone()));
            registered.expect("registered once");
            histogram
        };
        let over_share = Opts::new(
            "locktopus_over_share_total",
            "Refusals of clients over their share, by the limit that is shared.",
        );
        let over_share = IntCounterVec::new(over_share, &["kind"]).expect("a valid name");
        let registered = registry.register(Box::new(over_share.clone()));
        registered.expect("registered once");
        Metrics {
            over_share,
            connections: gauge("connections", "Open connections."),
            namespaces: gauge("namespaces", "Namespaces in use."),
            acquired: gauge("locks_acquired", "Locks that are held."),
            waiting: gauge("locks_waiting", "Requests that wait for their lock."),
            longest_poll: seconds(
                "longest_poll",
                "Longest time for which a task occupied a thread of the runtime.",
            ),
            longest_busy_poll: seconds(
                "longest_busy_poll",
                "Longest processor time that a task took while it occupied a thread of the runtime.",
            ),
            busy_polls: Polls::new(
                counter(
                    "busy_polls_over_1ms",
                    "Times that a task took more than 1 ms of processor time while it occupied a thread.",
                ),
                counter(
                    "busy_polls_over_5ms",
                    "Times that a task took more than 5 ms of processor time while it occupied a thread.",
                ),
            ),
            polls: Polls::new(
                counter(
                    "polls_over_1ms",
                    "Times that a task occupied a thread of the runtime for more than 1 ms.",
                ),
                counter(
                    "polls_over_5ms",
                    "Times that a task occupied a thread of the runtime for more than 5 ms.",
                ),
            ),
            jobs: gauge("jobs", "Jobs in the queues of work."),
            turns: counter("turns", "Turns of jobs in the queues of work."),
            connected: counter("connected", "Connections that were opened."),
            refused: counter(
                "refused",
                "HTTP requests that were refused, upgrades among them.",
            ),
            grants: counter("grants", "Locks that were granted."),
            withdrawals: counter(
                "withdrawals",
                "Requests that were withdrawn while they waited.",
            ),
            waited_too_long: counter(
                "waited_too_long",
                "Requests that were withdrawn after the longest wait that the server allows.",
            ),
            abandoned: counter(
                "abandoned",
                "Connections that ended while they held a lock.",
            ),
            revoked: counter("forced", "Locks and requests that were released by force."),
            dead_peers: counter("dead_peers", "Connections that did not answer a ping."),
            protocol_errors: counter(
                "protocol_errors",
                "Connections that were closed with an error of the client.",
            ),
            dropped_log_lines: counter(
                "log_lines_dropped",
                "Lines of the log that were dropped because standard error was not read in time.",
            ),
            counted_log_lines: AtomicU64::new(0),
            answer_bytes: gauge("answer_bytes", "Memory of the long answers that are sent."),
            answer_bytes_peak: gauge(
                "answer_bytes_peak",
                "The most memory that long answers have had at one time.",
            ),
            answers_cut: counter(
                "answers_cut",
                "Connections that were closed because their client read a long answer too slowly.",
            ),
            wait: histogram("wait", "Time from a request to its grant."),
            hold: histogram("hold", "Time from a grant to the release."),
            registry,
        }
    }

    /// The counter of refusals of clients over their share of a limit.
    pub(crate) fn over_share(&self, kind: &str) -> IntCounter {
        self.over_share.with_label_values(&[kind])
    }

    /// Brings the counter of dropped lines of the log up to date.
    fn count_dropped_log_lines(&self) {
        let Some(count) = DROPPED_LOG_LINES.get() else {
            return;
        };
        let dropped = count();
        let counted = self.counted_log_lines.fetch_max(dropped, Ordering::Relaxed);
        self.dropped_log_lines
            .inc_by(dropped.saturating_sub(counted));
    }

    /// Counts the memory of a long answer.
    pub(crate) fn answer_made(&self, bytes: usize) {
        self.answer_bytes.add(as_gauge(bytes));
        let now = self.answer_bytes.get();
        // Two answers at the same moment may both miss the peak that they reach together.
        if now > self.answer_bytes_peak.get() {
            self.answer_bytes_peak.set(now);
        }
    }

    /// Counts the memory of a long answer that was freed.
    pub(crate) fn answer_freed(&self, bytes: usize) {
        self.answer_bytes.sub(as_gauge(bytes));
    }

    pub(crate) fn granted(&self, waited: Duration) {
        self.grants.inc();
        self.wait.observe(waited.as_secs_f64());
    }

    pub(crate) fn released(&self, held: Duration) {
        self.hold.observe(held.as_secs_f64());
    }

    /// The content type of the Prometheus text format, and the text.
    pub(crate) fn text(&self, totals: &Totals) -> (&'static str, String) {
        for (gauge, value) in [
            (&self.connections, totals.connections),
            (&self.namespaces, totals.namespaces),
            (&self.acquired, totals.acquired),
            (&self.waiting, totals.waiting),
        ] {
            gauge.set(as_gauge(value));
        }
        self.count_dropped_log_lines();
        for (gauge, polls) in [
            (&self.longest_poll, &self.polls),
            (&self.longest_busy_poll, &self.busy_polls),
        ] {
            gauge.set(polls.longest().as_secs_f64());
        }
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("memory takes every write");
        let text = String::from_utf8(text).expect("the format is text");
        (prometheus::TEXT_FORMAT, text)
    }

    /// Logs the same figures.
    pub(crate) fn log(&self, totals: &Totals) {
        self.count_dropped_log_lines();
        info!(
            connections = totals.connections,
            namespaces = totals.namespaces,
            acquired = totals.acquired,
            waiting = totals.waiting,
            connected = self.connected.get(),
            refused = self.refused.get(),
            grants = self.grants.get(),
            withdrawals = self.withdrawals.get(),
            abandoned = self.abandoned.get(),
            forced = self.revoked.get(),
            dead_peers = self.dead_peers.get(),
            protocol_errors = self.protocol_errors.get(),
            log_lines_dropped = self.dropped_log_lines.get(),
            mean_wait_ms = mean_ms(&self.wait),
            mean_hold_ms = mean_ms(&self.hold),
            "statistics"
        );
    }
}

fn as_gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn mean_ms(histogram: &Histogram) -> f64 {
    let count = histogram.get_sample_count();
    if count == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean for the log")]
    let mean = histogram.get_sample_sum() / count as f64;
    (mean * 1e6).round() / 1e3
}
