//! Two threads at the same time, beside one of them alone.
//!
//! # How it is known that both threads ran
//! A span is about a millisecond. Both threads begin it when both have said that they are ready, and each notes when
//! its own span began and ended, and how much processor time the kernel counts for the thread in between. A thread
//! that was interrupted, or that shared its processor, has less processor time than its span is long; on a virtual
//! machine the kernel subtracts the time that the host gave to others. A round counts if
//! each thread ran for [`RAN`] of its span, and both spans overlap for [`RAN`] of the longer one. The span of one thread
//! alone is measured in the same round, by the same rule, while the other thread is parked.

use crate::measure::Readings;
use rustix::time::{ClockId, clock_gettime};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_millis(1);
const RAN: f64 = 0.97;

/// The threads run beside so many tables in turn: a skiplist of the same keys can cost a fifth more or less.
const TABLES: usize = 3;

/// The threads leave a table when so many rounds count, or after [`PATIENCE`].
const ROUNDS: usize = 67;
const PATIENCE: Duration = Duration::from_secs(2);

/// The rounds that count.
#[derive(Default)]
pub(crate) struct Together {
    /// Nanoseconds for each operation, of both threads together and of the first one alone. A throughput ratio is
    /// the inverse of the ratio of these.
    pub(crate) two: Readings,
    pub(crate) one: Readings,
    /// All rounds.
    pub(crate) rounds: usize,
}

struct Span {
    steps: u32,
    from: Instant,
    until: Instant,
    processor: Duration,
}

impl Span {
    fn of(step: &mut impl FnMut()) -> Span {
        let (from, processor) = (Instant::now(), processor_time());
        let mut steps = 0;
        let until = loop {
            (0..64).for_each(|_| step());
            steps += 64;
            let now = Instant::now();
            if now - from >= SPAN {
                break now;
            }
        };
        Span {
            steps,
            from,
            until,
            processor: processor_time() - processor,
        }
    }

    fn length(&self) -> Duration {
        self.until - self.from
    }

    fn has_run(&self) -> bool {
        self.processor >= self.length().mul_f64(RAN)
    }

    fn overlaps(&self, other: &Span) -> bool {
        let both = self.until.min(other.until) - self.from.max(other.from);
        both >= self.length().max(other.length()).mul_f64(RAN)
    }

    fn per_nanosecond(&self) -> f64 {
        f64::from(self.steps) / self.length().as_nanos() as f64
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("not negative")
}

impl Together {
    /// Measures two threads, each with a step of its own.
    pub(crate) fn add(&mut self, mut first: impl FnMut(), mut second: impl FnMut() + Send) {
        let (is_ready, may_go) = (&AtomicBool::new(false), &AtomicBool::new(false));
        let (ask, asked) = mpsc::channel::<()>();
        let (answer, answers) = mpsc::channel::<Span>();
        // Each step warms its caches.
        let _ = [Span::of(&mut first), Span::of(&mut second)];
        let (before, start) = (self.two.count(), Instant::now());
        thread::scope(|scope| {
            scope.spawn(move || {
                for () in asked {
                    is_ready.store(true, Ordering::Release);
                    wait(may_go);
                    let span = Span::of(&mut second);
                    answer.send(span).expect("the first thread receives");
                }
            });
            while self.two.count() < before + ROUNDS && start.elapsed() < PATIENCE {
                self.rounds += 1;
                let alone = Span::of(&mut first);
                ask.send(()).expect("the second thread receives");
                wait(is_ready);
                may_go.store(true, Ordering::Release);
                let ours = Span::of(&mut first);
                let other = answers.recv().expect("the second thread sends");
                let all_ran = [&alone, &ours, &other].into_iter().all(Span::has_run);
                if all_ran && ours.overlaps(&other) {
                    let both = ours.per_nanosecond() + other.per_nanosecond();
                    self.two.push(1.0 / both);
                    self.one.push(1.0 / alone.per_nanosecond());
                }
            }
            drop(ask);
        });
    }
}

/// Measures beside several tables, each of which `add` makes anew.
pub(crate) fn together(mut add: impl FnMut(&mut Together)) -> Together {
    let mut all = Together::default();
    (0..TABLES).for_each(|_| add(&mut all));
    all
}

/// Spins until the flag is set, and clears it.
fn wait(flag: &AtomicBool) {
    while !flag.swap(false, Ordering::Acquire) {
        spin_loop();
    }
}
