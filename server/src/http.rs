//! The routes: the upgrade of `/v1`, the status page, statistics.

use crate::Server;
use crate::connection::{Connection, websocket_config};
use crate::namespaces::Namespace;
use crate::query::{Upgrade, namespace};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Answer = Response<Full<Bytes>>;

/// Why there is no better answer: a sentence that says what is wrong and what is allowed.
struct Refusal(StatusCode, String);

impl Refusal {
    fn new(status: StatusCode, sentence: impl Into<String>) -> Refusal {
        Refusal(status, sentence.into())
    }
}

/// Answers one request.
pub(crate) fn respond(
    server: &Arc<Server>,
    address: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let get = *request.method() == Method::GET;
    let head = *request.method() == Method::HEAD;
    let allowed = if request.uri().path() == "/v1" {
        "GET"
    } else {
        "GET, HEAD"
    };
    let answer = match request.uri().path() {
        "/" | "/stats_v1" | "/stats" | "/v1" if !(get || head && allowed.contains("HEAD")) => {
            let sentence = format!("method not allowed; allowed here: {allowed}");
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, sentence))
        }
        "/" => Ok(content("text/plain; charset=utf-8", status_page(server))),
        "/v1" => upgrade(server, address, request),
        "/stats_v1" | "/stats" => statistics(server, &request),
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "not found; there are /, /v1 and /stats_v1",
        )),
    };
    answer.unwrap_or_else(|Refusal(status, sentence)| {
        let mut answer = content("text/plain; charset=utf-8", sentence + "\n");
        *answer.status_mut() = status;
        let hint = match status {
            StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, allowed)),
            StatusCode::UPGRADE_REQUIRED => Some((UPGRADE, "websocket")),
            _ => None,
        };
        if let Some((name, value)) = hint {
            answer
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        answer
    })
}

fn upgrade(
    server: &Arc<Server>,
    address: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Upgrade {
        namespace,
        abandon_timeout,
    } = Upgrade::parse(request.uri().query()).map_err(bad_request)?;
    if !hyper_tungstenite::is_upgrade_request(&request) {
        return Err(Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint; an upgrade is required",
        ));
    }
    let (answer, websocket) = hyper_tungstenite::upgrade(&mut request, Some(websocket_config()))
        .map_err(|error| {
            let sentence = format!("bad WebSocket handshake: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, sentence)
        })?;
    // Before the answer: whoever has seen it finds the namespace.
    let member = server.namespaces.join(&namespace).ok_or_else(|| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down",
        )
    })?;
    let connection = Connection {
        server: Arc::clone(server),
        id: server.last_connection.fetch_add(1, Ordering::Relaxed) + 1,
        address,
        member,
        abandon_timeout: abandon_timeout.unwrap_or(server.config.default_abandon_timeout),
    };
    server.tasks.spawn(connection.serve(websocket));
    Ok(answer)
}

fn statistics(server: &Server, request: &Request<Incoming>) -> Result<Answer, Refusal> {
    let name = namespace(request.uri().query()).map_err(bad_request)?;
    let namespace = server.namespaces.get(&name).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "namespace not found; it exists while clients are connected to it or hold locks in it",
        )
    })?;
    let stats = namespace.locks.stats();
    let body = serde_json::json!({
        "namespace": name,
        "connections": namespace.connections.load(Ordering::Relaxed),
        "acquired": stats.acquired,
        "waiting": stats.waiting,
        "resources": stats.resources,
        "last_token": stats.last_token.to_string(),
    });
    Ok(content("application/json", body.to_string()))
}

fn status_page(server: &Server) -> String {
    let config = &server.config;
    let interval = config
        .stats_interval
        .map_or(0, |interval| interval.as_secs());
    let mut page = format!(
        "Locktopus {}\n\nlistening on             {}\ndefault abandon timeout  {} ms\n\
         log clients              {}\nlog locks                {}\nstatistics interval      {} s\n",
        env!("CARGO_PKG_VERSION"),
        server.address,
        config.default_abandon_timeout.as_millis(),
        config.log_clients,
        config.log_locks,
        interval,
    );
    let namespaces = server.namespaces.list();
    let _ = writeln!(page, "namespaces               {}", namespaces.len());
    for namespace in namespaces {
        let _ = write!(page, "\n{}", summary(&namespace));
    }
    if !page.ends_with('\n') {
        page.push('\n');
    }
    page
}

/// One line on a namespace.
pub(crate) fn summary(namespace: &Namespace) -> String {
    let stats = namespace.locks.stats();
    format!(
        "namespace {:?}: {} connections, {} locks acquired, {} waiting, {} resources, last token {}",
        namespace.name,
        namespace.connections.load(Ordering::Relaxed),
        stats.acquired,
        stats.waiting,
        stats.resources,
        stats.last_token,
    )
}

fn bad_request(sentence: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, sentence)
}

fn content(kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
