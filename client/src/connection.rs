//! One v1 connection: a task that owns the socket and carries out the commands of its handle.
//!
//! ```text
//!             Lock                    acquired / enqueued, acquired: reported through Stage
//!   ┌─────┐ ────────► ┌────────────┐
//!   │Ready│           │ Locked     │ ── Release ──► ┌─────────┐
//!   └──▲──┘           └────────────┘                │Releasing│
//!      └───────────────── ready: back to the pool ──┴─────────┘
//!   any state: an error, the end of the socket, or silence: Ended, reported to the user of the connection
//! ```
//!
//! # Invariants
//! C1. A handle is in one place: in the pool while `Ready`, in a checkout while `Locked`, in the task while
//!     `Releasing`. So no second lock is requested on a connection that has one.
//! C2. The frame of a request is written at most once. A request that ends as `NotSent` was not written at all, and
//!     only such a request may be sent again on another connection.
//! C3. The keepalive gets only moments at which we sent something that the server has answered.
//! C4. No message is read while the answer to an earlier one is unwritten, and reading cannot keep commands and pings
//!     waiting. So a server that sends without end can neither fill memory nor delay the end of its silence.

use crate::checkout::{Command, Handle, Lost, Stage};
use crate::error::{Detail, Error, printable};
use crate::keepalive::{Keepalive, Pings};
use crate::pool::{Open, Pool};
use crate::protocol::v1::{
    Action, CLOSE_CODE_ERROR, CLOSE_CODE_TRY_AGAIN, Request, Response, State as Reported,
};
use crate::stream::WebSocket;
use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::error::{Error as WebSocketError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many messages are read in a row before commands and pings come first.
const MAX_READ_IN_A_ROW: u32 = 32;

/// The longest id of a lock, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Connects, and starts the task.
pub(crate) async fn connect(pool: &Arc<Pool>) -> Result<Handle, Error> {
    let started = Instant::now();
    let websocket = pool.options.websocket().await?;
    let (commands, received) = mpsc::unbounded_channel();
    let keepalive = Arc::new(Keepalive::new(started, pool.options.abandon_timeout));
    let driver = Driver {
        websocket,
        commands: received,
        pool: Arc::downgrade(pool),
        _open: pool.count_open(),
        keepalive: Arc::clone(&keepalive),
        pings: Pings::new(&pool.options),
        state: State::Ready,
        confirming: vec![],
    };
    tokio::spawn(driver.run());
    Ok(Handle {
        commands,
        keepalive,
    })
}

enum State {
    Ready,
    Locked {
        stage: watch::Sender<Stage>,
        sent: Instant,
    },
    Releasing {
        handle: Handle,
        done: Option<oneshot::Sender<Result<(), Error>>>,
    },
}

/// Why the task ends.
enum End {
    /// The handle was dropped.
    Unused,
    /// The connection cannot continue.
    Broken(Error),
}

enum Event {
    Message(Option<Result<Message, WebSocketError>>),
    /// `None` once the handle is dropped.
    Command(Option<Command>),
    Tick,
}

struct Driver {
    websocket: WebSocket,
    commands: mpsc::UnboundedReceiver<Command>,
    pool: Weak<Pool>,
    _open: Open,
    keepalive: Arc<Keepalive>,
    pings: Pings,
    state: State,
    /// The callers that wait for an answer to a ping that was sent at this moment or later.
    confirming: Vec<(Instant, oneshot::Sender<()>)>,
}

impl Driver {
    async fn run(mut self) {
        if let End::Broken(error) = self.serve().await {
            self.report_end(error);
        }
        self.close().await;
    }

    async fn serve(&mut self) -> End {
        let first = tokio::time::Instant::now() + self.pings.interval;
        let mut ticks = interval_at(first, self.pings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_in_a_row = 0;
        loop {
            // Received messages are read before anything is sent: no lock is requested on a connection that is
            // known to have ended (C2), and a pong that has already arrived ends the silence. C4 limits that.
            let event = if read_in_a_row < MAX_READ_IN_A_ROW {
                tokio::select! {
                    biased;
                    message = self.websocket.next() => Event::Message(message),
                    command = self.commands.recv() => Event::Command(command),
                    _ = ticks.tick() => Event::Tick,
                }
            } else {
                tokio::select! {
                    biased;
                    command = self.commands.recv() => Event::Command(command),
                    _ = ticks.tick() => Event::Tick,
                    message = self.websocket.next() => Event::Message(message),
                }
            };
            read_in_a_row = match event {
                Event::Message(_) => read_in_a_row + 1,
                _ => 0,
            };
            let step = match event {
                Event::Message(message) => self.receive(message).await,
                Event::Command(Some(command)) => self.carry_out(command).await,
                Event::Command(None) => return End::Unused,
                Event::Tick => self.ping().await,
            };
            if let Err(error) = step {
                return End::Broken(error);
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Lock { frame, stage } => {
                let sent = Instant::now();
                self.state = State::Locked { stage, sent };
                self.send(frame).await
            }
            Command::Confirm { done } => {
                self.confirming.retain(|(_, done)| !done.is_closed());
                let now = Instant::now();
                self.confirming.push((now, done));
                let payload = self.pings.extra(now);
                self.send(Message::Ping(payload.to_vec().into())).await
            }
            Command::Release { handle, done } => {
                self.state = State::Releasing { handle, done };
                self.send(Message::text(Request::Release.encode())).await
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        match self.pings.tick(Instant::now()) {
            Some(payload) => self.send(Message::Ping(payload.to_vec().into())).await,
            None => {
                let (pings, every) = (self.pings.most_silent, self.pings.interval);
                let text = format!(
                    "the server is silent: no answer to {pings} pings, one every {every:?}"
                );
                Err(Error::Closed(text.into()))
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let limit = self.pings.send_timeout;
        in_time(limit, self.websocket.send(message)).await
    }

    async fn receive(
        &mut self,
        message: Option<Result<Message, WebSocketError>>,
    ) -> Result<(), Error> {
        let message = message
            .unwrap_or(Err(WebSocketError::ConnectionClosed))
            .map_err(broken)?;
        match message {
            Message::Text(text) => self.read(text.as_bytes()),
            Message::Binary(bytes) => self.read(&bytes),
            Message::Pong(payload) => {
                if let Some(sent) = self.pings.answered(&payload, &self.keepalive) {
                    let answered = |asked: &Instant| *asked <= sent;
                    for (_, done) in self.confirming.extract_if(.., |(asked, _)| answered(asked)) {
                        let _ = done.send(());
                    }
                }
                Ok(())
            }
            // C4: the pong is written before the next message is read.
            Message::Ping(_) => in_time(self.pings.send_timeout, self.websocket.flush()).await,
            Message::Close(frame) => Err(closed(frame)),
            Message::Frame(_) => Ok(()),
        }
    }

    fn read(&mut self, message: &[u8]) -> Result<(), Error> {
        match Response::decode(message) {
            Ok(Response::State { id, action, state }) => self.advance(id, action, state),
            Ok(Response::Error { error }) => Err(Error::from_v1(&error)),
            // The errors of the Go server are plain text.
            Err(error) => Err(match std::str::from_utf8(message) {
                Ok(text) if !text.trim_start().starts_with(['{', '[']) => Error::from_v1(text),
                _ => Error::Protocol(printable(&error.to_string()).into()),
            }),
        }
    }

    fn advance(&mut self, id: String, action: Action, reported: Reported) -> Result<(), Error> {
        if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            let text = format!(
                "an id of {} bytes; at most {MAX_ID_BYTES} without control characters are allowed",
                id.len()
            );
            return Err(Error::Protocol(text.into()));
        }
        let unexpected = || {
            let text = format!("unexpected {reported:?} after {action:?}");
            Err(Error::Protocol(text.into()))
        };
        match (&self.state, action, reported) {
            (
                State::Locked { stage, sent },
                Action::Lock,
                Reported::Enqueued | Reported::Acquired,
            ) => {
                let first = matches!(*stage.borrow(), Stage::Requested);
                let next = match (&*stage.borrow(), reported) {
                    (Stage::Requested, Reported::Enqueued) => Stage::Enqueued(id.into()),
                    (Stage::Requested | Stage::Enqueued(_), Reported::Acquired) => {
                        Stage::Acquired(id.into())
                    }
                    _ => return unexpected(),
                };
                if first {
                    self.keepalive.answered(*sent);
                }
                stage.send_replace(next);
                Ok(())
            }
            // The server sent this before it received the release.
            (State::Releasing { .. }, Action::Lock, Reported::Enqueued | Reported::Acquired) => {
                Ok(())
            }
            (State::Releasing { .. }, Action::Release, Reported::Ready) => {
                if let State::Releasing { handle, done } =
                    std::mem::replace(&mut self.state, State::Ready)
                {
                    // This comes before the answer, so that a caller with the answer finds the connection in the pool.
                    if let Some(pool) = self.pool.upgrade() {
                        pool.put(handle);
                    }
                    // The caller may have stopped waiting.
                    let _ = done.map(|done| done.send(Ok(())));
                }
                Ok(())
            }
            _ => unexpected(),
        }
    }

    /// Reports the end of the connection to its user, and refuses the commands that are still queued.
    fn report_end(&mut self, error: Error) {
        let deadline = match error {
            // The server has ended the lock itself, so another client may hold it now.
            Error::Revoked(_) | Error::Refused { .. } => Instant::now(),
            _ => self.keepalive.deadline(),
        };
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Ready => {}
            State::Locked { stage, .. } => {
                let holds = matches!(*stage.borrow(), Stage::Acquired(_));
                let reason = match error.clone() {
                    // A waiting request is withdrawn, and may be made again; a held lock is kept for a while.
                    Error::Connect(detail) if holds => Error::Closed(detail),
                    error => error,
                };
                stage.send_replace(Stage::Ended(Lost::new(reason, deadline)));
            }
            State::Releasing { done, .. } => {
                let _ = done.map(|done| done.send(Err(error.clone())));
            }
        }
        // This comes after the stage is set: these callers read the reason there.
        self.confirming.clear();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Lock { stage, .. } => {
                    stage.send_replace(Stage::NotSent(error.clone()));
                }
                Command::Release { done, .. } => {
                    let _ = done.map(|done| done.send(Err(error.clone())));
                }
                // The caller sees that its sender is dropped.
                Command::Confirm { .. } => {}
            }
        }
    }

    /// Closes the connection with the closing handshake, if the server takes part in it.
    async fn close(mut self) {
        let closing = async {
            if self.websocket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.websocket.next().await {}
            }
        };
        // The connection ends even if this fails.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

/// The runtime may be shut down while the task runs. Then this is the only report.
impl Drop for Driver {
    fn drop(&mut self) {
        let text = "the runtime of the connection has ended";
        self.report_end(Error::Closed(text.into()));
    }
}

fn broken(error: WebSocketError) -> Error {
    Error::Closed(match error {
        WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => {
            "the server has closed it".into()
        }
        WebSocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the server has closed it without a closing handshake".into()
        }
        WebSocketError::Io(error) => Detail::caused("I/O error", error),
        error => return Error::Protocol(Detail::caused("bad WebSocket message", error)),
    })
}

fn closed(frame: Option<CloseFrame>) -> Error {
    match frame {
        Some(frame) if u16::from(frame.code) == CLOSE_CODE_ERROR => Error::from_v1(&frame.reason),
        Some(frame) if u16::from(frame.code) == CLOSE_CODE_TRY_AGAIN => {
            Error::Connect(printable(&frame.reason).into())
        }
        Some(frame) if !frame.reason.is_empty() => Error::Closed(printable(&frame.reason).into()),
        _ => Error::Closed("the server has closed it".into()),
    }
}

/// Ends a write to a server that does not read.
async fn in_time(
    limit: Duration,
    writing: impl Future<Output = Result<(), WebSocketError>>,
) -> Result<(), Error> {
    match timeout(limit, writing).await {
        Ok(written) => written.map_err(broken),
        Err(_) => {
            let text = format!("the server has not read anything for {limit:?}");
            Err(Error::Closed(text.into()))
        }
    }
}
