//! The task of a v1 connection: reads frames, waits for the grant, and carries out the effects of the session.

use super::keepalive::{Due, Keepalive};
use super::limits;
use super::socket::{
    End, WebSocket, close, describe, message, out_of_memory, refused, send, websocket_config,
};
use super::stream::StillReadable;
use super::v1::{Effect, Input, Left, Session};
use crate::locks::{Client, Holder};
use crate::polls::measured;
use crate::shared::Shared;
use crate::shares::{Memory, Place, request_bytes};
use crate::work::{Soon, Weight};
use futures_util::StreamExt;
use hyper::body::Bytes;
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::protocol::{Message, Role};
use locktopus_engine::LockError;
use locktopus_protocol::v1::{NO_NEW_LOCKS, Request};
use std::future::pending;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::info;

/// A connection, from the answer to its upgrade until its lock has ended.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
    /// The place of the connection, of which its party has a share. Its holder keeps the place as well, so that the
    /// numbers of abandoned locks and of jobs are limited too.
    place: Arc<Place>,
}

/// What the connection waits for before it reads the next message.
enum Busy {
    /// A message of so many bytes is read.
    Reading(Soon<Result<Request, String>>, usize),
    /// The requested lock enters the lock table.
    Entering(Soon<Result<(), LockError>>),
    /// The lock leaves the lock table. Then this is sent.
    Releasing(Soon<()>, Message),
}

/// The next step of a conversation.
enum Next {
    Message(Bytes),
    Read(Result<Request, String>, usize),
    Entered(Result<(), LockError>),
    Input(Input),
    Released(Message),
    Ping,
}

/// Waits for the end of the work, and clears it. `None` if the queue has ended.
///
/// # Cancel safety
/// Dropping the future loses nothing.
async fn finished(busy: &mut Option<Busy>) -> Option<Next> {
    let next = match busy.as_mut()? {
        Busy::Reading(read, bytes) => Next::Read(read.await?, *bytes),
        Busy::Entering(entered) => Next::Entered(entered.await?),
        Busy::Releasing(left, reply) => {
            left.await?;
            Next::Released(mem::replace(reply, Message::Ping(Bytes::new())))
        }
    };
    *busy = None;
    Some(next)
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, holder: Arc<Holder>, place: Arc<Place>) -> Connection {
        Connection {
            shared,
            holder,
            place,
        }
    }

    /// Serves the connection until it ends. `websocket` becomes a WebSocket once the answer to the upgrade is sent.
    pub(crate) async fn serve(self, websocket: HyperWebsocket) {
        let Ok(websocket) = websocket.await else {
            return;
        };
        self.shared.metrics.connected.inc();
        let pool = &self.shared.shares.memory;
        let memory = Memory::new(pool, self.holder.client.party);
        let stream = StillReadable::new(websocket.into_inner(), memory);
        let config = websocket_config(self.shared.config.max_message_bytes);
        let mut websocket = WebSocket::from_raw_socket(stream, Role::Server, Some(config)).await;
        self.log("connected");
        let mut session = Session::new();
        let end = self.converse(&mut websocket, &mut session).await;
        self.log("disconnected");
        self.holder.disconnect();
        // The lock is settled first: closing can take a while, and keeps the place meanwhile.
        let place = Arc::clone(&self.place);
        self.leave(session.step(Input::Ended)).await;
        close(websocket, end).await;
        drop(place);
    }

    async fn converse(&self, websocket: &mut WebSocket, session: &mut Session) -> End {
        let Shared { config, .. } = &*self.shared;
        let holder = &*self.holder;
        let mut keepalive =
            Keepalive::new(config.ping_interval, config.ping_timeout, Instant::now());
        let mut closing = pin!(self.shared.closing.cancelled());
        let mut revoked = pin!(holder.revoked());
        let mut alarm = pin!(sleep_until(Instant::now() + config.ping_interval));
        let mut busy = None;
        loop {
            let next = tokio::select! {
                biased;
                next = finished(&mut busy), if busy.is_some() => match next {
                    Some(next) => next,
                    None => return End::Gone,
                },
                // The release of the last lock lets the server close, and is answered before.
                () = &mut closing, if !matches!(busy, Some(Busy::Releasing(..))) => return End::ShutDown,
                // A request that has just entered is announced before its revocation.
                () = &mut revoked, if !matches!(busy, Some(Busy::Entering(_))) => return self.revoked(session),
                () = holder.granted(), if session.is_waiting() => Next::Input(Input::Granted),
                longest = self.waited_too_long(), if session.is_waiting() => {
                    Next::Input(Input::WaitedTooLong(longest))
                }
                // This comes before the alarm: bytes that have arrived show that the peer answers.
                message = websocket.next(), if busy.is_none() => match message {
                    Some(Ok(Message::Text(text))) => Next::Message(text.into()),
                    Some(Ok(Message::Binary(bytes))) => Next::Message(bytes),
                    Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                        websocket.get_mut().control_frame_read(payload.len());
                        continue;
                    }
                    Some(Ok(_)) | None => return End::Gone,
                    Some(Err(error)) => match (refused(&error), describe(&error)) {
                        (Some(refused), _) => return out_of_memory(refused),
                        (None, Some(problem)) => Next::Input(Input::Read(Err(problem))),
                        (None, None) => return End::Gone,
                    },
                },
                () = &mut alarm, if keepalive.is_some() && busy.is_none() => {
                    let due = keepalive.as_mut().map(|keepalive| {
                        keepalive.received(websocket.get_ref().last_received());
                        keepalive.due(Instant::now())
                    });
                    match due {
                        Some(Due::At(next)) => {
                            alarm.as_mut().reset(next);
                            continue;
                        }
                        Some(Due::Broken) => {
                            self.shared.metrics.dead_peers.inc();
                            self.log("does not answer");
                            return End::Gone;
                        }
                        Some(Due::Ping) | None => Next::Ping,
                    }
                }
            };
            if matches!(next, Next::Message(_)) {
                websocket.get_mut().message_read();
            }
            let reply = match self.take(next, session, &mut busy) {
                Ok(Some(reply)) => reply,
                Ok(None) => continue,
                Err(end) => return end,
            };
            tokio::select! {
                sent = send(websocket, reply, config.send_timeout()) => if sent.is_err() {
                    return End::Gone;
                },
                // However slowly the peer reads.
                () = &mut revoked => return self.revoked(session),
            }
        }
    }

    /// Resolves with the longest wait that the server allows, once the request has waited for it.
    async fn waited_too_long(&self) -> Duration {
        let longest = self.shared.config.max_wait;
        match self.holder.current() {
            // On the heap: few connections wait with a limit.
            Some((_, since)) if !longest.is_zero() => Box::pin(sleep_until(since + longest)).await,
            _ => pending().await,
        }
        longest
    }

    fn revoked(&self, session: &mut Session) -> End {
        match session.step(Input::Revoked) {
            Effect::Revoked(problem) => End::Failed(problem),
            _ => End::Gone,
        }
    }

    /// Takes the next step. Returns the message to send, if there is one.
    fn take(
        &self,
        next: Next,
        session: &mut Session,
        busy: &mut Option<Busy>,
    ) -> Result<Option<Message>, End> {
        let (input, bytes) = match next {
            Next::Ping => return Ok(Some(Message::Ping(Bytes::new()))),
            Next::Released(reply) => {
                self.place.memory().clear();
                return Ok(Some(reply));
            }
            Next::Message(message) => {
                let bytes = message.len();
                self.reserve(bytes)?;
                *busy = Some(Busy::Reading(self.read(message), bytes));
                return Ok(None);
            }
            Next::Read(request, bytes) => (Input::Read(request), bytes),
            Next::Entered(entered) => (self.entered(entered), 0),
            Next::Input(input) => (input, 0),
        };
        match session.step(input) {
            Effect::Lock(resources) => {
                let segments = resources.iter().map(|resource| resource.path.len());
                self.reserve(request_bytes(bytes, resources.len(), segments.sum()))?;
                let weight = Weight::of_message(bytes);
                let entering = self.holder.enqueue(resources, weight);
                *busy = Some(Busy::Entering(entering));
                Ok(None)
            }
            Effect::Release(reply) => {
                *busy = Some(Busy::Releasing(self.holder.release(), message(&reply)));
                Ok(None)
            }
            Effect::Reply(reply) => Ok(Some(message(&reply))),
            Effect::Fail(problem) => {
                self.shared.metrics.protocol_errors.inc();
                Err(End::Failed(problem))
            }
            Effect::Revoked(problem) => Err(End::Failed(problem)),
            // The request is withdrawn when the connection is left, which comes before the error is sent.
            Effect::Withdraw(problem) => {
                self.shared.metrics.waited_too_long.inc();
                Err(End::Failed(problem))
            }
            Effect::Nothing | Effect::Leave(_) => Ok(None),
        }
    }

    /// Takes memory for a message, and later for its request. Both are outstanding until the lock is released.
    fn reserve(&self, bytes: usize) -> Result<(), End> {
        let reserved = self.place.memory().reserve(bytes);
        reserved.map_err(out_of_memory)
    }

    fn read(&self, message: Bytes) -> Soon<Result<Request, String>> {
        let Client { id, party, .. } = self.holder.client;
        let weight = Weight::of_message(message.len());
        let (shared, place) = (Arc::clone(&self.shared), Arc::clone(&self.place));
        let read = move || {
            let read = limits::read(&shared.config, &message);
            // The memory of the message is the connection's until it is read, even if the connection ends before.
            drop((message, place));
            read
        };
        self.shared.queues.run(id, party, weight, read)
    }

    fn entered(&self, entered: Result<(), LockError>) -> Input {
        match entered {
            Ok(()) => {
                let (token, acquired) = self.holder.entered();
                Input::Queued { token, acquired }
            }
            Err(LockError::Closed) => Input::Refused(NO_NEW_LOCKS.to_owned()),
            Err(error) => Input::Refused(error.to_string()),
        }
    }

    /// Keeps an acquired lock for the abandon timeout, with its namespace and its place. Withdraws a waiting request; the
    /// result resolves when that has left the lock table.
    fn leave(self, effect: Effect) -> Soon<()> {
        let Connection { shared, holder, .. } = self;
        if effect != Effect::Leave(Left::Holding) {
            return holder.release();
        }
        // Not one of the tasks that a server waits for at its end.
        let abandon = async move { holder.abandon().await };
        tokio::spawn(measured(&shared.metrics, abandon));
        Soon::now(())
    }

    fn log(&self, event: &str) {
        if self.shared.config.log_clients {
            let Client {
                id, address, name, ..
            } = &self.holder.client;
            let namespace = &*self.holder.namespace().name;
            info!(connection = id, %address, client = name, namespace, "client {event}");
        }
    }
}
