//! Drives one session: frames in and out, the grant of its lock, and its end.

use crate::namespaces::{Connected, Member};
use crate::session::{Effect, Input, Left, Session};
use crate::stream::HearsOn;
use crate::{Server, engine_resource};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use hyper_tungstenite::tungstenite::protocol::Role;
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use hyper_tungstenite::{HyperWebsocket, WebSocketStream};
use hyper_util::rt::TokioIo;
use locktopus_client::protocol::{CLOSE_CODE_ERROR, Resource, Response};
use locktopus_engine::{Lock, LockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::info;

/// The largest message, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most that waits to be written, in bytes: answers to pings, if the peer does not take them.
const MAX_UNSENT_BYTES: usize = 4 * 1024;

/// A peer that takes nothing for so long is broken.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the peer may take to close its side after the server has closed its own.
const LINGER: Duration = Duration::from_secs(5);

/// How much of what the peer had under way is read and dropped meanwhile, in bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Small buffers: most connections are idle most of the time.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

type WebSocket = WebSocketStream<HearsOn<TokioIo<Upgraded>>>;

/// What is known of a connection before it says anything.
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) member: Member,
    pub(crate) abandon_timeout: Duration,
}

/// How a connection came to its end.
enum End {
    /// The peer closed it, or it broke.
    Gone,
    /// The peer did what is not allowed.
    Failed(String),
    /// The server is done.
    ShutDown,
}

impl Connection {
    /// Serves the connection until it ends. `websocket` becomes one once the upgrade is answered.
    pub(crate) async fn serve(self, websocket: HyperWebsocket) {
        let connected = Connected::new(&self.member.namespace);
        let Ok(websocket) = websocket.await else {
            return;
        };
        let stream = HearsOn::new(websocket.into_inner());
        let config = Some(websocket_config());
        let mut websocket = WebSocket::from_raw_socket(stream, Role::Server, config).await;
        self.log_client("connected");
        let mut session = Session::new();
        let mut lock = None;
        let end = self.converse(&mut websocket, &mut session, &mut lock).await;
        // What it leaves is settled first; saying goodbye may take its time.
        self.log_client("disconnected");
        drop(connected);
        self.leave(session.step(Input::Ended), lock);
        goodbye(websocket, end).await;
    }

    async fn converse(
        &self,
        websocket: &mut WebSocket,
        session: &mut Session,
        lock: &mut Option<Lock>,
    ) -> End {
        loop {
            let effect = tokio::select! {
                biased;
                () = self.server.closing.cancelled() => return End::ShutDown,
                () = granted(lock), if session.is_waiting() => session.step(Input::Granted),
                message = websocket.next() => match message {
                    Some(Ok(Message::Text(text))) => session.step(Input::Frame(text.as_bytes())),
                    Some(Ok(Message::Binary(bytes))) => session.step(Input::Frame(&bytes)),
                    Some(Ok(Message::Close(_))) | None => return End::Gone,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => match describe(&error) {
                        Some(what) => session.step(Input::Malformed(what)),
                        None => return End::Gone,
                    },
                },
            };
            let effect = match effect {
                Effect::Lock(resources) => session.step(self.lock(resources, lock)),
                effect => effect,
            };
            let reply = match effect {
                Effect::Reply(reply) => {
                    if let Some(lock) = lock {
                        let what = if session.is_waiting() {
                            "enqueued"
                        } else {
                            "acquired"
                        };
                        self.log_lock(what, lock);
                    }
                    reply
                }
                Effect::Release(reply) => {
                    if let Some(lock) = lock.take() {
                        let granted = lock.is_acquired();
                        self.log_lock(if granted { "released" } else { "withdrawn" }, &lock);
                        lock.release();
                    }
                    reply
                }
                Effect::Fail(what) => return End::Failed(what),
                Effect::Nothing | Effect::Lock(_) | Effect::Leave(_) => continue,
            };
            if send(websocket, &reply).await.is_err() {
                return End::Gone;
            }
        }
    }

    fn lock(&self, resources: Vec<Resource>, lock: &mut Option<Lock>) -> Input<'static> {
        let resources = resources.into_iter().map(engine_resource);
        match self.member.namespace.locks.lock(resources) {
            Ok(queued) => {
                let (token, acquired) = (queued.token(), queued.is_acquired());
                *lock = Some(queued);
                Input::Queued { token, acquired }
            }
            Err(LockError::Closed) => Input::Refused(
                "the server is shutting down; no new locks, only releases are allowed".to_owned(),
            ),
            Err(refused) => Input::Refused(refused.to_string()),
        }
    }

    /// Withdraws what waits; keeps what is held for the abandon timeout, and the namespace with it.
    fn leave(self, effect: Effect, lock: Option<Lock>) {
        match (effect, lock) {
            (Effect::Leave(Left::Holding), Some(lock)) => {
                self.log_lock("abandoned", &lock);
                tokio::spawn(async move {
                    if !self.abandon_timeout.is_zero() {
                        tokio::time::sleep(self.abandon_timeout).await;
                    }
                    self.log_lock("released after the abandon timeout", &lock);
                    lock.release();
                });
            }
            (_, Some(lock)) => self.log_lock("withdrawn", &lock),
            (_, None) => {}
        }
    }

    fn log_client(&self, what: &str) {
        if self.server.config.log_clients {
            let namespace = &self.member.namespace.name;
            info!(connection = self.id, address = %self.address, namespace, "client {what}");
        }
    }

    fn log_lock(&self, what: &str, lock: &Lock) {
        if self.server.config.log_locks {
            let namespace = &self.member.namespace.name;
            let (token, resources) = (lock.token(), lock.resources());
            info!(
                connection = self.id,
                namespace,
                token,
                ?resources,
                "lock {what}"
            );
        }
    }
}

/// Sends a message; an error if the peer does not take it in time.
async fn send(websocket: &mut WebSocket, message: &Response) -> Result<(), Error> {
    let message = Message::text(message.encode());
    let sending = async {
        // Makes room first: a peer that sends pings and does not read fills the buffer.
        websocket.flush().await?;
        websocket.send(message).await
    };
    match timeout(SEND_TIMEOUT, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(Error::ConnectionClosed),
    }
}

/// Resolves when the lock is granted; never without one.
async fn granted(lock: &Option<Lock>) {
    match lock {
        Some(lock) => lock.acquired().await,
        None => std::future::pending().await,
    }
}

/// What is wrong with what came; `None` if the connection is gone.
fn describe(error: &Error) -> Option<String> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => Some(format!(
            "message of {size} bytes; at most {max_size} are allowed"
        )),
        Error::Capacity(other) => Some(other.to_string()),
        Error::Utf8(_) => Some("text message is not UTF-8".to_owned()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(other) => Some(format!("not a WebSocket frame: {other}")),
        _ => None,
    }
}

/// Says why the connection ends, and closes it.
///
/// The server closes its side and then reads on for a while: a socket that is closed with unread
/// bytes is reset, and the peer may never see what was sent last.
async fn goodbye(mut websocket: WebSocket, end: End) {
    let farewell = async {
        let close = match end {
            End::Gone => None,
            End::Failed(what) => {
                let error = Response::Error {
                    error: what.clone(),
                };
                send(&mut websocket, &error).await?;
                Some(close_frame(CLOSE_CODE_ERROR.into(), what))
            }
            End::ShutDown => {
                let reason = "the server is shutting down".to_owned();
                Some(close_frame(CloseCode::Away, reason))
            }
        };
        match close {
            Some(close) => websocket.close(Some(close)).await?,
            // The answer to the peer's own close frame may still be under way.
            None => websocket.flush().await?,
        }
        let stream = websocket.get_mut();
        stream.shutdown().await?;
        let mut dropped = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut dropped).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<(), Error>(())
    };
    // Whatever goes wrong here, the connection is over.
    let _ = timeout(LINGER, farewell).await;
}

fn close_frame(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
