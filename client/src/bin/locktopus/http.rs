//! The server's pages: one request on one connection, and the answer's text.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use locktopus_client::{Error, Options, Resource};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// The longest answer that is taken, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for a page.
pub(crate) async fn ask(
    options: &Options,
    method: Method,
    path_and_query: &str,
) -> Result<(StatusCode, String), Error> {
    let stream = options.open().await?;
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the connection, which ends with this answer.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(options.path(path_and_query))
            .header(HOST, options.authority())
            .header(ACCEPT, "application/json, text/plain");
        if let Some(token) = &options.auth_token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, text))
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| Error::Closed(error.to_string())),
        Err(_) => Err(Error::Closed(format!(
            "no answer within {ANSWER_TIMEOUT:?}"
        ))),
    }
}

/// As [`ask`]; an answer that is no success is an error with its text.
pub(crate) async fn get(options: &Options, path_and_query: &str) -> Result<String, Error> {
    match ask(options, Method::GET, path_and_query).await? {
        (StatusCode::OK, text) => Ok(text),
        (status, text) => Err(refusal(status, &text)),
    }
}

pub(crate) fn refusal(status: StatusCode, text: &str) -> Error {
    let text: String = text
        .trim()
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(300)
        .collect();
    Error::Refused(format!("{text} (HTTP status {status})"))
}

/// `GET /locks`. Members that are not essential may be missing.
#[derive(Debug, Deserialize)]
pub(crate) struct Locks {
    #[serde(default)]
    pub(crate) truncated: bool,
    pub(crate) requests: Vec<Waiter>,
}

/// A request for a lock, granted or not.
#[derive(Debug, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) token: String,
    pub(crate) state: String,
    /// For how long it has been in this state; not known in the moment in which it enters.
    pub(crate) since_ms: Option<u64>,
    #[serde(default)]
    pub(crate) resources: Vec<Resource>,
    pub(crate) waits_for: Option<String>,
    pub(crate) connection: Option<Connection>,
}

/// Whose it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Connection {
    #[serde(default)]
    pub(crate) address: String,
    pub(crate) client: Option<String>,
    #[serde(default)]
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) abandon_timeout_ms: u64,
    /// When it is gone: for how long it still keeps its lock.
    pub(crate) released_in_ms: Option<u64>,
}

/// The text of `GET /locks` with these parameters besides the namespace.
///
/// A namespace is there only while somebody uses it: without one there are no locks.
pub(crate) async fn locks_text(
    options: &Options,
    parameters: &[(&str, String)],
) -> Result<String, Error> {
    let mut query = query(options);
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    let path = format!("/locks?{}", query.finish());
    match ask(options, Method::GET, &path).await? {
        (StatusCode::OK, text) => Ok(text),
        (StatusCode::NOT_FOUND, text) if text.contains("namespace") => {
            let namespace = &options.namespace;
            let none = serde_json::json!({
                "namespace": namespace, "truncated": false, "requests": []
            });
            Ok(none.to_string())
        }
        (status, text) => Err(refusal(status, &text)),
    }
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Protocol(format!("the answer is not as expected: {error}")))
}

/// The query that names the namespace.
pub(crate) fn query(options: &Options) -> form_urlencoded::Serializer<'static, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("namespace", &options.namespace);
    query
}
