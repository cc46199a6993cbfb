//! The address of the server, and the behaviour of the client.

use crate::error::{Detail, Error};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::http::uri::Authority;

/// A server on this machine, at the default port.
pub const DEFAULT_URL: &str = "ws://127.0.0.1:9009";

/// The namespace of a URL that does not name one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The address of the server, and the behaviour of the client.
///
/// [`Options::new`] reads them from a URL; the fields may then be changed.
///
/// # Examples
/// ```
/// use locktopus_client::Options;
/// use std::time::Duration;
///
/// let mut options = Options::new("ws://127.0.0.1:9009/v1?namespace=my-app")?;
/// assert_eq!(options.namespace, "my-app");
/// options.abandon_timeout = Duration::from_secs(30);
/// # Ok::<(), locktopus_client::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    pub(crate) tls: bool,
    pub(crate) authority: Authority,
    pub(crate) prefix: String,
    /// The namespace: each has its own locks, so that applications do not disturb one another. From the URL, else
    /// [`DEFAULT_NAMESPACE`].
    pub namespace: String,
    /// How long the server keeps a lock after its connection has ended, and so how much time the holder has to stop;
    /// see [`Guard::lost`](crate::Guard::lost). It is cut to whole milliseconds. 60 s by default.
    pub abandon_timeout: Duration,
    /// How often a connection pings the server. 5 s by default, and at most a twelfth of the abandon timeout.
    pub ping_interval: Duration,
    /// How long pings may stay unanswered before the connection counts as lost, rounded up to whole ping intervals.
    /// 15 s by default, and at most a quarter of the abandon timeout. So more than half of the abandon timeout is left
    /// when a loss is noticed.
    pub silence_limit: Duration,
    /// How long a connection may take to open, upgrade included. 10 s by default.
    pub connect_timeout: Duration,
    /// How many idle connections are kept for later locks. 8 by default.
    pub max_idle_connections: usize,
    /// The name that the server shows for this client, such as that of a job.
    pub client_name: Option<String>,
    /// The auth token, if the server requires one. `Debug` does not show it.
    pub auth_token: Option<String>,
    /// A PEM file with certificates to trust besides those of the system, for `wss` and `https`.
    pub ca_file: Option<PathBuf>,
}

impl Options {
    /// Reads `ws://`, `wss://`, `http://` or `https://HOST[:PORT][/PREFIX][/v1][?PARAMETERS]`.
    ///
    /// Without a port, the port of the scheme is used, 80 or 443, as in every URL; a server listens on 9009 by default.
    /// A prefix is for a server behind a proxy. The parameters are those of the protocol: `namespace`,
    /// `abandon-timeout-ms`, `client` and `token`.
    ///
    /// # Errors
    /// [`Error::Options`], which says what is wrong and what is allowed.
    pub fn new(url: &str) -> Result<Options, Error> {
        let uri = Uri::from_str(url.trim()).map_err(|error| {
            Error::Options(Detail::caused(format!("bad URL; {ALLOWED_URL}"), error))
        })?;
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(other) => {
                return Err(refuse(format_args!(
                    "bad URL: scheme {other}; {ALLOWED_URL}"
                )));
            }
            None => return Err(refuse(format_args!("bad URL: no scheme; {ALLOWED_URL}"))),
        };
        let authority = match uri.authority() {
            Some(authority) if authority.host().is_empty() || authority.as_str().contains('@') => {
                return Err(refuse(format_args!(
                    "bad URL: a host is required, and a user is not allowed; {ALLOWED_URL}"
                )));
            }
            Some(authority) if !names_its_port(authority) => {
                return Err(refuse(format_args!(
                    "bad URL: the port must be 1 to 65535; {ALLOWED_URL}"
                )));
            }
            Some(authority) => authority.clone(),
            None => return Err(refuse(format_args!("bad URL: no host; {ALLOWED_URL}"))),
        };
        let path = uri.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        let mut options = Options {
            tls,
            authority,
            prefix,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            abandon_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(5),
            silence_limit: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            max_idle_connections: 8,
            client_name: None,
            auth_token: None,
            ca_file: None,
        };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            options.parameter(&name, value.into_owned())?;
        }
        Ok(options)
    }

    fn parameter(&mut self, name: &str, value: String) -> Result<(), Error> {
        match name {
            "namespace" => self.namespace = value,
            "client" => self.client_name = Some(value),
            "token" => self.auth_token = Some(value),
            "abandon-timeout-ms" => {
                let milliseconds = value.parse().map_err(|_| {
                    refuse(format_args!(
                        "bad URL: abandon-timeout-ms must be a whole number of milliseconds"
                    ))
                })?;
                self.abandon_timeout = Duration::from_millis(milliseconds);
            }
            other => {
                return Err(refuse(format_args!(
                    "bad URL: unknown parameter {other:?}; allowed are namespace, \
                     abandon-timeout-ms, client and token"
                )));
            }
        }
        Ok(())
    }

    /// Checks the rules that the types of the fields do not express.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.namespace.is_empty() {
            return Err(refuse(format_args!("the namespace must not be empty")));
        }
        if self.ping_interval < Duration::from_millis(1) || self.silence_limit < self.ping_interval
        {
            return Err(refuse(format_args!(
                "the ping interval is {:?} and the silence limit {:?}; the interval must be 1 ms or more, and the \
                 limit must not be shorter",
                self.ping_interval, self.silence_limit
            )));
        }
        if self.tls && cfg!(not(feature = "tls")) {
            return Err(refuse(format_args!(
                "this build has no TLS: it allows ws and http, and with the crate's feature `tls` also wss and https"
            )));
        }
        Ok(())
    }

    /// Host and port, in the form of a `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// A path and query on this server: the prefix of the URL, followed by the given one.
    #[must_use]
    pub fn path(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.prefix)
    }

    /// The WebSocket URL of a connection. It does not contain the auth token, which is sent in the header
    /// `Authorization: Bearer …`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("namespace", &self.namespace).append_pair(
            "abandon-timeout-ms",
            &self.abandon_timeout.as_millis().to_string(),
        );
        if let Some(name) = &self.client_name {
            query.append_pair("client", name);
        }
        let scheme = if self.tls { "wss" } else { "ws" };
        let path = self.path(&format!("/v1?{}", query.finish()));
        format!("{scheme}://{}{path}", self.authority)
    }

    /// The host without the brackets of an IPv6 address, and the port.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let host = self.authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let default = if self.tls { 443 } else { 80 };
        (host, self.authority.port_u16().unwrap_or(default))
    }
}

/// Whether the port is missing or valid. `Uri` silently treats a bad port as a missing one.
fn names_its_port(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest == Some("") || authority.port_u16().is_some_and(|port| port > 0)
}

const ALLOWED_URL: &str = "allowed: ws://, wss://, http:// or https://HOST[:PORT][/v1]";

fn refuse(text: fmt::Arguments<'_>) -> Error {
    Error::Options(text.to_string().into())
}

impl TryFrom<&str> for Options {
    type Error = Error;

    fn try_from(url: &str) -> Result<Options, Error> {
        Options::new(url)
    }
}

impl TryFrom<&String> for Options {
    type Error = Error;

    fn try_from(url: &String) -> Result<Options, Error> {
        Options::new(url)
    }
}

impl TryFrom<String> for Options {
    type Error = Error;

    fn try_from(url: String) -> Result<Options, Error> {
        Options::new(&url)
    }
}

impl FromStr for Options {
    type Err = Error;

    fn from_str(url: &str) -> Result<Options, Error> {
        Options::new(url)
    }
}

/// Shows all fields except the auth token.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint())
            .field("ping_interval", &self.ping_interval)
            .field("silence_limit", &self.silence_limit)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_idle_connections", &self.max_idle_connections)
            .field("auth_token", &self.auth_token.as_ref().map(|_| "…"))
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_prefix_and_namespace() {
        for (url, host, port, endpoint) in [
            (
                "ws://h",
                "h",
                80,
                "ws://h/v1?namespace=default&abandon-timeout-ms=60000",
            ),
            (
                "http://h:1/",
                "h",
                1,
                "ws://h:1/v1?namespace=default&abandon-timeout-ms=60000",
            ),
            (
                "wss://h",
                "h",
                443,
                "wss://h/v1?namespace=default&abandon-timeout-ms=60000",
            ),
            (
                "https://h:2/locks/v1?namespace=a%20b&abandon-timeout-ms=5&client=me",
                "h",
                2,
                "wss://h:2/locks/v1?namespace=a+b&abandon-timeout-ms=5&client=me",
            ),
            (
                "ws://[::1]:3/v1",
                "::1",
                3,
                "ws://[::1]:3/v1?namespace=default&abandon-timeout-ms=60000",
            ),
        ] {
            let options = Options::new(url).expect(url);
            assert_eq!(options.host_and_port(), (host, port), "{url}");
            assert_eq!(options.endpoint(), endpoint);
        }
    }

    #[test]
    fn a_bad_url_says_what_is_allowed() {
        for (url, part) in [
            ("", "bad URL"),
            ("localhost:9009", "allowed: ws://"),
            ("127.0.0.1", "no scheme"),
            ("ftp://h", "scheme ftp"),
            ("ws://h:", "port"),
            ("ws://h:0", "port"),
            ("ws://h:99999", "port"),
            ("ws://[::1]:", "port"),
            ("ws://[::1]:99999", "port"),
            ("ws://user:secret@h", "a user is not allowed"),
            ("ws://h?nmespace=x", "unknown parameter \"nmespace\""),
            ("ws://h?abandon-timeout-ms=1s", "whole number"),
        ] {
            let error = Options::new(url).expect_err(url).to_string();
            assert!(
                error.contains(part) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn debug_does_not_show_the_auth_token() {
        let options = Options::new("ws://h?token=geheim").expect("a URL");
        assert_eq!(options.auth_token.as_deref(), Some("geheim"));
        assert!(!format!("{options:?}{}", options.endpoint()).contains("geheim"));
    }
}
