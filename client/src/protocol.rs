//! The messages of the v1 protocol, defined once for clients and the server.
//!
//! A connection is a WebSocket on `/v1?namespace=…`; each message is one JSON object in one text or
//! binary frame. A connection holds at most one lock.
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
//! # Examples
//! ```
//! use locktopus_client::protocol::{Mode, Request, Resource};
//!
//! let request = Request::decode(br#"{"action":"lock","resources":[{"type":"W","path":["a"]}]}"#)?;
//! let resource = Resource { mode: Mode::Write, path: vec!["a".into()] };
//! assert_eq!(request, Request::Lock(vec![resource]));
//! assert_eq!(Request::decode(&request.encode().into_bytes()), Ok(request));
//! # Ok::<(), locktopus_client::protocol::DecodeError>(())
//! ```

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The close code that follows an error object.
pub const CLOSE_CODE_ERROR: u16 = 3000;

/// How the answer begins to a request that comes while the server is being shut down. Only that tells it
/// apart from a request that is refused for good.
pub const SHUTTING_DOWN: &str = "the server is shutting down";

/// The longest error text in bytes: it is also the reason of the close frame, which has room for
/// no more (RFC 6455, 5.5).
pub const MAX_ERROR_BYTES: usize = 123;

/// How a resource is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Shared with other reads.
    Read,
    /// Exclusive.
    Write,
}

/// `read` and `write` in any case, or `r` and `w` for short.
impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.to_ascii_lowercase().as_str() {
            "read" | "r" => Ok(Mode::Read),
            "write" | "w" => Ok(Mode::Write),
            _ => Err(D::Error::custom(format_args!(
                "unknown type {}; allowed are read and write",
                quote(&text)
            ))),
        }
    }
}

/// One path to lock, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Resource {
    /// Whether for read or for write.
    #[serde(rename = "type")]
    pub mode: Mode,
    /// The segments of the path; none for the root, as when the member is missing or null.
    pub path: Vec<String>,
}

impl Resource {
    /// A path to be locked for read, shared with other reads.
    ///
    /// # Examples
    /// ```
    /// use locktopus_client::protocol::Resource;
    ///
    /// assert_eq!(Resource::read(["a", "b"]).path, ["a", "b"]);
    /// let everything = Resource::read([""; 0]);
    /// assert!(everything.path.is_empty());
    /// ```
    pub fn read(path: impl IntoIterator<Item = impl Into<String>>) -> Resource {
        Resource {
            mode: Mode::Read,
            path: path.into_iter().map(Into::into).collect(),
        }
    }

    /// A path to be locked for write, exclusively.
    pub fn write(path: impl IntoIterator<Item = impl Into<String>>) -> Resource {
        Resource {
            mode: Mode::Write,
            ..Resource::read(path)
        }
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Resource, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(rename = "type")]
            mode: Mode,
            #[serde(default, deserialize_with = "null_as_default")]
            path: Vec<String>,
        }

        let Object(Members { mode, path }) = Object::deserialize(deserializer)?;
        Ok(Resource { mode, path })
    }
}

/// A JSON object, and only that: serde by itself also reads a struct from an array.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer
            .deserialize_map(Members(PhantomData))
            .map(Object)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", content = "resources", rename_all = "lowercase")]
pub enum Request {
    /// Lock all of these resources; allowed when the connection holds no lock. The set may come
    /// empty from the wire; it is up to the server to refuse that.
    Lock(Vec<Resource>),
    /// Release the lock, or withdraw the request if it still waits.
    Release,
}

impl Request {
    /// Reads a message. Members that are not known are ignored.
    ///
    /// # Errors
    /// If it is not JSON, not an object with a known `action`, or its resources are malformed.
    pub fn decode(message: &[u8]) -> Result<Request, DecodeError> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            action: Cow<'a, str>,
        }
        #[derive(Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "null_as_default")]
            resources: Vec<Resource>,
        }

        let Object(head): Object<Head<'_>> = serde_json::from_slice(message)?;
        match &*head.action {
            "lock" => Ok(Request::Lock(
                serde_json::from_slice::<Object<Body>>(message)?.0.resources,
            )),
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

/// What a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A lock.
    Lock,
    /// A release.
    Release,
}

/// The state of a connection after a message of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It holds no lock and may ask for one.
    Ready,
    /// Its request waits in line.
    Enqueued,
    /// It holds its lock.
    Acquired,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Response {
    /// The state of the connection has changed.
    State {
        /// The fencing token of the lock, in decimal. A number is read as its text.
        #[serde(deserialize_with = "text_or_number")]
        id: String,
        /// What the client had asked for.
        action: Action,
        /// The state from now on.
        state: State,
    },
    /// The client did something that is not allowed. The connection is closed with
    /// [`CLOSE_CODE_ERROR`] and the same text.
    Error {
        /// What, and what is allowed instead.
        error: String,
    },
}

impl Response {
    /// Reads a message. Members that are not known are ignored.
    ///
    /// # Errors
    /// If it is not JSON or not a known message.
    pub fn decode(message: &[u8]) -> Result<Response, DecodeError> {
        Ok(serde_json::from_slice(message)?)
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

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(serde_json::Number),
    }

    Ok(match Id::deserialize(deserializer)? {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    })
}

/// The beginning of a text from outside, in quotes and without control characters.
fn quote(text: &str) -> String {
    const SHOWN: usize = 20;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The message is not one of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Keeps what is allowed within [`MAX_ERROR_BYTES`], whatever came.
impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> DecodeError {
        const ALLOWED: &str =
            r#"; allowed: {"action":"lock","resources":[…]} or {"action":"release"}"#;
        let text = error.to_string();
        // A message is one line; where in it does not say much.
        let (what, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
        DecodeError(match error.classify() {
            Category::Data if what.contains("allowed") => what.to_owned(),
            Category::Data => fit(what, MAX_ERROR_BYTES - ALLOWED.len()) + ALLOWED,
            _ => {
                fit(
                    &format!("not JSON: {what}"),
                    MAX_ERROR_BYTES - ALLOWED.len(),
                ) + ALLOWED
            }
        })
    }
}

/// Shortens an error text to [`MAX_ERROR_BYTES`], between characters.
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
    use proptest::prelude::*;

    fn decode(text: &str) -> Result<Request, String> {
        Request::decode(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn resource(mode: Mode, path: &[&str]) -> Resource {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Resource { mode, path }
    }

    #[test]
    fn types_are_read_in_any_case_and_short() {
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
    fn an_id_may_be_a_number() {
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
    fn missing_resources_are_an_empty_set() {
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

    #[test]
    fn what_comes_from_outside_is_shown_short_and_printable() {
        let error = decode(&format!(r#"{{"action":"\n{}"}}"#, "x".repeat(5000))).unwrap_err();
        assert!(
            error.len() < MAX_ERROR_BYTES && !error.chars().any(char::is_control),
            "{error}"
        );
    }

    #[test]
    fn an_error_is_shortened_between_characters() {
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
