//! `bench`: how fast a server is, over plain v1.
//!
//! It speaks frames itself, so that nothing of the library is measured with the server. Times are
//! in microseconds.

use crate::mode::Mode;
use crate::{Failure, args, complain, print};
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use locktopus_client::protocol::v1::{Action, Request, Response, State};
use locktopus_client::{Error, Options, Resource};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The longest time that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How often an idle connection asks for a pong.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(1);

/// How many connections are made at a time: a server has a backlog.
const CONNECTING: usize = 64;

/// The most connections: more than one machine has ports for.
const MAX_CONNECTIONS: usize = 1_000_000;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One v1 connection.
struct Connection(WebSocketStream<Box<dyn Duplex>>);

impl Connection {
    async fn open(options: &Options) -> Result<Connection, Error> {
        let stream: Box<dyn Duplex> = Box::new(options.open().await?);
        let mut request = options
            .endpoint()
            .into_client_request()
            .map_err(|error| Error::Options(error.to_string()))?;
        if let Some(token) = &options.auth_token {
            let value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::Options("the auth token is not fit for a header".to_owned()))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((websocket, _)) => Ok(Connection(websocket)),
            Err(error) => Err(Error::Connect(error.to_string())),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.0
            .send(message)
            .await
            .map_err(|error| Error::Closed(error.to_string()))
    }

    async fn next(&mut self) -> Result<Message, Error> {
        match self.0.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Error::Closed(error.to_string())),
            None => Err(Error::Closed("the server has closed it".to_owned())),
        }
    }

    /// The next state; an error if the server says anything else.
    async fn state(&mut self) -> Result<(Action, State), Error> {
        loop {
            let message = self.next().await?;
            if !(message.is_text() || message.is_binary()) {
                continue;
            }
            let bytes = message.into_data();
            return match Response::decode(&bytes) {
                Ok(Response::State { action, state, .. }) => Ok((action, state)),
                Ok(Response::Error { error }) => Err(Error::Refused(error)),
                Err(error) => Err(Error::Protocol(error.to_string())),
            };
        }
    }

    /// Waits for the grant; whether there was a wait. `enqueued` is called when one begins.
    async fn granted(&mut self, enqueued: impl Fn()) -> Result<bool, Error> {
        let mut waited = false;
        loop {
            match self.state().await? {
                (Action::Lock, State::Acquired) => return Ok(waited),
                (Action::Lock, State::Enqueued) => {
                    waited = true;
                    enqueued();
                }
                other => return Err(Error::Protocol(format!("unexpected {other:?}"))),
            }
        }
    }

    async fn release(&mut self) -> Result<(), Error> {
        self.send(release_frame()).await?;
        match self.state().await? {
            (Action::Release, State::Ready) => Ok(()),
            other => Err(Error::Protocol(format!("unexpected {other:?}"))),
        }
    }
}

fn lock_frame(path: &[&str]) -> Message {
    Message::text(Request::Lock(vec![Resource::write(path.iter().copied())]).encode())
}

fn release_frame() -> Message {
    Message::text(Request::Release.encode())
}

/// What two connections share that pass a lock to and fro.
#[derive(Default)]
struct Pair {
    released: Mutex<Option<Instant>>,
    /// The other one stands in line.
    enqueued: [Notify; 2],
}

/// What one connection does until the end.
struct Worker {
    number: usize,
    mode: Mode,
    until: Instant,
    count: Arc<AtomicU64>,
    pair: Arc<Pair>,
    times: Histogram<u64>,
}

impl Worker {
    async fn work(mut self, mut connection: Connection) -> Result<Histogram<u64>, Error> {
        let end = self.until;
        let working = async {
            match self.mode {
                Mode::Uncontended | Mode::Held(_) => {
                    self.cycle(&mut connection, &["bench", "own", &self.number.to_string()])
                        .await
                }
                Mode::Contended => self.cycle(&mut connection, &["bench", "one"]).await,
                Mode::Handoff => self.pass(&mut connection).await,
                Mode::Idle => self.idle(&mut connection).await,
            }
        };
        // Who waits for a lock at the end waits no longer.
        let done = tokio::select! {
            done = working => done,
            () = sleep_until(end.into()) => Ok(()),
        };
        // What is held is released by a close after the abandon timeout only.
        let _ = timeout(Duration::from_secs(1), connection.release()).await;
        done.map(|()| self.times)
    }

    fn record(&mut self, since: Instant) {
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.times.saturating_record(micros.max(1));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    async fn cycle(&mut self, connection: &mut Connection, path: &[&str]) -> Result<(), Error> {
        let lock = lock_frame(path);
        loop {
            let asked = Instant::now();
            connection.send(lock.clone()).await?;
            connection.granted(|| {}).await?;
            self.record(asked);
            connection.release().await?;
        }
    }

    async fn pass(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let pair = Arc::clone(&self.pair);
        let [ours, theirs] = match self.number % 2 {
            0 => [&pair.enqueued[0], &pair.enqueued[1]],
            _ => [&pair.enqueued[1], &pair.enqueued[0]],
        };
        let lock = lock_frame(&["bench", "pair", &(self.number / 2).to_string()]);
        loop {
            connection.send(lock.clone()).await?;
            let waited = connection.granted(|| ours.notify_one()).await?;
            let released = pair
                .released
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(released) = released.filter(|_| waited) {
                self.record(released);
            }
            // Only a lock that somebody waits for is handed on.
            theirs.notified().await;
            *pair.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            connection.release().await?;
        }
    }

    async fn idle(&mut self, connection: &mut Connection) -> Result<(), Error> {
        loop {
            let asked = Instant::now();
            connection
                .send(Message::Ping(b"idle".as_slice().into()))
                .await?;
            while !connection.next().await?.is_pong() {}
            self.record(asked);
            sleep(IDLE_PING_INTERVAL).await;
        }
    }
}

pub(crate) async fn bench(args: args::Bench, mut options: Options) -> Result<(), Failure> {
    if args.connections == 0 || (args.mode == Mode::Handoff && args.connections % 2 == 1) {
        return Err(Error::Options(
            "one connection at least is required, and an even number for handoff".to_owned(),
        )
        .into());
    }
    let held = match args.mode {
        Mode::Held(held) => held,
        _ => 0,
    };
    if args.connections.saturating_add(held) > MAX_CONNECTIONS {
        return Err(Error::Options(format!(
            "at most {MAX_CONNECTIONS} connections are allowed, those that hold locks included"
        ))
        .into());
    }
    // What is left behind shall not be in the way of the next measurement.
    options.abandon_timeout = Duration::from_millis(100);
    let options = Arc::new(options);
    let progress = ProgressBar::new_spinner();
    let held = hold(&args.mode, &options, &progress).await?;
    let began = Instant::now();
    let connections = open_all(args.connections, &options, &progress).await?;
    let connected = began.elapsed();

    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds.min(86_400));
    let mut workers = JoinSet::new();
    let mut pair = Arc::default();
    for (number, connection) in connections.into_iter().enumerate() {
        if number % 2 == 0 {
            pair = Arc::new(Pair::default());
        }
        let worker = Worker {
            number,
            mode: args.mode,
            until,
            count: Arc::clone(&count),
            pair: Arc::clone(&pair),
            times: histogram()?,
        };
        workers.spawn(worker.work(connection));
    }
    let mut times = histogram()?;
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    let mut elapsed = None;
    loop {
        tokio::select! {
            worker = workers.join_next() => match worker {
                Some(Ok(worked)) => {
                    elapsed.get_or_insert_with(|| began.elapsed());
                    let added = times.add(worked?);
                    added.map_err(|error| Error::Options(error.to_string()))?;
                }
                Some(Err(error)) => return Err(Error::Closed(error.to_string()).into()),
                None => break,
            },
            _ = ticks.tick() => {
                let (done, seconds) = (count.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
                let rate = rate(done, seconds);
                progress.set_message(format!("{seconds:.0} of {} s, {rate:.0} per second", args.seconds));
                progress.tick();
            }
        }
    }
    progress.finish_and_clear();
    drop(held);
    report(&args, &times, connected, elapsed.unwrap_or_default())
}

/// Holds as many locks as the mode says, for as long as the result lives.
async fn hold(
    mode: &Mode,
    options: &Arc<Options>,
    progress: &ProgressBar,
) -> Result<Vec<Connection>, Error> {
    let Mode::Held(number) = *mode else {
        return Ok(vec![]);
    };
    let mut connections = open_all(number, options, progress).await?;
    for (number, connection) in connections.iter_mut().enumerate() {
        connection
            .send(lock_frame(&["bench", "held", &number.to_string()]))
            .await?;
        connection.granted(|| {}).await?;
    }
    Ok(connections)
}

async fn open_all(
    number: usize,
    options: &Arc<Options>,
    progress: &ProgressBar,
) -> Result<Vec<Connection>, Error> {
    let mut opening = JoinSet::new();
    let mut connections = Vec::with_capacity(number);
    let mut left = number;
    while connections.len() < number {
        while left > 0 && opening.len() < CONNECTING {
            let options = Arc::clone(options);
            opening.spawn(async move { Connection::open(&options).await });
            left -= 1;
        }
        match opening.join_next().await {
            Some(Ok(opened)) => connections.push(opened?),
            Some(Err(error)) => return Err(Error::Closed(error.to_string())),
            None => break,
        }
        progress.set_message(format!("{} of {number} connections", connections.len()));
        progress.tick();
    }
    Ok(connections)
}

fn histogram() -> Result<Histogram<u64>, Error> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| Error::Options(error.to_string()))
}

#[allow(clippy::cast_precision_loss, reason = "nobody counts to 2⁵³ here")]
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
    connected: Duration,
    elapsed: Duration,
) -> Result<(), Failure> {
    if times.is_empty() {
        complain("nothing was measured; a longer time may do");
    }
    let what = match args.mode {
        Mode::Idle => "pings answered",
        Mode::Handoff => "locks handed on",
        _ => "locks granted and released",
    };
    let quantile = |quantile| Duration::from_micros(times.value_at_quantile(quantile));
    let connections = args.connections;
    print(&format!(
        "mode         {}\nconnections  {connections}, opened in {connected:.1?}\n\
         {what}  {} in {elapsed:.2?}\nthroughput   {:.0} per second\n\
         latency      p50 {:?}  p90 {:?}  p99 {:?}  max {:?}\n",
        args.mode,
        times.len(),
        rate(times.len(), elapsed.as_secs_f64()),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        Duration::from_micros(times.max()),
    ))
    .map(|_| ())
}
