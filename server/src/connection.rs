//! Drives one session: frames in and out, the grant of its lock, and its end.

use crate::clients::Client;
use crate::heartbeat::{Beat, Heartbeat};
use crate::namespaces::{Connected, Member};
use crate::session::{Effect, Input, Left, Session};
use crate::stream::HearsOn;
use crate::wire::{End, WebSocket, describe, goodbye, message, send, websocket_config};
use crate::{Server, engine_resource};
use futures_util::StreamExt;
use hyper::body::Bytes;
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::protocol::{Message, Role};
use locktopus_engine::{Lock, LockError, Mode, Pending};
use locktopus_protocol::Resource;
use locktopus_protocol::path;
use locktopus_protocol::v1::{NO_NEW_LOCKS, Response};
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// A connection, from the answer to its upgrade until nothing of it is left.
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) member: Member,
    /// Its place among those that the server allows. A lock that it leaves behind keeps it, so that
    /// there is an end to these, too.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// What the conversation goes on with.
enum Next {
    Effect(Effect),
    Ping,
}

impl Connection {
    fn client(&self) -> &Client {
        &self.member.client
    }

    /// Serves the connection until it ends. `websocket` becomes one once the upgrade is answered.
    pub(crate) async fn serve(self, websocket: HyperWebsocket) {
        let connected = Connected::new(&self.member);
        let Ok(websocket) = websocket.await else {
            return;
        };
        self.server.metrics.connected.inc();
        let stream = HearsOn::new(websocket.into_inner());
        let config = websocket_config(self.server.config.limits.message_bytes);
        let mut websocket = WebSocket::from_raw_socket(stream, Role::Server, Some(config)).await;
        self.log_client("connected");
        let mut session = Session::new();
        let mut lock = None;
        let end = self.converse(&mut websocket, &mut session, &mut lock).await;
        // What it leaves is settled first; saying goodbye may take its time.
        self.log_client("disconnected");
        drop(connected);
        let place = Arc::clone(&self.place);
        self.leave(session.step(Input::Ended), lock);
        goodbye(websocket, end).await;
        drop(place);
    }

    async fn converse(
        &self,
        websocket: &mut WebSocket,
        session: &mut Session,
        lock: &mut Option<Request>,
    ) -> End {
        let config = &self.server.config;
        let mut heart = Heartbeat::new(config.ping_interval, config.ping_timeout, Instant::now());
        let patience = config.send_timeout();
        let mut closing = pin!(self.server.closing.cancelled());
        let mut doomed = pin!(self.client().doomed());
        let mut alarm = pin!(sleep_until(Instant::now() + config.ping_interval));
        loop {
            let next = tokio::select! {
                biased;
                () = &mut closing => return End::ShutDown,
                () = &mut doomed => return self.revoke(session, lock),
                () = granted(lock), if session.is_waiting() => {
                    self.server.metrics.granted(self.client().granted());
                    Next::Effect(session.step(Input::Granted))
                }
                // Before the alarm: whoever has said something is not dead.
                message = websocket.next() => match message {
                    Some(Ok(Message::Text(text))) => Next::Effect(session.step(Input::Frame(text.as_bytes()))),
                    Some(Ok(Message::Binary(bytes))) => Next::Effect(session.step(Input::Frame(&bytes))),
                    Some(Ok(Message::Close(_))) | None => return End::Gone,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => match describe(&error) {
                        Some(what) => Next::Effect(session.step(Input::Malformed(what))),
                        None => return End::Gone,
                    },
                },
                () = &mut alarm, if heart.is_some() => {
                    let beat = heart.as_mut().map(|heart| {
                        heart.heard(websocket.get_ref().heard());
                        heart.due(Instant::now())
                    });
                    match beat {
                        Some(Beat::Wait(until)) => {
                            alarm.as_mut().reset(until);
                            continue;
                        }
                        Some(Beat::Dead) => {
                            self.server.metrics.dead_peers.inc();
                            self.log_client("does not answer");
                            return End::Gone;
                        }
                        Some(Beat::Ping) | None => Next::Ping,
                    }
                }
            };
            let sending = match next {
                Next::Ping => Message::Ping(Bytes::new()),
                Next::Effect(effect) => match self.carry_out(effect, session, lock) {
                    Ok(Some(reply)) => message(&reply),
                    Ok(None) => continue,
                    Err(what) => return End::Failed(what),
                },
            };
            tokio::select! {
                sent = send(websocket, sending, patience) => if sent.is_err() {
                    return End::Gone;
                },
                // However slowly the peer reads.
                () = &mut doomed => return self.revoke(session, lock),
            }
        }
    }

    /// Ends the lock that somebody takes away.
    fn revoke(&self, session: &mut Session, lock: &mut Option<Request>) -> End {
        let effect = session.step(Input::Revoked);
        match self.carry_out(effect, session, lock) {
            Err(what) => End::Failed(what),
            Ok(_) => End::Gone,
        }
    }

    /// Does what the session wants; what to send, or with what to end.
    fn carry_out(
        &self,
        effect: Effect,
        session: &mut Session,
        lock: &mut Option<Request>,
    ) -> Result<Option<Response>, String> {
        let effect = match effect {
            Effect::Lock(resources) => session.step(self.lock(resources, lock)),
            effect => effect,
        };
        match effect {
            Effect::Reply(reply) => {
                if let Some(lock) = lock {
                    let waits = session.is_waiting();
                    self.log_lock(if waits { "enqueued" } else { "acquired" }, lock);
                }
                Ok(Some(reply))
            }
            Effect::Release(reply) => {
                if let Some(lock) = lock.take() {
                    self.end(lock, None);
                }
                Ok(Some(reply))
            }
            Effect::Revoke(what) => {
                if let Some(lock) = lock.take() {
                    self.end_by_force(lock);
                }
                Err(what)
            }
            Effect::Fail(what) => {
                self.server.metrics.protocol_errors.inc();
                Err(what)
            }
            Effect::Nothing | Effect::Lock(_) | Effect::Leave(_) => Ok(None),
        }
    }

    fn lock(&self, resources: Vec<Resource>, lock: &mut Option<Request>) -> Input<'static> {
        if let Err(what) = self.server.config.limits.check(&resources) {
            return Input::Refused(what);
        }
        let resources = resources.into_iter().map(engine_resource);
        match self.member.namespace.locks.enqueue(resources) {
            Ok(queued) => {
                let (token, acquired) = (queued.token(), queued.is_acquired());
                self.client().queued(token, acquired);
                if acquired {
                    self.server.metrics.granted(Duration::ZERO);
                }
                *lock = Some(Request::Waiting(queued));
                Input::Queued { token, acquired }
            }
            Err(LockError::Closed) => Input::Refused(NO_NEW_LOCKS.to_owned()),
            Err(refused) => Input::Refused(refused.to_string()),
        }
    }

    /// Releases or withdraws; `how`, if it is not one of these.
    fn end(&self, lock: Request, how: Option<&str>) {
        let acquired = lock.is_acquired();
        self.log_lock(
            how.unwrap_or(if acquired { "released" } else { "withdrawn" }),
            &lock,
        );
        drop(lock);
        let (known, lasted) = self.client().ended();
        let metrics = &self.server.metrics;
        match (acquired, known) {
            (true, true) => metrics.released(lasted),
            // It was granted in this very moment.
            (true, false) => {
                metrics.granted(lasted);
                metrics.released(Duration::ZERO);
            }
            (false, _) => metrics.withdrawals.inc(),
        }
    }

    /// As [`end`](Connection::end), since somebody takes the lock away. This is always logged.
    fn end_by_force(&self, lock: Request) {
        let (client, namespace) = (self.client(), &self.member.namespace.name);
        let (address, name) = (client.address, &client.name);
        warn!(namespace, token = lock.token(), connection = client.id, %address, client = name, "lock released by force");
        self.server.metrics.forced.inc();
        self.end(lock, Some("released by force"));
    }

    /// Withdraws what waits; keeps what is held for the abandon timeout, and the namespace with it.
    fn leave(self, effect: Effect, lock: Option<Request>) {
        let Some(lock) = lock else {
            return;
        };
        if effect != Effect::Leave(Left::Holding) {
            self.end(lock, None);
            return;
        }
        self.server.metrics.abandoned.inc();
        self.log_lock("abandoned", &lock);
        tokio::spawn(async move {
            let timeout = self.client().abandon_timeout;
            let forced = !timeout.is_zero()
                && tokio::select! {
                    () = tokio::time::sleep(timeout) => false,
                    () = self.client().doomed() => true,
                };
            if forced {
                self.end_by_force(lock);
            } else {
                self.end(lock, Some("released after the abandon timeout"));
            }
        });
    }

    fn log_client(&self, what: &str) {
        if self.server.config.log_clients {
            let Client {
                id, address, name, ..
            } = self.client();
            let namespace = &self.member.namespace.name;
            info!(connection = id, %address, client = name, namespace, "client {what}");
        }
    }

    fn log_lock(&self, what: &str, lock: &Request) {
        if self.server.config.log_locks {
            let namespace = &self.member.namespace.name;
            let resources = shown(lock.resources());
            info!(
                connection = self.client().id,
                namespace,
                token = lock.token(),
                resources,
                "lock {what}"
            );
        }
    }
}

/// The first resources, shortened: a log that nobody reads is kept in memory for a while.
fn shown(resources: &[locktopus_engine::Resource]) -> String {
    const SHOWN: usize = 4;
    const CHARACTERS: usize = 80;
    let mut text = String::new();
    for (index, resource) in resources.iter().take(SHOWN).enumerate() {
        let mode = match resource.mode {
            Mode::Read => "read",
            _ => "write",
        };
        let path: String = path::write(resource.path.segments())
            .chars()
            .take(CHARACTERS)
            .collect();
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{mode} {path}");
    }
    if resources.len() > SHOWN {
        let _ = write!(text, " and {} more", resources.len() - SHOWN);
    }
    text
}

/// The request of a session: in line, or held.
enum Request {
    Waiting(Pending),
    Held(Lock),
}

impl Request {
    fn token(&self) -> u64 {
        match self {
            Request::Waiting(pending) => pending.token(),
            Request::Held(lock) => lock.token(),
        }
    }

    fn is_acquired(&self) -> bool {
        match self {
            Request::Waiting(pending) => pending.is_acquired(),
            Request::Held(_) => true,
        }
    }

    fn resources(&self) -> &[locktopus_engine::Resource] {
        match self {
            Request::Waiting(pending) => pending.resources(),
            Request::Held(lock) => lock.resources(),
        }
    }
}

/// Resolves when the waiting request is granted, and never without one.
async fn granted(request: &mut Option<Request>) {
    let Some(Request::Waiting(pending)) = request else {
        return std::future::pending().await;
    };
    let lock = pending.await;
    *request = Some(Request::Held(lock));
}
