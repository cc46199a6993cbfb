//! The client: locks, each on a connection of the pool.

use crate::checkout::{Checkout, Stage, ended_before};
use crate::connection::connect;
use crate::error::Error;
use crate::guard::{Guard, Pending};
use crate::options::Options;
use crate::pool::Pool;
use crate::protocol::Resource;
use crate::protocol::v1::Request;
use crate::stream::MAX_REQUEST_BYTES;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use tokio_tungstenite::tungstenite::protocol::Message;

/// A client of one server and one namespace, for any number of tasks. Clones share everything.
///
/// A connection of v1 carries one lock. So each lock that is held or waited for has a connection of its own. After a
/// release the connection is kept for the next lock, up to [`Options::max_idle_connections`].
///
/// An idle connection that has ended is replaced silently: a request is sent again on another connection, but only if
/// no byte of it was sent on the first. If the connection ends after the request was sent, that is an error. The server
/// may have granted the lock, and then keeps it for the abandon timeout: a retry would wait for our own abandoned lock.
///
/// When the last clone is dropped, idle connections are closed. Guards stay valid.
///
/// A connection lives on the tokio runtime of the call that opened it. When that runtime ends, the connection ends and
/// its lock is lost; [`Guard::lost`] reports it, on any runtime.
#[derive(Clone)]
pub struct Client {
    pub(crate) pool: Arc<Pool>,
}

impl Client {
    /// Connects to a server: takes a URL such as `"ws://127.0.0.1:9009"`, or [`Options`].
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Connect`], [`Error::Refused`] or [`Error::Protocol`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled; so do all other async calls of the client.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect<O>(options: O) -> Result<Client, Error>
    where
        O: TryInto<Options>,
        Error: From<O::Error>,
    {
        let client = Client::new(options)?;
        // The first connection proves that the server can be reached.
        let handle = connect(&client.pool).await?;
        client.pool.put(handle);
        Ok(client)
    }

    /// As [`connect`](Client::connect), but opens no connection before one is needed.
    ///
    /// # Errors
    /// [`Error::Options`] if the URL is wrong.
    pub fn new<O>(options: O) -> Result<Client, Error>
    where
        O: TryInto<Options>,
        Error: From<O::Error>,
    {
        let pool = Arc::new(Pool::new(options.try_into()?));
        Ok(Client { pool })
    }

    /// The options of the client.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.pool.options
    }

    /// The number of open connections: one for each lock that is held or waited for, and the idle connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.pool.counts().0
    }

    /// The number of connections that are kept for later locks.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.counts().1
    }

    /// Locks all of the resources as one set, and waits until the lock is granted.
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
    /// // The paths below user/42 are locked with it, so this conflicts.
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

    /// As [`lock`](Client::lock), but gives up after this time, which includes connecting and asking. A time of zero
    /// means [`try_lock`](Client::try_lock), since even a free lock takes a round trip.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the request waits in line when the time is over; it is withdrawn then. [`Error::Connect`]
    /// or [`Error::Closed`] if the server does not answer in time; see [`enqueue_by`](Client::enqueue_by) and
    /// [`Pending::acquired_by`].
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
        // A time beyond the range of the clock is no limit.
        let Some(deadline) = Instant::now().checked_add(time) else {
            return self.lock(resources).await;
        };
        let pending = self.enqueue_by(resources, deadline).await?;
        pending
            .acquired_by(deadline)
            .await
            .map_err(|error| match error {
                // The server has a limit, too, which may be shorter.
                Error::Timeout(_) if deadline <= Instant::now() => Error::Timeout(time),
                error => error,
            })
    }

    /// Locks if the lock is granted at once; `None` if not.
    ///
    /// v1 has no such request. So this call enqueues a request, and withdraws it after one round trip if it waits.
    /// Conflicting requests that come meanwhile wait behind it.
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

    /// Takes a place in line: returns as soon as the server has answered, and leaves the waiting to the caller.
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
        self.request(resources, &AtomicBool::new(false)).await
    }

    /// As [`enqueue`](Client::enqueue), but gives up at this moment, whether the client connects or waits for the
    /// answer of the server then. [`Options::connect_timeout`] limits connecting, too.
    ///
    /// # Errors
    /// [`Error::Connect`] if the request was not sent by the deadline, and [`Error::Closed`] if the server has not
    /// answered it by then. In the second case the request is withdrawn; if the server had granted it, no other client
    /// gets the lock before the server has read the withdrawal, or for the abandon timeout after the connection ends.
    ///
    /// # Cancel safety
    /// As for [`enqueue`](Client::enqueue).
    ///
    /// # Examples
    /// ```no_run
    /// use locktopus_client::{Client, Error, Resource};
    /// use std::time::{Duration, Instant};
    ///
    /// # async fn deploy() -> Result<(), Error> {
    /// let client = Client::new("ws://127.0.0.1:9009")?;
    /// // One deadline for all steps.
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// let pending = client.enqueue_by([Resource::write(["deploy"])], deadline).await?;
    /// println!("request {} is in line", pending.id());
    /// match pending.acquired_by(deadline).await {
    ///     Ok(lock) => lock.release().await,
    ///     Err(Error::Timeout(_)) => Ok(println!("another client deploys")),
    ///     Err(error) => Err(error),
    /// }
    /// # }
    /// ```
    pub async fn enqueue_by(
        &self,
        resources: impl IntoIterator<Item = Resource>,
        deadline: Instant,
    ) -> Result<Pending, Error> {
        let sent = AtomicBool::new(false);
        match timeout_at(deadline.into(), self.request(resources, &sent)).await {
            Ok(answered) => answered,
            Err(_) if sent.load(Ordering::Relaxed) => {
                let text = "the server has not answered the request in time";
                Err(Error::Closed(text.into()))
            }
            Err(_) => Err(self.options().not_reached("no answer in time")),
        }
    }

    /// Enqueues a request, and notes when it is sent.
    async fn request(
        &self,
        resources: impl IntoIterator<Item = Resource>,
        sent: &AtomicBool,
    ) -> Result<Pending, Error> {
        let resources: Vec<Resource> = resources.into_iter().collect();
        if resources.is_empty() {
            let text = "no resources; at least one is required";
            return Err(Error::Options(text.into()));
        }
        let frame = Message::text(Request::Lock(resources).encode());
        if frame.len() > MAX_REQUEST_BYTES {
            let text = format!(
                "request of {} bytes; at most {MAX_REQUEST_BYTES} are allowed",
                frame.len()
            );
            return Err(Error::Options(text.into()));
        }
        loop {
            self.check_open()?;
            let (handle, fresh) = match self.pool.take() {
                Some(handle) => (handle, false),
                None => (connect(&self.pool).await?, true),
            };
            // The client may have been closed while this call connected.
            self.check_open()?;
            let mut checkout = Checkout::new(handle, frame.clone());
            sent.store(true, Ordering::Relaxed);
            let answered = |stage: &Stage| !matches!(stage, Stage::Requested);
            match checkout.reaches(answered).await {
                // The connection ended while it was idle. The loop ends, since each turn takes a connection out of the
                // pool.
                Stage::NotSent(_) if !fresh => {}
                Stage::NotSent(error) => return Err(error),
                Stage::Ended(lost) => return Err(lost.reason().clone()),
                Stage::Enqueued(id) | Stage::Acquired(id) => {
                    return Ok(Pending {
                        checkout,
                        id,
                        abandon_timeout: self.pool.options.abandon_timeout,
                        answered_at: Instant::now(),
                    });
                }
                Stage::Requested => return Err(ended_before()),
            }
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.pool.is_closed() {
            return Err(Error::Closed("the client is closed".into()));
        }
        Ok(())
    }

    /// Closes the client and all its clones: they get no new locks. Closes idle connections, and waits until all other
    /// connections have ended. A connection of a dropped guard ends once the release is confirmed; a connection of a
    /// guard that is still held ends after that guard is released.
    ///
    /// # Cancel safety
    /// The client is closed even if the future is dropped; only the wait ends.
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
