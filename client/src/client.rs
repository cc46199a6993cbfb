//! The client: locks, each on a connection of the pool.

use crate::connection::connect;
use crate::error::Error;
use crate::guard::{Guard, Pending};
use crate::lease::{Lease, Stage};
use crate::options::Options;
use crate::pool::Pool;
use crate::protocol::Resource;
use crate::protocol::v1::Request;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Message;

/// A client of one server and one namespace, for any number of tasks. Clones share everything.
///
/// A connection of the v1 protocol carries one lock. So each lock that is held or waited for has a
/// connection of its own, and there are as many at a time. When its lock is released a connection is
/// kept for the next one, up to [`Options::max_idle_connections`]. One that has died meanwhile is
/// replaced, and nobody notices: a request is asked again on another connection only if nothing of
/// it was sent on the first. Once it is sent and the connection ends, that is an error, since the
/// server may have granted it: the lock is then kept for the abandon timeout, and to ask again
/// silently would mean to wait for ourselves.
///
/// When the last clone is dropped idle connections are closed. Guards go on.
///
/// A connection lives on the tokio runtime on which it was opened, by whichever call needed a new one.
/// When that runtime ends the connection does, too, and the lock on it is lost: [`Guard::lost`] says so,
/// on whatever runtime it is awaited.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// Connects to a server: `"ws://127.0.0.1:9009"`, or [`Options`].
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Connect`], [`Error::Refused`] or [`Error::Protocol`].
    ///
    /// # Panics
    /// Like all of the client it needs a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    /// Nothing remains when the future is dropped.
    pub async fn connect<O>(options: O) -> Result<Client, Error>
    where
        O: TryInto<Options>,
        Error: From<O::Error>,
    {
        let pool = Arc::new(Pool::new(options.try_into()?));
        // The first connection shows that the server is there.
        let handle = connect(&pool).await?;
        pool.put(handle);
        Ok(Client { pool })
    }

    /// The options that it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.pool.options
    }

    /// How many connections are open, those on which a lock is held or waited for and idle ones.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.pool.counts().0
    }

    /// How many of them wait for their next lock.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.counts().1
    }

    /// Locks all of the resources at once, and waits as long as that takes.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request, and its place in line is lost.
    ///
    /// # Examples
    /// ```
    /// use locktopus_client::{Client, Resource};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", listener.local_addr()?);
    /// # let config = locktopus_server::Config::default();
    /// # tokio::spawn(locktopus_server::run(listener, config, std::future::pending()));
    /// let client = Client::connect(&url).await?;
    /// let lock = client.lock([Resource::write(["user", "42"]), Resource::read(["reports"])]).await?;
    /// // user/42 is ours to write, and reports to read.
    /// assert!(client.try_lock([Resource::read(["user", "42", "name"])]).await?.is_none());
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lock(
        &self,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<Guard, Error> {
        self.enqueue(resources).await?.acquired().await
    }

    /// As [`lock`](Client::lock), but for no longer than this, connecting included. A time of zero asks
    /// once, as [`try_lock`](Client::try_lock) does: without a round trip no lock could be had.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the lock is not granted in time; the request is withdrawn then.
    ///
    /// # Cancel safety
    /// As for [`lock`](Client::lock).
    pub async fn lock_timeout(
        &self,
        resources: impl IntoIterator<Item = Resource>,
        time: Duration,
    ) -> Result<Guard, Error> {
        if time.is_zero() {
            let tried = self.try_lock(resources).await?;
            return tried.ok_or(Error::Timeout(time));
        }
        timeout(time, self.lock(resources))
            .await
            .unwrap_or(Err(Error::Timeout(time)))
    }

    /// Locks if that is possible at once; `None` if not.
    ///
    /// The protocol has no such request: this one stands in line for a round trip before it is
    /// withdrawn, and so long a conflicting one behind it waits.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// As for [`lock`](Client::lock).
    pub async fn try_lock(
        &self,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<Option<Guard>, Error> {
        let pending = self.enqueue(resources).await?;
        if pending.is_acquired() {
            return pending.acquired().await.map(Some);
        }
        pending.withdraw().await?;
        Ok(None)
    }

    /// Stands in line: returns once the server has answered, and leaves the waiting to the caller.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request, and its place in line is lost.
    pub async fn enqueue(
        &self,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<Pending, Error> {
        let resources: Vec<Resource> = resources.into_iter().collect();
        if resources.is_empty() {
            return Err(Error::Options(
                "no resources; at least one is required".to_owned(),
            ));
        }
        let frame = Message::text(Request::Lock(resources).encode());
        loop {
            if self.pool.is_closed() {
                return Err(Error::Closed("the client is closed".to_owned()));
            }
            let (handle, fresh) = match self.pool.take() {
                Some(handle) => (handle, false),
                None => (connect(&self.pool).await?, true),
            };
            // It may have been closed while we connected.
            if self.pool.is_closed() {
                return Err(Error::Closed("the client is closed".to_owned()));
            }
            let mut lease = Lease::new(handle, frame.clone());
            let answered = |stage: &Stage| !matches!(stage, Stage::Asked);
            match lease.reaches(answered).await {
                // It died while it was idle. The loop ends: there are only so many in the pool.
                Stage::NotSent(_) if !fresh => {}
                Stage::NotSent(error) => return Err(error),
                Stage::Ended(lost) => return Err(lost.reason().clone()),
                Stage::Enqueued(id) | Stage::Acquired(id) => {
                    return Ok(Pending {
                        lease,
                        id,
                        abandon_timeout: self.pool.options.abandon_timeout,
                    });
                }
                Stage::Asked => return Err(Error::Closed("no answer came".to_owned())),
            }
        }
    }

    /// Closes idle connections, and waits until all others have ended, too: those whose guards are
    /// dropped and are being released, and those whose guards live. There are no new locks from now
    /// on, of no clone.
    ///
    /// # Cancel safety
    /// It is closed in any case; only the waiting ends.
    pub async fn close(&self) {
        self.pool.close();
        self.pool.drained().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}
