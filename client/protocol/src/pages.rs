//! The JSON of the server's HTTP pages, for writing and for reading.
//!
//! | request | answer |
//! |---|---|
//! | `GET /locks` | [`Locks`] |
//! | `GET /namespaces` | [`Namespaces`] |
//! | `GET /stats_v1` | [`Statistics`] |
//! | `DELETE /locks/TOKEN` | [`Released`] |
//! | `DELETE /locks` | [`ReleasedAll`] |
//! | a refused request whose `Accept` header names `application/json` | [`Refusal`] |
//!
//! The fields have the order of the JSON members. A reader ignores unknown members, and uses defaults for missing
//! members that are not essential: the other side may be older or newer.
//! Tokens are decimal numbers in strings, since a JSON number of JavaScript has only 53 bits.

use crate::resource::Resource;
use serde::{Deserialize, Serialize};

/// A page of the requests of a namespace: first those whose first resource is for write, then those whose first
/// resource is for read. Both are ordered by the path of that resource; at one path the youngest request comes first.
///
/// The pages are not a snapshot. A request that is outstanding from the first page to the last is on one of them. A
/// request that enters or leaves meanwhile may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Locks<Requests = Vec<LockRequest>> {
    /// The name of the namespace.
    #[serde(default)]
    pub namespace: String,
    /// The largest token that the namespace has given out or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_token: Option<String>,
    /// Whether requests may follow on another page. A page can be short, or empty, although others follow.
    #[serde(default)]
    pub truncated: bool,
    /// Where the next page begins, for the parameter `after`. `None` on the last page, and from servers that have
    /// only one page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The requests, granted and waiting.
    pub requests: Requests,
}

/// A request for a lock, granted or waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// The fencing token, in decimal.
    pub token: String,
    /// Whether the request is granted.
    pub state: RequestState,
    /// How long the request has been in this state, in milliseconds. `None` while the request enters.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// The set of the request: paths and modes.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// The token of one of the earlier requests for which this one waits. `None` if it is granted.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The connection that made the request. `None` while the request enters or leaves.
    #[serde(default)]
    pub connection: Option<Connection>,
}

/// The state of a request in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RequestState {
    /// The lock is held.
    Acquired,
    /// The request waits for earlier ones.
    Waiting,
    /// A state that this version does not know.
    #[serde(other)]
    Other,
}

/// The connection of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connection {
    /// The number of the connection, unique for the lifetime of the server process.
    #[serde(default)]
    pub id: u64,
    /// Address and port of the peer.
    #[serde(default)]
    pub address: String,
    /// The name that the client gave itself.
    #[serde(default)]
    pub client: Option<String>,
    /// Whether the connection is open. If it is not, the server keeps its lock for the rest of the abandon timeout.
    #[serde(default)]
    pub connected: bool,
    /// How long the server keeps the lock after the connection has ended, in milliseconds.
    #[serde(default)]
    pub abandon_timeout_ms: u64,
    /// How long the server still keeps the lock of a connection that has ended, in milliseconds.
    #[serde(default)]
    pub released_in_ms: Option<u64>,
}

/// The server and a page of its namespaces, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// How many connections are open in these namespaces.
    #[serde(default)]
    pub connections: u64,
    /// The namespaces that exist and that the auth token may see.
    pub namespaces: Vec<Statistics>,
    /// Whether every peer on the network may use the server: it requires no auth tokens and listens on more than
    /// loopback.
    #[serde(default)]
    pub open: bool,
    /// Whether namespaces follow on another page.
    #[serde(default)]
    pub truncated: bool,
    /// Where the next page begins, for the parameter `after`. `None` on the last page, and from servers that have
    /// only one page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How long the server has been running, in milliseconds.
    #[serde(default)]
    pub uptime_ms: u64,
    /// The version of the server.
    #[serde(default)]
    pub version: String,
}

/// The figures of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// How many requests are granted.
    #[serde(default)]
    pub acquired: u64,
    /// How many connections are open.
    #[serde(default)]
    pub connections: u64,
    /// The largest token that the namespace has given out or skipped.
    #[serde(default)]
    pub last_token: String,
    /// The name of the namespace.
    pub namespace: String,
    /// How many resources the requests have, all together.
    #[serde(default)]
    pub resources: u64,
    /// How many requests wait.
    #[serde(default)]
    pub waiting: u64,
}

/// A lock that an operator released by force, or a waiting request that an operator withdrew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The state of the request before that.
    pub state: RequestState,
    /// Its fencing token.
    #[serde(default)]
    pub token: String,
}

/// The locks and requests of one client that an operator ended in one call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReleasedAll {
    /// How many locks were released by force.
    #[serde(default)]
    pub released: u64,
    /// How many waiting requests were withdrawn.
    #[serde(default)]
    pub withdrawn: u64,
}

/// Why the server did not answer an HTTP request.
///
/// # Examples
/// ```
/// use locktopus_protocol::pages::{Refusal, RefusalCode};
///
/// let json = r#"{"error":"namespace not found","code":"namespace_not_found"}"#;
/// let refusal: Refusal = serde_json::from_str(json)?;
/// assert_eq!(refusal.code, RefusalCode::NamespaceNotFound);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A sentence that says what was wrong and what is allowed.
    pub error: String,
    /// The reason, for programs.
    pub code: RefusalCode,
}

/// The reason of a refusal, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// A parameter is missing or wrong.
    BadRequest,
    /// An auth token is required, or the given token is unknown.
    Unauthorized,
    /// The auth token or the origin does not permit the request.
    Forbidden,
    /// There is no such page.
    NotFound,
    /// The namespace does not exist: no client is connected to it, and no lock is held in it.
    NamespaceNotFound,
    /// There is no lock with this token in the namespace.
    LockNotFound,
    /// The page does not accept this method.
    MethodNotAllowed,
    /// The request is not an upgrade to WebSocket.
    UpgradeRequired,
    /// A limit of the server is reached for now.
    Unavailable,
    /// The server makes as many long answers as it may at one time.
    Busy,
    /// The auth token, or the address, of the client has used up its share of a limit.
    OverShare,
    /// The server is shutting down.
    ShuttingDown,
    /// A code that this version does not know.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{from_str, to_string};

    fn reads_back<T: Serialize + DeserializeOwned>(json: &str) {
        let value: T = from_str(json).expect(json);
        assert_eq!(to_string(&value).expect("serializes"), json);
    }

    #[test]
    fn the_documented_pages_read_back_byte_for_byte() {
        reads_back::<Locks>(concat!(
            r#"{"namespace":"shop","last_token":"1795432000000002","truncated":false,"requests":["#,
            r#"{"token":"1795432000000001","state":"acquired","since_ms":1234,"#,
            r#""resources":[{"type":"write","path":["stock"]}],"waits_for":null,"#,
            r#""connection":{"id":5,"address":"127.0.0.1:40000","client":"nightly-job","connected":true,"#,
            r#""abandon_timeout_ms":60000,"released_in_ms":null}},"#,
            r#"{"token":"1795432000000002","state":"waiting","since_ms":null,"#,
            r#""resources":[{"type":"read","path":["stock","apples"]}],"waits_for":"1795432000000001","#,
            r#""connection":null}]}"#,
        ));
        reads_back::<Locks>(
            r#"{"namespace":"shop","last_token":"9","truncated":true,"next":"AAEC","requests":[]}"#,
        );
        reads_back::<Namespaces>(concat!(
            r#"{"connections":2,"namespaces":[{"acquired":1,"connections":2,"last_token":"17","#,
            r#""namespace":"shop","resources":3,"waiting":1}],"open":false,"truncated":false,"#,
            r#""uptime_ms":5,"version":"0.2.0"}"#,
        ));
        reads_back::<Released>(r#"{"state":"waiting","token":"17"}"#);
        reads_back::<ReleasedAll>(r#"{"released":2,"withdrawn":1}"#);
        reads_back::<Refusal>(r#"{"error":"no such lock","code":"lock_not_found"}"#);
    }

    #[test]
    fn unknown_members_are_ignored_and_missing_ones_get_defaults() {
        let locks: Locks =
            from_str(r#"{"requests":[{"token":"7","state":"acquired","x":1}],"y":[]}"#)
                .expect("lenient");
        assert_eq!(locks.requests[0].token, "7");
        assert_eq!(
            from_str(r#"{"namespaces":[{"namespace":"x"}]}"#).ok(),
            Some(Namespaces {
                namespaces: vec![Statistics {
                    namespace: "x".to_owned(),
                    ..Statistics::default()
                }],
                ..Namespaces::default()
            })
        );
        assert!(from_str::<Locks>("{}").is_err());
    }

    #[test]
    fn unknown_codes_and_states_read_as_other() {
        let refusal: Refusal =
            from_str(r#"{"error":"e","code":"teapot"}"#).expect("an unknown code");
        assert_eq!(refusal.code, RefusalCode::Other);
        let released: Released = from_str(r#"{"state":"resting"}"#).expect("an unknown state");
        assert_eq!(released.state, RequestState::Other);
    }
}
