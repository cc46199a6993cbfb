//! The messages of the WebSocket protocol v1, its limits and its error texts.
//!
//! A connection is a WebSocket on `/v1?namespace=…`. Each message is one JSON object in one text or binary frame.
//! A connection holds at most one lock.
//!
//! ```text
//! client                                                    server
//!   {"action":"lock","resources":[{"type":"write",           {"id":"7","action":"lock","state":"enqueued"}
//!    "path":["a","b"]}]}                          ────►      … and once it is granted:
//!                                                 ◄────      {"id":"7","action":"lock","state":"acquired"}
//!   {"action":"release"}                          ────►
//!                                                 ◄────      {"id":"7","action":"release","state":"ready"}
//!   anything else                                 ────►
//!                                                 ◄────      {"error":"…"}, then close code 3000
//! ```
//!
//! v1 does not change: another message would be another protocol. So a `match` on [`Request`], [`Response`],
//! [`Action`] and [`State`] can be exhaustive.
//!
//! # Examples
//! ```
//! use locktopus_protocol::Resource;
//! use locktopus_protocol::v1::Request;
//!
//! let request = Request::decode(br#"{"action":"lock","resources":[{"type":"W","path":["a"]}]}"#)?;
//! assert_eq!(request, Request::Lock(vec![Resource::write(["a"])]));
//! assert_eq!(Request::decode(&request.encode().into_bytes()), Ok(request));
//! # Ok::<(), locktopus_protocol::v1::DecodeError>(())
//! ```

use crate::json::{Object, null_as_default, quote, text_or_number};
use crate::resource::{Members, Resource};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The close code that follows an error object.
pub const CLOSE_CODE_ERROR: u16 = 3000;

/// The close code that follows an error object if a limit of the server is used up for now (RFC 6455, registry of close
/// codes: try again later).
pub const CLOSE_CODE_TRY_AGAIN: u16 = 1013;

/// The longest error text, in bytes. The text is also the reason of the close frame, which has no room for a longer one
/// (RFC 6455, 5.5).
pub const MAX_ERROR_BYTES: usize = 123;

/// The text that a server sends while it shuts down, as the reason of its close frame and as its answer to an upgrade.
pub const SHUTTING_DOWN: &str = "the server is shutting down";

/// The error text for a lock request that comes while the server is shutting down. It begins with [`SHUTTING_DOWN`].
pub const NO_NEW_LOCKS: &str =
    "the server is shutting down; no new locks, only releases are allowed";

/// The error text for the holder of a lock, or for a waiting client, that an operator revoked.
#[must_use]
pub fn revoked(token: u64) -> String {
    format!("lock {token} was released by force")
}

/// The error text for a message that the server cannot read because the client has used up its share of the memory.
pub const OVER_SHARE: &str =
    "over share: this auth token or address uses up its memory for messages; try again later";

/// The error text for a message that the server cannot read because all clients together have used up the memory.
pub const NO_MEMORY: &str = "the server's memory for messages is used up; try again later";

const WAITED: &str = "the request has waited for ";
const TOO_LONG: &str = " s, as long as this server allows, and is withdrawn";

/// The error text for a request that has waited for the longest time that the server allows.
#[must_use]
pub fn waited_too_long(longest: Duration) -> String {
    format!("{WAITED}{}{TOO_LONG}", longest.as_secs_f64())
}

/// The kinds of errors that a client must tell apart. Errors of v1 carry only text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server is shutting down: nothing is queued, and another server may take its place soon.
    ShuttingDown,
    /// An operator revoked the lock or the waiting request: it is released, and may be granted to another client.
    Revoked,
    /// The memory of the server, or the share of this client, is used up: the message was not read, and a retry may
    /// succeed. [`CLOSE_CODE_TRY_AGAIN`] follows.
    OutOfMemory,
    /// The request has waited for this time, the longest that the server allows, and is withdrawn.
    WaitedTooLong(Duration),
    /// All other texts: the request itself was wrong, and a retry would fail again.
    Other,
}

impl ErrorKind {
    /// Classifies an error text.
    ///
    /// # Examples
    /// ```
    /// use locktopus_protocol::v1::{ErrorKind, revoked};
    ///
    /// assert_eq!(ErrorKind::of(&revoked(7)), ErrorKind::Revoked);
    /// ```
    #[must_use]
    pub fn of(text: &str) -> ErrorKind {
        let token = text
            .strip_prefix("lock ")
            .and_then(|rest| rest.strip_suffix(" was released by force"));
        if text.starts_with(SHUTTING_DOWN) {
            ErrorKind::ShuttingDown
        } else if token.is_some_and(|token| token.parse::<u64>().is_ok()) {
            ErrorKind::Revoked
        } else if text == OVER_SHARE || text == NO_MEMORY {
            ErrorKind::OutOfMemory
        } else if let Some(longest) = longest_wait(text) {
            ErrorKind::WaitedTooLong(longest)
        } else {
            ErrorKind::Other
        }
    }
}

/// The time in the text of [`waited_too_long`].
fn longest_wait(text: &str) -> Option<Duration> {
    let seconds = text.strip_prefix(WAITED)?.strip_suffix(TOO_LONG)?;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    resources: Vec<Object<Members<'a>>>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", content = "resources", rename_all = "lowercase")]
pub enum Request {
    /// Locks all of these resources; allowed while the connection holds no lock. A set from the wire may be empty:
    /// the server refuses it.
    Lock(Vec<Resource>),
    /// Releases the lock, or withdraws the request if it still waits.
    Release,
}

impl Request {
    /// Reads a message. Unknown members are ignored.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is not JSON, is not an object with a known `action`, or has malformed resources.
    pub fn decode(message: &[u8]) -> Result<Request, DecodeError> {
        const ALLOWED: &str =
            r#"; allowed: {"action":"lock","resources":[…]} or {"action":"release"}"#;
        let bad = |error| DecodeError::new(&error, ALLOWED);
        let Object(head): Object<Head<'_>> = serde_json::from_slice(message).map_err(bad)?;
        match &*head.action {
            "lock" => {
                let Object(body): Object<Body<'_>> =
                    serde_json::from_slice(message).map_err(bad)?;
                let resources = body.resources.into_iter();
                let resources = resources.map(|Object(members)| members.check());
                let resources: Result<_, String> = resources.collect();
                Ok(Request::Lock(resources.map_err(DecodeError)?))
            }
            "release" => Ok(Request::Release),
            unknown => Err(DecodeError(format!(
                "unknown action {}; allowed are lock and release",
                quote(unknown)
            ))),
        }
    }

    /// The JSON text of the message.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

/// The request that the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// [`Request::Lock`].
    Lock,
    /// [`Request::Release`].
    Release,
}

/// The state of a connection after a message of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The connection holds no lock and may request one.
    Ready,
    /// Its request waits.
    Enqueued,
    /// It holds its lock.
    Acquired,
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Response {
    /// The state of the connection has changed.
    State {
        /// The fencing token of the lock, in decimal. A number is read as its text.
        #[serde(deserialize_with = "text_or_number")]
        id: String,
        /// The request that this answers.
        action: Action,
        /// The state from now on.
        state: State,
    },
    /// An error. The server then closes the connection with [`CLOSE_CODE_ERROR`] and the same text.
    Error {
        /// A sentence that says what was wrong and what is allowed; see [`ErrorKind::of`].
        error: String,
    },
}

impl Response {
    /// Reads a message. Unknown members are ignored.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is not JSON or not a known message.
    pub fn decode(message: &[u8]) -> Result<Response, DecodeError> {
        const ALLOWED: &str = r#"; allowed: {"id":…,"action":…,"state":…} or {"error":…}"#;
        serde_json::from_slice(message).map_err(|error| DecodeError::new(&error, ALLOWED))
    }

    /// The JSON text of the message.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

fn encode(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("strings and enums always serialize")
}

/// Why bytes are not a message of the protocol, in at most [`MAX_ERROR_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl DecodeError {
    fn new(error: &serde_json::Error, allowed: &str) -> DecodeError {
        let text = error.to_string();
        // The position says little: a message is one line.
        let (problem, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
        let kind = match error.classify() {
            Category::Data => "",
            _ => "not JSON: ",
        };
        let problem = format!("{kind}{problem}");
        DecodeError(fit(&problem, MAX_ERROR_BYTES - allowed.len()) + allowed)
    }
}

/// Shortens an error text to [`MAX_ERROR_BYTES`]. It is cut between characters, and the cut is shown as `…`.
#[must_use]
pub fn fit_error(error: &str) -> String {
    fit(error, MAX_ERROR_BYTES)
}

fn fit(text: &str, bytes: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes - ELLIPSIS.len_utf8());
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use proptest::prelude::*;

    fn decode(text: &str) -> Result<Request, String> {
        Request::decode(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn resource(mode: Mode, path: &[&str]) -> Resource {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Resource { mode, path }
    }

    #[test]
    fn modes_are_read_in_any_case_and_abbreviated() {
        for (text, mode) in [
            ("read", Mode::Read),
            ("READ", Mode::Read),
            ("r", Mode::Read),
            ("R", Mode::Read),
            ("Write", Mode::Write),
            ("w", Mode::Write),
        ] {
            let message =
                format!(r#"{{"action":"lock","resources":[{{"type":"{text}","path":["a"]}}]}}"#);
            assert_eq!(
                decode(&message),
                Ok(Request::Lock(vec![resource(mode, &["a"])]))
            );
        }
    }

    #[test]
    fn a_missing_or_null_path_is_the_root() {
        let root = Ok(Request::Lock(vec![resource(Mode::Read, &[])]));
        for path in ["", r#","path":null"#, r#","path":[]"#] {
            let message = format!(r#"{{"action":"lock","resources":[{{"type":"r"{path}}}]}}"#);
            assert_eq!(decode(&message), root);
        }
    }

    #[test]
    fn a_numeric_id_is_read_as_its_text() {
        for (id, text) in [("7", "7"), ("\"7\"", "7"), ("\"x\"", "x"), ("1.5", "1.5")] {
            let message = format!(r#"{{"id":{id},"action":"lock","state":"enqueued"}}"#);
            let expected = Response::State {
                id: text.to_owned(),
                action: Action::Lock,
                state: State::Enqueued,
            };
            assert_eq!(Response::decode(message.as_bytes()), Ok(expected));
        }
    }

    #[test]
    fn unknown_members_are_ignored() {
        let message =
            r#" {"x":[{}],"action":"lock","resources":[{"y":1,"type":"w","path":["a"]}]} "#;
        assert_eq!(
            decode(message),
            Ok(Request::Lock(vec![resource(Mode::Write, &["a"])]))
        );
        assert_eq!(
            decode(r#"{"action":"release","resources":7}"#),
            Ok(Request::Release)
        );
    }

    #[test]
    fn missing_resources_read_as_an_empty_set() {
        for message in [
            r#"{"action":"lock"}"#,
            r#"{"action":"lock","resources":null}"#,
            r#"{"action":"lock","resources":[]}"#,
        ] {
            assert_eq!(decode(message), Ok(Request::Lock(vec![])));
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_is_allowed() {
        for (message, parts) in [
            ("", &["not JSON"][..]),
            ("{", &["not JSON"]),
            ("hello", &["not JSON"]),
            ("\u{1}", &["not JSON"]),
            ("[]", &["expected an object"]),
            (r#"["lock"]"#, &["expected an object"]),
            ("7", &["expected an object"]),
            (
                r#"{"action":"lock","resources":[["write",["a"]]]}"#,
                &["expected an object"],
            ),
            ("{}", &["action"]),
            (r#"{"action":1}"#, &["integer"]),
            (r#"{"action":"look"}"#, &["\"look\"", "lock and release"]),
            (r#"{"action":"Lock"}"#, &["\"Lock\"", "lock and release"]),
            (r#"{"action":"lock","resources":{}}"#, &["sequence"]),
            (r#"{"action":"lock","resources":[{}]}"#, &["type"]),
            (
                r#"{"action":"lock","resources":[{"type":"x"}]}"#,
                &["\"x\"", "read and write"],
            ),
            (
                r#"{"action":"lock","resources":[{"type":"r","path":"a"}]}"#,
                &["sequence"],
            ),
            (
                r#"{"action":"lock","resources":[{"type":"r","path":[1]}]}"#,
                &["string"],
            ),
        ] {
            let error = decode(message).expect_err(message);
            assert!(
                error.len() <= MAX_ERROR_BYTES && error.contains("allowed"),
                "{error}"
            );
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{message}: {error}"
            );
        }
    }

    /// The decoder once took this word in the quoted input for the end of its own sentence.
    #[test]
    fn an_error_that_quotes_the_word_allowed_still_names_the_allowed_messages() {
        for length in [0, 5000] {
            let text = "x".repeat(length) + "allowed";
            let error = decode(&format!(r#"{{"action":"lock","resources":"{text}"}}"#));
            let error = error.expect_err("no list");
            assert!(error.ends_with(r#"or {"action":"release"}"#), "{error}");
            assert!(error.len() <= MAX_ERROR_BYTES, "{error}");
        }
    }

    #[test]
    fn errors_quote_the_input_short_and_printable() {
        let error = decode(&format!(r#"{{"action":"\n{}"}}"#, "x".repeat(5000))).unwrap_err();
        assert!(
            error.len() < MAX_ERROR_BYTES && !error.chars().any(char::is_control),
            "{error}"
        );
    }

    #[test]
    fn an_error_text_is_cut_between_characters() {
        for text in [
            "é".repeat(62),
            "é".repeat(61),
            "aé".repeat(60),
            "😀".repeat(40),
        ] {
            let fitted = fit_error(&text);
            assert!(fitted.len() <= MAX_ERROR_BYTES);
            assert!(fitted == text || fitted.ends_with('…'));
        }
    }

    #[test]
    fn the_classifier_knows_the_texts_of_the_server() {
        for (text, refusal) in [
            (SHUTTING_DOWN, ErrorKind::ShuttingDown),
            (NO_NEW_LOCKS, ErrorKind::ShuttingDown),
            (&revoked(0), ErrorKind::Revoked),
            (&revoked(u64::MAX), ErrorKind::Revoked),
            (OVER_SHARE, ErrorKind::OutOfMemory),
            (NO_MEMORY, ErrorKind::OutOfMemory),
            (
                &waited_too_long(Duration::from_millis(1500)),
                ErrorKind::WaitedTooLong(Duration::from_millis(1500)),
            ),
            (
                &waited_too_long(Duration::from_secs(31_536_000)),
                ErrorKind::WaitedTooLong(Duration::from_secs(31_536_000)),
            ),
            ("lock x was released by force", ErrorKind::Other),
            ("lock 7 was released by force, or not", ErrorKind::Other),
            (
                "no resources given; at least one is needed",
                ErrorKind::Other,
            ),
            ("", ErrorKind::Other),
        ] {
            assert_eq!(ErrorKind::of(text), refusal, "{text}");
            assert_eq!(ErrorKind::of(&fit_error(text)), refusal, "{text}");
            assert!(text.len() <= MAX_ERROR_BYTES, "{text}");
        }
        assert!(NO_NEW_LOCKS.starts_with(SHUTTING_DOWN));
    }

    fn request() -> impl Strategy<Value = Request> {
        let mode = prop_oneof![Just(Mode::Read), Just(Mode::Write)];
        let path = prop::collection::vec(any::<String>(), 0..4);
        let resource = (mode, path).prop_map(|(mode, path)| Resource { mode, path });
        prop_oneof![
            prop::collection::vec(resource, 0..4).prop_map(Request::Lock),
            Just(Request::Release),
        ]
    }

    proptest! {
        #[test]
        fn requests_read_back(request in request()) {
            prop_assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request));
        }

        #[test]
        fn responses_read_back(id in any::<u64>(), action in 0..3, error in any::<String>()) {
            let response = match action {
                0 => Response::State { id: id.to_string(), action: Action::Lock, state: State::Enqueued },
                1 => Response::State { id: id.to_string(), action: Action::Release, state: State::Ready },
                _ => Response::Error { error },
            };
            prop_assert_eq!(Response::decode(response.encode().as_bytes()), Ok(response));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&bytes);
            let _ = Response::decode(&bytes);
        }
    }
}
