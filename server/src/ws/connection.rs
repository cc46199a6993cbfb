//! The task of a v1 connection: reads frames, waits for the grant, and carries out the effects of the session.

use super::keepalive::{Due, Keepalive};
use super::limits;
use super::socket::{End, WebSocket, close, describe, message, send, websocket_config};
use super::stream::StillReadable;
use super::v1::{Effect, Input, Left, Session};
use crate::locks::{Client, Holder, Member};
use crate::shared::Shared;
use crate::shares::Taken;
use futures_util::StreamExt;
use hyper::body::Bytes;
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::protocol::{Message, Role};
use locktopus_engine::LockError;
use locktopus_protocol::Resource;
use locktopus_protocol::v1::{NO_NEW_LOCKS, Response};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::info;

/// A connection, from the answer to its upgrade until its lock has ended.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    member: Member,
    /// The place of the connection, of which its party has a share. An abandoned lock keeps the place, so that the
    /// number of abandoned locks is limited as well.
    place: Arc<Taken>,
}

/// The next step of a conversation.
enum Next {
    Effect(Effect),
    Ping,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, member: Member, place: Taken) -> Connection {
        Connection {
            shared,
            member,
            place: Arc::new(place),
        }
    }

    fn holder(&self) -> &Holder {
        &self.member.holder
    }

    /// Serves the connection until it ends. `websocket` becomes a WebSocket once the answer to the upgrade is sent.
    pub(crate) async fn serve(self, websocket: HyperWebsocket) {
        let Ok(websocket) = websocket.await else {
            return;
        };
        self.shared.metrics.connected.inc();
        let stream = StillReadable::new(websocket.into_inner());
        let config = websocket_config(self.shared.config.max_message_bytes);
        let mut websocket = WebSocket::from_raw_socket(stream, Role::Server, Some(config)).await;
        self.log("connected");
        let mut session = Session::new();
        let end = self.converse(&mut websocket, &mut session).await;
        self.log("disconnected");
        self.member.disconnect();
        // The lock is settled first: closing can take a while, and keeps the place meanwhile.
        let place = Arc::clone(&self.place);
        self.leave(session.step(Input::Ended));
        close(websocket, end).await;
        drop(place);
    }

    async fn converse(&self, websocket: &mut WebSocket, session: &mut Session) -> End {
        let Shared { config, .. } = &*self.shared;
        let holder = self.holder();
        let mut keepalive =
            Keepalive::new(config.ping_interval, config.ping_timeout, Instant::now());
        let mut closing = pin!(self.shared.closing.cancelled());
        let mut revoked = pin!(holder.revoked());
        let mut alarm = pin!(sleep_until(Instant::now() + config.ping_interval));
        loop {
            let next = tokio::select! {
                biased;
                () = &mut closing => return End::ShutDown,
                () = &mut revoked => return self.revoked(session),
                () = holder.granted(), if session.is_waiting() => {
                    Next::Effect(session.step(Input::Granted))
                }
                longest = self.waited_too_long(), if session.is_waiting() => {
                    Next::Effect(session.step(Input::WaitedTooLong(longest)))
                }
                // This comes before the alarm: bytes that have arrived show that the peer answers.
                message = websocket.next() => match message {
                    Some(Ok(Message::Text(text))) => Next::Effect(session.step(Input::Frame(text.as_bytes()))),
                    Some(Ok(Message::Binary(bytes))) => Next::Effect(session.step(Input::Frame(&bytes))),
                    Some(Ok(Message::Close(_))) | None => return End::Gone,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => match describe(&error) {
                        Some(problem) => Next::Effect(session.step(Input::Malformed(problem))),
                        None => return End::Gone,
                    },
                },
                () = &mut alarm, if keepalive.is_some() => {
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
            let sending = match next {
                Next::Ping => Message::Ping(Bytes::new()),
                Next::Effect(effect) => match self.carry_out(effect, session) {
                    Ok(Some(reply)) => message(&reply),
                    Ok(None) => continue,
                    Err(problem) => return End::Failed(problem),
                },
            };
            tokio::select! {
                sent = send(websocket, sending, config.send_timeout()) => if sent.is_err() {
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
        match self.holder().current() {
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

    /// Carries out an effect. Returns the message to send, or the error that ends the connection.
    fn carry_out(&self, effect: Effect, session: &mut Session) -> Result<Option<Response>, String> {
        let effect = match effect {
            Effect::Lock(resources) => session.step(self.enqueue(resources)),
            effect => effect,
        };
        match effect {
            Effect::Reply(reply) => Ok(Some(reply)),
            Effect::Release(reply) => {
                self.holder().release();
                Ok(Some(reply))
            }
            Effect::Fail(problem) => {
                self.shared.metrics.protocol_errors.inc();
                Err(problem)
            }
            Effect::Revoked(problem) => Err(problem),
            // The request is withdrawn when the connection is left, which comes before the error is sent.
            Effect::Withdraw(problem) => {
                self.shared.metrics.waited_too_long.inc();
                Err(problem)
            }
            Effect::Nothing | Effect::Lock(_) | Effect::Leave(_) => Ok(None),
        }
    }

    fn enqueue(&self, resources: Vec<Resource>) -> Input<'static> {
        if let Err(problem) = limits::check(&self.shared.config, &resources) {
            return Input::Refused(problem);
        }
        match self.member.enqueue(resources) {
            Ok((token, acquired)) => Input::Queued { token, acquired },
            Err(LockError::Closed) => Input::Refused(NO_NEW_LOCKS.to_owned()),
            Err(error) => Input::Refused(error.to_string()),
        }
    }

    /// Withdraws a waiting request. Keeps an acquired lock for the abandon timeout, with its namespace and its place.
    fn leave(self, effect: Effect) {
        if effect != Effect::Leave(Left::Holding) {
            return self.holder().release();
        }
        tokio::spawn(async move {
            self.holder().abandon().await;
            drop(self);
        });
    }

    fn log(&self, event: &str) {
        if self.shared.config.log_clients {
            let Client {
                id, address, name, ..
            } = &self.holder().client;
            let namespace = &*self.member.namespace.name;
            info!(connection = id, %address, client = name, namespace, "client {event}");
        }
    }
}
