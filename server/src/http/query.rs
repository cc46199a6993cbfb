//! The parameters of a URL. Unknown parameters are ignored. If a parameter is repeated, its first value counts.

use crate::config::{Config, whole_number};
use data_encoding::BASE64URL_NOPAD;
use locktopus_engine::{Path, Place, RequestInfo};
use locktopus_protocol::path;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

const NAMESPACE: &str = "namespace";
const ABANDON_TIMEOUT: &str = "abandon-timeout-ms";
const CLIENT: &str = "client";
const ADDRESS: &str = "address";
const PATH: &str = "path";
const LIMIT: &str = "limit";
const AFTER: &str = "after";

/// How much of a client's name is kept, in characters.
const MAX_CLIENT: usize = 100;

/// The default and the largest `limit` of a list.
const DEFAULT_LIMIT: usize = 1_000;
const MAX_LIMIT: usize = 10_000;

/// A parameter is missing or has a bad value. The text names it and says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadParameter(Cow<'static, str>);

impl fmt::Display for BadParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadParameter {}

fn bad<T>(problem: impl Into<Cow<'static, str>>) -> Result<T, BadParameter> {
    Err(BadParameter(problem.into()))
}

/// The parameters of an upgrade to v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The namespace; not empty.
    pub namespace: String,
    /// How long an acquired lock outlives its connection, if the client asks for a time.
    pub abandon_timeout: Option<Duration>,
    /// The name that the client gives itself, cut to 100 characters.
    pub client: Option<String>,
}

impl Upgrade {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// [`BadParameter`] for a missing namespace, and for a timeout that is not a whole number.
    pub fn parse(query: Option<&str>) -> Result<Upgrade, BadParameter> {
        let abandon_timeout = match parameter(query, ABANDON_TIMEOUT) {
            None => None,
            Some(text) => match whole_number(&text) {
                Some(ms) => Some(Duration::from_millis(ms)),
                None => {
                    return bad(
                        "URL parameter 'abandon-timeout-ms' must be a whole number of milliseconds, 0 or more",
                    );
                }
            },
        };
        Ok(Upgrade {
            namespace: namespace(query)?,
            abandon_timeout,
            client: parameter(query, CLIENT).map(|name| short(&name)),
        })
    }

    /// The abandon timeout of the connection, if the limits of the server allow the parameters.
    pub(super) fn check(&self, config: &Config) -> Result<Duration, BadParameter> {
        let (bytes, most) = (self.namespace.len(), config.max_namespace_bytes);
        if bytes > most {
            return bad(format!(
                "URL parameter 'namespace' has {bytes} bytes; at most {most} are allowed"
            ));
        }
        let default = config.default_abandon_timeout;
        let (timeout, most) = (
            self.abandon_timeout.unwrap_or(default),
            config.max_abandon_timeout,
        );
        if timeout > most {
            return bad(format!(
                "URL parameter 'abandon-timeout-ms' is {}; at most {} is allowed",
                timeout.as_millis(),
                most.as_millis()
            ));
        }
        Ok(timeout)
    }
}

/// The clients whose locks an operator ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// Those with this name.
    Named(String),
    /// Those at this address, which is canonical.
    At(IpAddr),
}

impl Clients {
    pub(super) fn parse(query: Option<&str>) -> Result<Clients, BadParameter> {
        match (parameter(query, CLIENT), parameter(query, ADDRESS)) {
            (Some(name), None) if !name.is_empty() => Ok(Clients::Named(short(&name))),
            (None, Some(text)) => match text.parse::<IpAddr>() {
                Ok(address) => Ok(Clients::At(address.to_canonical())),
                Err(_) => bad("URL parameter 'address' must be an IP address, without a port"),
            },
            _ => bad(
                "either the URL parameter 'client' or 'address' is required and must not be empty; not both",
            ),
        }
    }
}

/// The part of a client's name that is kept.
fn short(name: &str) -> String {
    name.chars().take(MAX_CLIENT).collect()
}

/// The namespace that the query of a URL names.
///
/// # Errors
/// [`BadParameter`] if it is missing or empty.
pub fn namespace(query: Option<&str>) -> Result<String, BadParameter> {
    match parameter(query, NAMESPACE) {
        Some(name) if !name.is_empty() => Ok(name),
        _ => bad("URL parameter 'namespace' is required and must not be empty"),
    }
}

/// The token in the path of a URL.
pub(super) fn token(text: &str) -> Result<u64, BadParameter> {
    match whole_number(text) {
        Some(token) => Ok(token),
        // No lock has so large a token.
        None if is_number(text) => Ok(u64::MAX),
        None => bad("the token of a lock is a whole number"),
    }
}

/// The `limit` of a list, or its default.
fn limit(query: Option<&str>) -> Result<usize, BadParameter> {
    match parameter(query, LIMIT) {
        None => Ok(DEFAULT_LIMIT),
        Some(text) => match whole_number::<usize>(&text) {
            Some(limit) => Ok(limit.min(MAX_LIMIT)),
            None if is_number(&text) => Ok(MAX_LIMIT),
            None => bad("URL parameter 'limit' must be a whole number, 0 or more"),
        },
    }
}

/// The place at which a list of locks begins, if it is not the start: the `next` of another list.
///
/// # Errors
/// [`BadParameter`] for a text that [`write_place`] cannot have returned.
pub fn place(query: Option<&str>) -> Result<Option<Place>, BadParameter> {
    let Some(text) = parameter(query, AFTER) else {
        return Ok(None);
    };
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    match bytes.and_then(|bytes| Place::from_bytes(&bytes).ok()) {
        Some(place) => Ok(Some(place)),
        None => bad(
            "URL parameter 'after' is not a place in a list of locks; allowed are the values of 'next', unchanged",
        ),
    }
}

/// The text of a place: its bytes in base64url without padding.
#[must_use]
pub fn write_place(place: &Place) -> String {
    BASE64URL_NOPAD.encode(&place.to_bytes())
}

/// The part of the list of namespaces that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The name before the first one of the part; the empty text sorts before all names.
    pub(super) after: String,
    pub(super) limit: usize,
}

impl Part {
    pub(super) fn parse(query: Option<&str>) -> Result<Part, BadParameter> {
        let after = parameter(query, AFTER).unwrap_or_default();
        let limit = limit(query)?;
        Ok(Part { after, limit })
    }
}

/// Whether a text is a whole number of any size.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The part of a listing that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    path: Option<Path>,
    pub(super) after: Option<Place>,
    pub(super) limit: usize,
}

impl Filter {
    pub(super) fn parse(query: Option<&str>) -> Result<Filter, BadParameter> {
        let path = match parameter(query, PATH) {
            None => None,
            Some(text) => match path::parse(&text) {
                Ok(segments) => Some(Path::from(segments)),
                Err(error) => return bad(format!("URL parameter 'path' is not a path: {error}")),
            },
        };
        let after = place(query)?;
        let limit = limit(query)?;
        Ok(Filter { path, after, limit })
    }

    /// Whether one of the resources is above, at or below the path.
    pub(super) fn keeps(&self, request: &RequestInfo) -> bool {
        self.path.as_ref().is_none_or(|path| {
            let mut resources = request.resources.iter();
            resources.any(|one| one.path.contains(path) || path.contains(&one.path))
        })
    }
}

/// The first parameter of this name, decoded.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
