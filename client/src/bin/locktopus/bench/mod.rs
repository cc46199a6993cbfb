//! `bench`: the speed of a server, over plain v1.
//!
//! The connections write ready-made frames, so that the measurement costs little itself and does not include the cost
//! of the library. Times are in microseconds.

mod connection;
mod worker;

use crate::args;
use crate::load::Load;
use crate::output::{Failure, complain, json, print};
use connection::{Connection, Frame};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use locktopus_client::{Error, Options, Resource};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use worker::{Pair, Worker};

/// The longest time that is measured, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How many connections are opened at a time: the backlog of a server is limited.
const OPENING: usize = 64;

/// The most connections. One machine does not have that many ports.
const MAX_CONNECTIONS: usize = 1_000_000;

/// How many resources one connection holds in the mode `held:N`. More would not fit into a message.
const HELD_BY_ONE: usize = 1_000;

/// The figures of a run; the form of `--json`.
#[derive(Serialize)]
struct Report {
    mode: String,
    connections: usize,
    /// How long it took to open the connections.
    opened_in_ms: u64,
    measured_ms: u64,
    /// Locks granted, locks handed over, or pings answered.
    count: u64,
    per_second: f64,
    latency_us: Quantiles,
}

#[derive(Serialize)]
struct Quantiles {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

pub(crate) async fn bench(args: &args::Bench) -> Result<(), Failure> {
    let mut options = args.options()?;
    check(args)?;
    // Locks that are left behind must not delay the next measurement.
    options.abandon_timeout = Duration::from_millis(100);
    let progress = ProgressBar::new_spinner();
    let mut holders = hold(args.mode, &options, &progress).await?;
    let began = Instant::now();
    let connections = open_all(args.connections, &options, &progress).await?;
    let opened = began.elapsed();

    let start = Instant::now() + args.warm_up;
    let end = start + Duration::from_secs(args.seconds.min(86_400));
    let count = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    let mut pair = Arc::default();
    for (number, connection) in connections.into_iter().enumerate() {
        if number % 2 == 0 {
            pair = Arc::new(Pair::default());
        }
        let worker = Worker {
            number,
            mode: args.mode,
            start,
            end,
            count: Arc::clone(&count),
            pair: Arc::clone(&pair),
            times: histogram()?,
        };
        workers.spawn(worker.work(connection));
    }
    let mut times = histogram()?;
    let mut measured = None;
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            worker = workers.join_next() => match worker {
                Some(worker) => {
                    measured.get_or_insert_with(|| start.elapsed());
                    times += joined(worker)?;
                }
                None => break,
            },
            Some(holder) = holders.join_next() => joined(holder)?,
            _ = ticks.tick() => {
                let seconds = start.elapsed().as_secs_f64();
                let rate = rate(count.load(Ordering::Relaxed), seconds);
                let text = format!("{seconds:.0} of {} s, {rate:.0} per second", args.seconds);
                progress.set_message(text);
                progress.tick();
            }
        }
    }
    progress.finish_and_clear();
    report(args, &times, opened, measured.unwrap_or_default())
}

fn check(args: &args::Bench) -> Result<(), Failure> {
    let usage = |text: String| Err(Failure::Usage(text));
    if args.connections == 0 || (args.mode == Load::Handoff && args.connections % 2 == 1) {
        return usage(
            "at least one connection is required, and an even number for handoff".to_owned(),
        );
    }
    let held = match args.mode {
        Load::Held(resources) => resources.div_ceil(HELD_BY_ONE),
        _ => 0,
    };
    if args.connections.saturating_add(held) > MAX_CONNECTIONS {
        return usage(format!(
            "at most {MAX_CONNECTIONS} connections are allowed, including the connections that hold resources"
        ));
    }
    Ok(())
}

/// Holds as many resources as the mode says, until the result is dropped. Its tasks end only with an error.
async fn hold(
    mode: Load,
    options: &Options,
    progress: &ProgressBar,
) -> Result<JoinSet<Result<(), Error>>, Failure> {
    let mut holders = JoinSet::new();
    let Load::Held(resources) = mode else {
        return Ok(holders);
    };
    let holder_count = resources.div_ceil(HELD_BY_ONE);
    let mut connections = open_all(holder_count, options, progress).await?;
    for (number, connection) in connections.iter_mut().enumerate() {
        let first = number * HELD_BY_ONE;
        let held = first..resources.min(first + HELD_BY_ONE);
        let path = |number: usize| Resource::write(["bench", "held", &number.to_string()]);
        connection.send(&Frame::lock(held.map(path))).await?;
        connection.granted(|| {}).await?;
    }
    for mut connection in connections {
        // Reads on, so that pings are answered: otherwise the server would end the connection.
        holders.spawn(async move {
            let message = connection.state().await?;
            Err(Error::Protocol(format!("unexpected {message:?}").into()))
        });
    }
    Ok(holders)
}

async fn open_all(
    number: usize,
    options: &Options,
    progress: &ProgressBar,
) -> Result<Vec<Connection>, Failure> {
    let options = Arc::new(options.clone());
    let mut opening = JoinSet::new();
    let mut connections = Vec::with_capacity(number);
    let mut left = number;
    while connections.len() < number {
        while left > 0 && opening.len() < OPENING {
            let options = Arc::clone(&options);
            opening.spawn(async move { Connection::open(&options).await });
            left -= 1;
        }
        match opening.join_next().await {
            Some(opened) => connections.push(joined(opened)?),
            None => break,
        }
        progress.set_message(format!("{} of {number} connections", connections.len()));
        progress.tick();
    }
    Ok(connections)
}

fn joined<T>(task: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    task.unwrap_or_else(|error| Err(Error::Closed(error.to_string().into())))
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| Failure::Usage(error.to_string()))
}

#[allow(clippy::cast_precision_loss, reason = "no count reaches 2⁵³")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

fn report(
    args: &args::Bench,
    times: &Histogram<u64>,
    opened: Duration,
    measured: Duration,
) -> Result<(), Failure> {
    if times.is_empty() {
        complain("nothing was measured; a longer time may help");
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let report = Report {
        mode: args.mode.to_string(),
        connections: args.connections,
        opened_in_ms: millis(opened),
        measured_ms: millis(measured),
        count: times.len(),
        per_second: rate(times.len(), measured.as_secs_f64()),
        latency_us: Quantiles {
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            max: times.max(),
        },
    };
    let text = if args.json {
        json(&report)
    } else {
        table(&report, args.mode, opened, measured)
    };
    print(&text).map(|_| ())
}

fn table(report: &Report, mode: Load, opened: Duration, measured: Duration) -> String {
    let counted = match mode {
        Load::Idle => "pings answered",
        Load::Handoff => "locks handed over",
        _ => "locks granted and released",
    };
    let Quantiles { p50, p90, p99, max } = report.latency_us;
    let [p50, p90, p99, max] = [p50, p90, p99, max].map(Duration::from_micros);
    format!(
        "mode         {}\nconnections  {}, opened in {opened:.1?}\n\
         {counted}  {} in {measured:.2?}\nthroughput   {:.0} per second\n\
         latency      p50 {p50:?}  p90 {p90:?}  p99 {p99:?}  max {max:?}\n",
        report.mode, report.connections, report.count, report.per_second,
    )
}
