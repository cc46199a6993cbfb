//! The HTTP pages of the server as typed calls: one connection and one request each.

use crate::client::Client;
use crate::error::{Detail, Error, printable};
use crate::options::Options;
use crate::protocol::pages::{Locks, Namespaces, Refusal, RefusalCode, Released, ReleasedAll};
use crate::protocol::path;
use crate::stream::is_temporary;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// The longest answer that is accepted, in bytes. A page of locks has about 1 MiB, but at least one request; older
/// servers answer with about 4 MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The requests that [`Client::locks`] lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only requests with a resource above, at or below this path.
    pub path: Option<Vec<String>>,
    /// The largest number of requests on a page. `None` means the server's default, 1,000.
    pub limit: Option<u64>,
    /// Where the page begins: the [`next`](Locks::next) of the page before. `None` means the start of the list.
    pub after: Option<String>,
}

/// The pages of a list of locks, one after the other; made by [`Client::lock_pages`].
///
/// The pages are not a snapshot: see [`Locks`].
#[derive(Debug)]
pub struct LockPages<'a> {
    client: &'a Client,
    /// With the place of the next page.
    filter: Filter,
    is_done: bool,
}

impl LockPages<'_> {
    /// Reads the next page; `None` after the last one. A page can be empty although others follow.
    ///
    /// # Errors
    /// As for [`Client::locks`]. A further call asks for the same page again.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<Locks>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let page = self.client.locks(&self.filter).await?;
        if page.next.is_some() && page.next == self.filter.after {
            // Otherwise a faulty server would keep its client in an endless loop.
            let text = "the next page of the list begins where this one does";
            return Err(Error::Protocol(text.into()));
        }
        self.filter.after.clone_from(&page.next);
        self.is_done = page.next.is_none();
        Ok(Some(page))
    }

    /// Changes the largest number of requests on the following pages.
    pub fn set_limit(&mut self, limit: u64) {
        self.filter.limit = Some(limit);
    }
}

/// The pages of the server. These calls open no v1 connection, and so do not create a namespace.
impl Client {
    /// Reads one page of the requests of the namespace, granted and waiting. The list of a namespace that is not in use
    /// is empty. [`lock_pages`](Client::lock_pages) reads all pages.
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Connect`], [`Error::Refused`], [`Error::Protocol`] or [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    ///
    /// # Examples
    /// ```
    /// use locktopus_client::{Client, Filter, Resource};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", listener.local_addr()?);
    /// # let config = locktopus_server::Config::default();
    /// # tokio::spawn(locktopus_server::run(listener, config, std::future::pending()));
    /// let client = Client::connect(&url).await?;
    /// let lock = client.lock([Resource::write(["user", "42"])]).await?;
    /// let locks = client.locks(&Filter::default()).await?;
    /// assert_eq!(locks.requests[0].token, lock.id());
    ///
    /// client.release_by_force(lock.id()).await?;
    /// println!("lost: {}", lock.lost().await.reason());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn locks(&self, filter: &Filter) -> Result<Locks, Error> {
        let options = self.options();
        let mut query = namespace_query(options);
        if let Some(path) = &filter.path {
            query.append_pair("path", &path::write(path));
        }
        if let Some(limit) = filter.limit {
            query.append_pair("limit", &limit.to_string());
        }
        if let Some(after) = &filter.after {
            query.append_pair("after", after);
        }
        match request(options, Method::GET, &format!("/locks?{}", query.finish())).await {
            Err(Error::Refused {
                code: Some(RefusalCode::NamespaceNotFound),
                ..
            }) => Ok(Locks {
                namespace: options.namespace.clone(),
                ..Locks::default()
            }),
            answer => answer,
        }
    }

    /// Lists the requests of the namespace page by page, from the place of the filter on.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn list(client: locktopus_client::Client) -> Result<(), locktopus_client::Error> {
    /// let mut pages = client.lock_pages(locktopus_client::Filter::default());
    /// while let Some(page) = pages.next_page().await? {
    ///     for request in page.requests {
    ///         println!("{} {:?}", request.token, request.state);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lock_pages(&self, filter: Filter) -> LockPages<'_> {
        LockPages {
            client: self,
            filter,
            is_done: false,
        }
    }

    /// Shows the version of the server and its first 1,000 namespaces, as far as the auth token may see them.
    /// [`status_after`](Client::status_after) reads the following ones.
    ///
    /// # Errors
    /// As for [`locks`](Client::locks).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn status(&self) -> Result<Namespaces, Error> {
        self.status_after("").await
    }

    /// As [`status`](Client::status), with the namespaces after a place: the [`next`](Namespaces::next) of another
    /// page.
    ///
    /// # Errors
    /// As for [`locks`](Client::locks).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn status_after(&self, place: &str) -> Result<Namespaces, Error> {
        let mut path = "/namespaces".to_owned();
        if !place.is_empty() {
            let mut query = form_urlencoded::Serializer::new(path + "?");
            path = query.append_pair("after", place).finish();
        }
        request(self.options(), Method::GET, &path).await
    }

    /// Revokes a lock of any client in the namespace, or withdraws a waiting request. Takes the token in decimal, as
    /// [`locks`](Client::locks) shows it. Returns once the lock is released.
    ///
    /// The holder is told, but may still be at work. Only a fencing token protects the resource from it.
    ///
    /// # Errors
    /// [`Error::Options`] if the token is not a number, [`Error::Refused`] with [`RefusalCode::LockNotFound`] if no
    /// such lock exists, otherwise as for [`locks`](Client::locks).
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock may or may not be released.
    pub async fn release_by_force(&self, token: &str) -> Result<Released, Error> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_digit()) {
            let text = format!("{token:?} is not a token; tokens are whole numbers");
            return Err(Error::Options(text.into()));
        }
        let options = self.options();
        let path = format!("/locks/{token}?{}", namespace_query(options).finish());
        request(options, Method::DELETE, &path).await
    }

    /// Revokes all locks of these clients in the namespace, and withdraws their waiting requests. Returns once all of
    /// them have ended. A request that enters meanwhile may be missed.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`RefusalCode::NamespaceNotFound`] if the namespace is not in use, otherwise as for
    /// [`locks`](Client::locks).
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may or may not have begun. It finishes what it has begun.
    pub async fn release_all_by_force(&self, clients: &Clients) -> Result<ReleasedAll, Error> {
        let options = self.options();
        let mut query = namespace_query(options);
        match clients {
            Clients::Named(name) => query.append_pair("client", name),
            Clients::At(address) => query.append_pair("address", &address.to_string()),
        };
        let path = format!("/locks?{}", query.finish());
        request(options, Method::DELETE, &path).await
    }
}

/// The clients whose locks [`Client::release_all_by_force`] ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clients {
    /// Those that give themselves this name.
    Named(String),
    /// Those at this address.
    At(IpAddr),
}

/// The query that names the namespace.
fn namespace_query(options: &Options) -> form_urlencoded::Serializer<'static, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("namespace", &options.namespace);
    query
}

/// Makes a request, and decodes the answer.
async fn request<T: DeserializeOwned>(
    options: &Options,
    method: Method,
    path_and_query: &str,
) -> Result<T, Error> {
    let answer = timeout(ANSWER_TIMEOUT, answer(options, method, path_and_query));
    let (status, body) = answer.await.unwrap_or_else(|_| {
        let text = format!("no answer within {ANSWER_TIMEOUT:?}");
        Err(Error::Closed(text.into()))
    })?;
    if status != StatusCode::OK {
        return Err(refused(options, status, &body));
    }
    serde_json::from_slice(&body)
        .map_err(|error| Error::Protocol(Detail::caused("unexpected page", error)))
}

async fn answer(
    options: &Options,
    method: Method,
    path_and_query: &str,
) -> Result<(StatusCode, Bytes), Error> {
    let authorization = options.authorization()?;
    let stream = options.open().await?;
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the connection, which ends with this answer.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(options.path(path_and_query))
            .header(HOST, options.authority())
            .header(ACCEPT, "application/json, text/plain");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let answer = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body.to_bytes()))
    };
    answer
        .await
        .map_err(|error| Error::Closed(Detail::caused("no answer", error)))
}

/// Older servers and proxies refuse in plain text.
fn refused(options: &Options, status: StatusCode, body: &[u8]) -> Error {
    let (text, code) = match serde_json::from_slice(body) {
        Ok(Refusal { error, code }) => (error, Some(code)),
        Err(_) => (String::from_utf8_lossy(body).into_owned(), None),
    };
    let text = format!("{} (HTTP status {status})", printable(&text));
    if is_temporary(status) {
        return options.not_reached(text);
    }
    Error::Refused { text, code }
}
