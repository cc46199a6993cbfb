//! The queues of the server and the tasks that drive them.

use super::queue::Queue;
use super::soon::Soon;
use crate::metrics::Metrics;
use crate::polls::measured;
use crate::shares::Party;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_blocking, yield_now};

/// How long a turn is, besides the step during which it ends.
const TURN: Duration = Duration::from_millis(1);

/// How much work a message is, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Cheap enough to be read and entered at once.
    Light,
    /// Read in a turn of its party.
    Heavy,
    /// Read on a thread of its own. Such messages arrive only where the limit on messages was raised.
    Huge,
}

impl Weight {
    /// Reading costs the more for each byte, the shorter the segments are; the limits allow for the shortest ones.
    pub(crate) fn of_message(bytes: usize) -> Weight {
        match bytes {
            0..=2_048 => Weight::Light,
            2_049..=65_536 => Weight::Heavy,
            _ => Weight::Huge,
        }
    }
}

/// Does a small step, of about 50 to 100 µs. Returns whether the job is done.
type Job = Box<dyn FnMut() -> bool + Send>;

/// The queues of a server: one for each thread of the runtime, and one for the work of a thread of its own.
#[derive(Debug)]
pub(crate) struct Queues {
    desks: Vec<Arc<Desk>>,
    /// One of its jobs runs at a time, in one piece, on a thread for blocking work.
    aside: Arc<Desk>,
}

impl Queues {
    /// Queues for this number of threads. Nothing is done before [`start`](Queues::start).
    pub(crate) fn new(threads: usize, metrics: &Arc<Metrics>) -> Queues {
        let desk = || Arc::new(Desk::new(Arc::clone(metrics)));
        Queues {
            desks: (0..threads.max(1)).map(|_| desk()).collect(),
            aside: desk(),
        }
    }

    /// Queues for the threads of this runtime, and their drivers as tasks on it.
    pub(crate) fn start(metrics: &Arc<Metrics>) -> Queues {
        let queues = Queues::new(Handle::current().metrics().num_workers(), metrics);
        for desk in &queues.desks {
            let driver = Driver(Arc::clone(desk));
            tokio::spawn(measured(metrics, driver.drive()));
        }
        let driver = Driver(Arc::clone(&queues.aside));
        tokio::spawn(measured(metrics, driver.drive_aside()));
        queues
    }

    /// Adds a job of a party to one of the queues. Jobs with the same number are in the same queue.
    ///
    /// If the server has ended, the job is dropped at once.
    pub(crate) fn push(
        &self,
        number: u64,
        party: Party,
        job: impl FnMut() -> bool + Send + 'static,
    ) {
        let desks = self.desks.len() as u64;
        let desk = usize::try_from(number % desks).unwrap_or(0);
        self.desks[desk].push(party, Box::new(job));
    }

    /// Runs a function for a party: at once, in a turn, or aside, as its weight demands. It is left out if its result is
    /// not awaited any more when its turn comes.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        number: u64,
        party: Party,
        weight: Weight,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Soon<T> {
        if weight == Weight::Light {
            return Soon::now(function());
        }
        let (tell, told) = oneshot::channel();
        let mut once = Some((function, tell));
        let job = move || {
            if let Some((function, tell)) = once.take()
                && !tell.is_closed()
            {
                // An error means that the result is not awaited any more.
                let _ = tell.send(function());
            }
            true
        };
        if weight == Weight::Huge {
            self.aside.push(party, Box::new(job));
        } else {
            self.push(number, party, job);
        }
        Soon::Later(told)
    }

    /// Runs one turn of the first queue. Returns whether there was a job.
    #[cfg(test)]
    pub(crate) fn turn(&self) -> bool {
        self.desks[0].turn()
    }
}

/// The drivers end once their queues are empty.
impl Drop for Queues {
    fn drop(&mut self) {
        for desk in self.desks.iter().chain([&self.aside]) {
            desk.line().end_when_empty = true;
            desk.changed.notify_one();
        }
    }
}

/// One queue, and what its driver waits for.
struct Desk {
    line: Mutex<Line>,
    /// Notified when a job was pushed, or the queue is to end.
    changed: Notify,
    metrics: Arc<Metrics>,
}

struct Line {
    queue: Queue<Party, Job>,
    end_when_empty: bool,
    /// Whether the driver has ended.
    ended: bool,
}

impl Desk {
    fn new(metrics: Arc<Metrics>) -> Desk {
        let line = Line {
            queue: Queue::new(),
            end_when_empty: false,
            ended: false,
        };
        Desk {
            line: Mutex::new(line),
            changed: Notify::new(),
            metrics,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, party: Party, job: Job) {
        let mut line = self.line();
        if line.ended {
            drop(line);
            // Outside the mutex: a job that is dropped finishes its work.
            return drop(job);
        }
        line.queue.push(party, job);
        self.metrics.jobs.inc();
        drop(line);
        self.changed.notify_one();
    }

    /// Gives the next job its turn. Returns whether there was a job.
    fn turn(&self) -> bool {
        let next = self.line().queue.next();
        let Some((party, mut job)) = next else {
            return false;
        };
        self.metrics.turns.inc();
        let start = Instant::now();
        // A job that panics is dropped; the queue goes on with the others.
        let turn = catch_unwind(AssertUnwindSafe(|| {
            loop {
                if job() {
                    return true;
                }
                if start.elapsed() >= TURN {
                    return false;
                }
            }
        }));
        if turn.unwrap_or(true) {
            self.metrics.jobs.dec();
        } else {
            self.line().queue.put_back(party, job);
        }
        true
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// The task of a queue. When it is dropped with the runtime, the jobs that are left are dropped, and so are later ones.
struct Driver(Arc<Desk>);

impl Driver {
    async fn drive(self) {
        let desk = &self.0;
        loop {
            if desk.turn() {
                // Resumes only when the runtime has polled its I/O, and this thread has no other task to run.
                yield_now().await;
            } else if desk.line().end_when_empty {
                return;
            } else {
                desk.changed.notified().await;
            }
        }
    }

    async fn drive_aside(self) {
        let desk = &self.0;
        loop {
            let next = desk.line().queue.next();
            if let Some((_, mut job)) = next {
                // An error is a panic of the job, or the end of the runtime.
                let _ = spawn_blocking(move || while !job() {}).await;
                desk.metrics.jobs.dec();
            } else if desk.line().end_when_empty {
                return;
            } else {
                desk.changed.notified().await;
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut jobs = Vec::new();
        let mut line = self.0.line();
        line.ended = true;
        while let Some((_, job)) = line.queue.next() {
            jobs.push(job);
        }
        drop(line);
        for job in jobs {
            self.0.metrics.jobs.dec();
            drop(job);
        }
    }
}

#[cfg(test)]
mod tests;
