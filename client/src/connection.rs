//! One v1 connection: a task that owns the socket, and the handle by which it is told what to do.
//!
//! ```text
//!             Lock                    acquired / enqueued, acquired: told through Stage
//!   ┌─────┐ ────────► ┌────────────┐
//!   │Ready│           │ Locked     │ ── Release ──► ┌─────────┐
//!   └──▲──┘           └────────────┘                │Releasing│
//!      └───────────────── ready: back to the pool ──┴─────────┘
//!   any state: an error, the end of the socket, or silence: Ended, told to whom it concerns
//! ```
//!
//! # Invariants
//! C1. A handle is in one place: in the pool while `Ready`, in a lease while `Locked`, in the task
//!     while `Releasing`. So nobody asks for a lock on a connection that has one.
//! C2. The frame of a request is written at most once. A request that ends as `NotSent` was not
//!     written at all, and only such a request may be asked again elsewhere.
//! C3. The pulse hears of a moment only if it is one at which we sent what the server has answered.

use crate::error::{Error, printable};
use crate::lease::{Command, Handle, Lost, Stage};
use crate::pool::{Open, Pool};
use crate::protocol::v1::{
    Action, CLOSE_CODE_ERROR, Request, Response, SHUTTING_DOWN, State as Said,
};
use crate::pulse::{Pings, Pulse};
use crate::stream::WebSocket;
use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::error::Error as WebSocketError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest id of a lock, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Connects, and starts the task.
pub(crate) async fn connect(pool: &Arc<Pool>) -> Result<Handle, Error> {
    let started = Instant::now();
    let websocket = pool.options.websocket().await?;
    let (commands, received) = mpsc::unbounded_channel();
    let pulse = Arc::new(Pulse::new(started, pool.options.abandon_timeout));
    let driver = Driver {
        websocket,
        commands: received,
        pool: Arc::downgrade(pool),
        _open: pool.count_open(),
        pulse: Arc::clone(&pulse),
        pings: Pings::new(&pool.options),
        state: State::Ready,
        confirming: vec![],
    };
    tokio::spawn(driver.run());
    Ok(Handle { commands, pulse })
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
    /// Nobody needs the connection any more.
    Unused,
    /// It does not go on.
    Broken(Error),
}

struct Driver {
    websocket: WebSocket,
    commands: mpsc::UnboundedReceiver<Command>,
    pool: Weak<Pool>,
    _open: Open,
    pulse: Arc<Pulse>,
    pings: Pings,
    state: State,
    /// Who waits for an answer to a ping that was sent at this moment or later.
    confirming: Vec<(Instant, oneshot::Sender<()>)>,
}

impl Driver {
    async fn run(mut self) {
        match self.converse().await {
            End::Unused => self.goodbye().await,
            End::Broken(error) => {
                self.tell(error);
                self.goodbye().await;
            }
        }
    }

    async fn converse(&mut self) -> End {
        let first = tokio::time::Instant::now() + self.pings.interval;
        let mut ticks = interval_at(first, self.pings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What has come is read before anything is sent: a connection that is known to be dead
            // is not asked for a lock (C2), and a pong that is there already is no silence.
            let step = tokio::select! {
                biased;
                message = self.websocket.next() => self.hear(message),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return End::Unused,
                },
                _ = ticks.tick() => self.ping().await,
            };
            if let Err(error) = step {
                return End::Broken(error);
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Lock { frame, stage } => {
                let sent = Instant::now();
                self.state = State::Locked { stage, sent };
                self.send(frame).await
            }
            Command::Confirm { done } => {
                self.confirming.retain(|(_, done)| !done.is_closed());
                self.confirming.push((Instant::now(), done));
                let payload = self.pings.extra();
                self.send(Message::Ping(payload.to_vec().into())).await
            }
            Command::Release { handle, done } => {
                self.state = State::Releasing { handle, done };
                self.send(Message::text(Request::Release.encode())).await
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        match self.pings.next() {
            Some(payload) => self.send(Message::Ping(payload.to_vec().into())).await,
            None => {
                let (pings, every) = (self.pings.most_silent, self.pings.interval);
                Err(Error::Closed(format!(
                    "the server is silent: {pings} pings, one every {every:?}, brought nothing"
                )))
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let limit = self.pings.send_timeout;
        match timeout(limit, self.websocket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(Error::Closed(format!(
                "the server takes nothing since {limit:?}"
            ))),
        }
    }

    fn hear(&mut self, message: Option<Result<Message, WebSocketError>>) -> Result<(), Error> {
        let message = message
            .unwrap_or(Err(WebSocketError::ConnectionClosed))
            .map_err(broken)?;
        self.pings.heard();
        match message {
            Message::Text(text) => self.read(text.as_bytes()),
            Message::Binary(bytes) => self.read(&bytes),
            Message::Pong(payload) => {
                if let Some(sent) = self.pings.answered(&payload) {
                    self.pulse.alive_at(sent);
                    let answered = |asked: &Instant| *asked <= sent;
                    for (_, done) in self.confirming.extract_if(.., |(asked, _)| answered(asked)) {
                        // That nobody waits for the answer is all right.
                        let _ = done.send(());
                    }
                }
                Ok(())
            }
            Message::Close(frame) => Err(closed(frame)),
            Message::Ping(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn read(&mut self, message: &[u8]) -> Result<(), Error> {
        match Response::decode(message) {
            Ok(Response::State { id, action, state }) => self.advance(id, action, state),
            // That passes, and nothing is queued: as if it were not there any more.
            Ok(Response::Error { error }) if error.starts_with(SHUTTING_DOWN) => {
                Err(Error::Connect(printable(&error)))
            }
            Ok(Response::Error { error }) => Err(Error::Refused(printable(&error))),
            // The Go server's errors are bare text.
            Err(error) => Err(match std::str::from_utf8(message) {
                Ok(text) if !text.trim_start().starts_with(['{', '[']) => {
                    Error::Refused(printable(text))
                }
                _ => Error::Protocol(printable(&error.to_string())),
            }),
        }
    }

    fn advance(&mut self, id: String, action: Action, said: Said) -> Result<(), Error> {
        if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            return Err(Error::Protocol(format!(
                "an id of {} bytes; allowed are {MAX_ID_BYTES}, without control characters",
                id.len()
            )));
        }
        let unexpected = Err(Error::Protocol(format!(
            "unexpected {said:?} after {action:?}"
        )));
        match (&self.state, action, said) {
            (State::Locked { stage, sent }, Action::Lock, Said::Enqueued | Said::Acquired) => {
                let asked = matches!(*stage.borrow(), Stage::Asked);
                let next = match (&*stage.borrow(), said) {
                    (Stage::Asked, Said::Enqueued) => Stage::Enqueued(id.into()),
                    (Stage::Asked | Stage::Enqueued(_), Said::Acquired) => {
                        Stage::Acquired(id.into())
                    }
                    _ => return unexpected,
                };
                if asked {
                    self.pulse.alive_at(*sent);
                }
                stage.send_replace(next);
                Ok(())
            }
            // They have crossed the release.
            (State::Releasing { .. }, Action::Lock, Said::Enqueued | Said::Acquired) => Ok(()),
            (State::Releasing { .. }, Action::Release, Said::Ready) => {
                if let State::Releasing { handle, done } =
                    std::mem::replace(&mut self.state, State::Ready)
                {
                    // Before the answer: whoever has seen it finds the connection in the pool.
                    if let Some(pool) = self.pool.upgrade() {
                        pool.put(handle);
                    }
                    // That nobody waits for the answer is all right.
                    let _ = done.map(|done| done.send(Ok(())));
                }
                Ok(())
            }
            _ => unexpected,
        }
    }

    /// Tells everybody whom it concerns that the connection has ended.
    fn tell(&mut self, error: Error) {
        let deadline = match error {
            // The server has spoken: the lock was released by force, say. It may be another's now.
            Error::Refused(_) => Instant::now(),
            _ => self.pulse.deadline(),
        };
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Ready => {}
            State::Locked { stage, .. } => {
                stage.send_replace(Stage::Ended(Lost::new(error.clone(), deadline)));
            }
            State::Releasing { done, .. } => {
                let _ = done.map(|done| done.send(Err(error.clone())));
            }
        }
        // After the stage, where they look why.
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
                // Dropping it is the answer.
                Command::Confirm { .. } => {}
            }
        }
    }

    /// Closes the connection in good manners, if the server is there to answer.
    async fn goodbye(mut self) {
        let farewell = async {
            if self.websocket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.websocket.next().await {}
            }
        };
        // Whatever goes wrong here, the connection is over.
        let _ = timeout(GOODBYE_TIMEOUT, farewell).await;
    }
}

/// Its runtime may be shut down under it: then nobody else would tell.
impl Drop for Driver {
    fn drop(&mut self) {
        self.tell(Error::Closed(
            "the runtime of the connection has ended".to_owned(),
        ));
    }
}

fn broken(error: WebSocketError) -> Error {
    match error {
        WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => {
            Error::Closed("the server has closed it".to_owned())
        }
        WebSocketError::Io(error) => Error::Closed(error.to_string()),
        WebSocketError::Protocol(error) if error.to_string().contains("without closing") => {
            Error::Closed("it ended without a goodbye".to_owned())
        }
        error => Error::Protocol(printable(&error.to_string())),
    }
}

fn closed(frame: Option<CloseFrame>) -> Error {
    match frame {
        Some(frame) if u16::from(frame.code) == CLOSE_CODE_ERROR => {
            Error::Refused(printable(&frame.reason))
        }
        Some(frame) if !frame.reason.is_empty() => Error::Closed(printable(&frame.reason)),
        _ => Error::Closed("the server has closed it".to_owned()),
    }
}
