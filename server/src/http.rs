//! The routes: the upgrade of `/v1`, the pages, and what is asked by programs.

use crate::Server;
use crate::answers::{Answer, Refusal, content, json, text};
use crate::body::{Content, Held};
use crate::clients::Client;
use crate::connection::Connection;
use crate::listing::{self, Filter};
use crate::namespaces::NotJoined;
use crate::query::{Upgrade, namespace};
use crate::secrets::Pass;
use crate::wire::websocket_config;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use hyper::header::{VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use hyper::{Method, Request, Version};
use locktopus_protocol::v1::SHUTTING_DOWN;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The live page.
const PAGE: &str = include_str!("page.html");

/// The page needs its own style and script and this server, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers one request. `slow` is cancelled if the answer is not taken in time.
pub(crate) async fn respond(
    server: &Arc<Server>,
    address: SocketAddr,
    request: Request<Incoming>,
    slow: &CancellationToken,
) -> Answer {
    match route(server, address, request, slow).await {
        Ok(answer) => answer,
        Err(refusal) => {
            server.metrics.refused.inc();
            refusal.into()
        }
    }
}

async fn route(
    server: &Arc<Server>,
    address: SocketAddr,
    request: Request<Incoming>,
    slow: &CancellationToken,
) -> Result<Answer, Refusal> {
    let path = request.uri().path();
    let token = path.strip_prefix("/locks/");
    let allowed = match (path, token) {
        ("/v1", _) => "GET",
        (_, Some(_)) => "DELETE",
        (
            "/" | "/namespaces" | "/locks" | "/stats_v1" | "/stats" | "/metrics" | "/healthz",
            None,
        ) => "GET, HEAD",
        _ => {
            return Err(Refusal::not_found(
                "not found; there are /, /v1, /namespaces, /locks, /stats_v1, /metrics and /healthz",
            ));
        }
    };
    if !allowed
        .split(", ")
        .any(|method| method == request.method().as_str())
    {
        return Err(Refusal::wrong_method(allowed));
    }
    server.access.check_origin(&request)?;
    let query = request.uri().query();
    match path {
        "/healthz" => Ok(text("ok\n".to_owned())),
        "/v1" => upgrade(server, address, request),
        "/" | "/locks" if wants_page(&request) => Ok(varies(page())),
        "/" | "/namespaces" => {
            let pass = server.access.pass(&request)?;
            let turn = turn(server).await?;
            let answer = if path == "/" {
                varies(text(status(server, &pass)))
            } else {
                listing::namespaces(server, &pass)
            };
            Ok(keeping(answer, server, turn, slow))
        }
        "/metrics" => {
            server.access.check_everywhere(&request)?;
            let (kind, figures) = server.metrics.text(server);
            Ok(content(kind, figures))
        }
        _ => {
            let name = namespace(query).map_err(Refusal::bad_request)?;
            server.access.check_namespace(&request, &name)?;
            if let Some(token) = token {
                server.access.check_force()?;
                return listing::release(server, address, token, &name).await;
            }
            let namespace = listing::named(server, &name)?;
            if path != "/locks" {
                return Ok(json(&listing::statistics(&namespace)));
            }
            let filter = Filter::parse(query)?;
            let turn = turn(server).await?;
            // Not beside the tasks of connections: there may be very many locks.
            let listed = tokio::task::spawn_blocking(move || listing::locks(&namespace, &filter));
            let answer = listed
                .await
                .map_err(|_| Refusal::unavailable(SHUTTING_DOWN))?;
            Ok(keeping(varies(answer), server, turn, slow))
        }
    }
}

/// Waits for a place among the answers that may be long.
async fn turn(server: &Server) -> Result<OwnedSemaphorePermit, Refusal> {
    let turn = Arc::clone(&server.long_answers).acquire_owned();
    match timeout(server.config.limits.handshake, turn).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Refusal::unavailable(
            "too many answers are under way that nobody takes; try again",
        )),
    }
}

/// The answer keeps its place until it is sent, which may not take for ever.
fn keeping(
    answer: Answer,
    server: &Server,
    turn: OwnedSemaphorePermit,
    slow: &CancellationToken,
) -> Answer {
    let sent = CancellationToken::new();
    let (is_sent, slow) = (sent.clone(), slow.clone());
    let patience = server.config.send_timeout() * 2;
    server.tasks.spawn(async move {
        tokio::select! {
            () = is_sent.cancelled() => {}
            () = sleep(patience) => slow.cancel(),
        }
    });
    let sent = sent.drop_guard();
    answer.map(|content| content.holding(Held { turn, sent }))
}

fn upgrade(
    server: &Arc<Server>,
    address: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let asked = Upgrade::parse(request.uri().query()).map_err(Refusal::bad_request)?;
    server.access.check_namespace(&request, &asked.namespace)?;
    let config = &server.config;
    let abandon_timeout = config
        .limits
        .admit(&asked, config.default_abandon_timeout)
        .map_err(Refusal::bad_request)?;
    let can_upgrade = request.version() >= Version::HTTP_11;
    if !can_upgrade || !hyper_tungstenite::is_upgrade_request(&request) {
        return Err(Refusal::not_an_upgrade());
    }
    let websocket_config = websocket_config(config.limits.message_bytes);
    let (handshake, websocket) =
        hyper_tungstenite::upgrade(&mut request, Some(websocket_config))
            .map_err(|error| Refusal::bad_request(format!("bad WebSocket handshake: {error}")))?;
    let place = Arc::clone(&server.places)
        .try_acquire_owned()
        .map_err(|_| {
            Refusal::unavailable(format!(
                "too many connections; at most {} are allowed",
                config.limits.connections
            ))
        })?;
    let id = server.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
    let client = Arc::new(Client::new(id, address, asked.client, abandon_timeout));
    // Before the answer: whoever has seen it finds the namespace.
    let joined = server.namespaces.join(&asked.namespace, &client);
    let member = joined.map_err(|error| {
        Refusal::unavailable(match error {
            NotJoined::Closed => SHUTTING_DOWN.to_owned(),
            NotJoined::Full => format!(
                "too many namespaces; at most {} are allowed",
                config.limits.namespaces
            ),
        })
    })?;
    let connection = Connection {
        server: Arc::clone(server),
        member,
        place: Arc::new(place),
    };
    server.tasks.spawn(connection.serve(websocket));
    Ok(handshake.map(|_| Content::default()))
}

/// Whether it is a browser that asks.
fn wants_page(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT);
    let get = [Method::GET, Method::HEAD].contains(request.method());
    get && accept
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// The same address has another answer for others.
fn varies(mut answer: Answer) -> Answer {
    let accept = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(VARY, accept);
    answer
}

fn page() -> Answer {
    let mut answer = content("text/html; charset=utf-8", PAGE);
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The plain status: version, parameters, and the namespaces into which somebody may look.
fn status(server: &Server, pass: &Pass) -> String {
    let config = &server.config;
    let limits = &config.limits;
    let mut status = format!("Locktopus {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(status, "{name:<25}{value}");
    };
    let seconds = |duration: std::time::Duration| format!("{} s", duration.as_secs_f64());
    line("listening on", &server.address);
    line(
        "up for",
        &seconds(std::time::Duration::from_secs(
            server.started.elapsed().as_secs(),
        )),
    );
    line("TLS", &config.secrets.acceptor().is_some());
    line("auth tokens", &config.secrets.are_asked_for());
    line(
        "default abandon timeout",
        &format!("{} ms", config.default_abandon_timeout.as_millis()),
    );
    line(
        "longest abandon timeout",
        &format!("{} ms", limits.abandon_timeout.as_millis()),
    );
    line("ping interval", &seconds(config.ping_interval));
    line("ping timeout", &seconds(config.ping_timeout));
    line("handshake timeout", &seconds(limits.handshake));
    line("connections, at most", &limits.connections);
    line("namespaces, at most", &limits.namespaces);
    line("bytes of a name, at most", &limits.namespace_bytes);
    line("message bytes, at most", &limits.message_bytes);
    line("resources, at most", &limits.resources);
    line("path depth, at most", &limits.path_depth);
    line("path bytes, at most", &limits.path_bytes);
    line("log clients", &config.log_clients);
    line("log locks", &config.log_locks);
    line(
        "statistics interval",
        &seconds(config.stats_interval.unwrap_or_default()),
    );
    let mut namespaces = server.namespaces.list();
    namespaces.retain(|namespace| pass.is_good_for(&namespace.name));
    line("namespaces", &namespaces.len());
    for namespace in namespaces {
        let stats = namespace.locks.stats();
        let _ = writeln!(
            status,
            "\nnamespace {:?}: {} connections, {} locks acquired, {} waiting, {} resources, last token {}",
            namespace.name,
            namespace.connections(),
            stats.acquired,
            stats.waiting,
            stats.resources,
            stats.last_token,
        );
    }
    status
}
