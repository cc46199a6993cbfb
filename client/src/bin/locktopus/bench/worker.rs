//! The load of one connection.

use super::connection::{Connection, Frame};
use crate::load::Load;
use hdrhistogram::Histogram;
use locktopus_client::{Error, Resource};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout};

/// How often an idle connection pings the server.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(1);

/// The state that the two connections of a handoff pair share.
#[derive(Default)]
pub(crate) struct Pair {
    released: Mutex<Option<Instant>>,
    /// Notified when the request of this side is in line.
    enqueued: [Notify; 2],
}

/// The work of one connection, until the end of the measurement.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) mode: Load,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) count: Arc<AtomicU64>,
    pub(crate) pair: Arc<Pair>,
    pub(crate) times: Histogram<u64>,
}

impl Worker {
    pub(crate) async fn work(
        mut self,
        mut connection: Connection,
    ) -> Result<Histogram<u64>, Error> {
        let end = self.end;
        let working = async {
            match self.mode {
                Load::Uncontended | Load::Held(_) => {
                    let path = ["bench", "own", &self.number.to_string()];
                    self.cycle(&mut connection, lock(&path)).await
                }
                Load::Contended => self.cycle(&mut connection, lock(&["bench", "one"])).await,
                Load::Handoff => self.pass(&mut connection).await,
                Load::Idle => self.idle(&mut connection).await,
            }
        };
        // A request that waits at the end is withdrawn.
        let done = tokio::select! {
            done = working => done,
            () = sleep_until(end.into()) => Ok(()),
        };
        // Without the release the server would keep the lock for the abandon timeout.
        let _ = timeout(Duration::from_secs(1), connection.release()).await;
        done.map(|()| self.times)
    }

    fn record(&mut self, since: Instant) {
        if since >= self.start {
            let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.times.saturating_record(micros.max(1));
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Locks and releases.
    async fn cycle(&mut self, connection: &mut Connection, lock: Frame) -> Result<(), Error> {
        loop {
            let began = Instant::now();
            connection.send(&lock).await?;
            connection.granted(|| {}).await?;
            self.record(began);
            connection.release().await?;
        }
    }

    /// Passes a lock to the other connection of the pair and back.
    async fn pass(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let pair = Arc::clone(&self.pair);
        let [ours, theirs] = match self.number % 2 {
            0 => [&pair.enqueued[0], &pair.enqueued[1]],
            _ => [&pair.enqueued[1], &pair.enqueued[0]],
        };
        let released = || pair.released.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = lock(&["bench", "pair", &(self.number / 2).to_string()]);
        loop {
            connection.send(&lock).await?;
            let waited = connection.granted(|| ours.notify_one()).await?;
            let released_at = released().take();
            if let Some(released_at) = released_at.filter(|_| waited) {
                self.record(released_at);
            }
            // The other side must wait in line, or the release would pass the lock to no connection.
            theirs.notified().await;
            *released() = Some(Instant::now());
            connection.release().await?;
        }
    }

    async fn idle(&mut self, connection: &mut Connection) -> Result<(), Error> {
        loop {
            let began = Instant::now();
            connection.ping().await?;
            self.record(began);
            sleep(IDLE_PING_INTERVAL).await;
        }
    }
}

fn lock(path: &[&str]) -> Frame {
    Frame::lock([Resource::write(path.iter().copied())])
}
