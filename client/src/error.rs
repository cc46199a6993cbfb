//! The errors of the library, sorted by what the caller can do about them.

use crate::protocol::pages::RefusalCode;
use crate::protocol::text::visible;
use crate::protocol::v1::ErrorKind;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a lock was not granted, or was lost, or why a page could not be read.
///
/// | variant | what is queued or held afterwards | what to do |
/// |---|---|---|
/// | [`Options`](Error::Options) | nothing | correct the URL or the options |
/// | [`Connect`](Error::Connect) | nothing | try again later |
/// | [`Refused`](Error::Refused) | nothing | correct the request: the text says what is allowed |
/// | [`Revoked`](Error::Revoked) | nothing | stop using the lock: another client may hold it already |
/// | [`Protocol`](Error::Protocol) | as for `Closed` | check that the URL names a Locktopus server; if it does, report a bug |
/// | [`Closed`](Error::Closed) | a held lock stays locked for at most the abandon timeout | stop using it; lock again |
/// | [`Timeout`](Error::Timeout) | nothing | try again later |
///
/// An error of the operating system or of a lower protocol is the [`source`](std::error::Error::source), and is not
/// part of the text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The URL or the options are wrong; nothing was sent.
    Options(Detail),
    /// There is no connection to the server, or the server accepts no requests at the moment: it is shutting down,
    /// it or its proxy answers with an HTTP status of 429 or 5xx, its memory for messages is used up, or the client
    /// has used up its share of the server. Nothing is queued.
    Connect(Detail),
    /// The server refused the request. A retry of the same request would fail again, except after the codes
    /// [`RefusalCode::Unavailable`] and [`RefusalCode::ShuttingDown`].
    Refused {
        /// The server's text, which says what was wrong and what is allowed.
        text: String,
        /// The reason, for programs. Only refusals of HTTP requests have it.
        code: Option<RefusalCode>,
    },
    /// An operator released the lock by force, or withdrew the waiting request. The value is the server's text.
    Revoked(String),
    /// The server sent a message that is not part of the v1 protocol. The connection is closed.
    Protocol(Detail),
    /// The connection ended, or the server was silent for too long.
    Closed(Detail),
    /// The server has put the request in line, and has not granted it within this time: the caller's, or the longest
    /// that the server allows. The request is withdrawn.
    Timeout(Duration),
}

impl Error {
    /// The meaning of an error text of v1.
    pub(crate) fn from_v1(text: &str) -> Error {
        let shown = printable(text);
        match ErrorKind::of(text) {
            ErrorKind::ShuttingDown => Error::Connect(shown.into()),
            ErrorKind::OutOfMemory => Error::Connect(shown.into()),
            ErrorKind::Revoked => Error::Revoked(shown),
            ErrorKind::WaitedTooLong(longest) => Error::Timeout(longest),
            _ => Error::Refused {
                text: shown,
                code: None,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Options(detail) => detail.fmt(f),
            Error::Connect(detail) => write!(f, "cannot connect: {detail}"),
            Error::Refused { text, .. } => write!(f, "refused by the server: {text}"),
            Error::Revoked(text) => f.write_str(text),
            Error::Protocol(detail) => write!(f, "not the v1 protocol: {detail}"),
            Error::Closed(detail) => write!(f, "connection lost: {detail}"),
            Error::Timeout(time) => write!(f, "not granted within {time:?}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Options(detail)
            | Error::Connect(detail)
            | Error::Protocol(detail)
            | Error::Closed(detail) => match &detail.source {
                Some(source) => Some(&**source),
                None => None,
            },
            Error::Refused { .. } | Error::Revoked(_) | Error::Timeout(_) => None,
        }
    }
}

/// Lets a function that takes a URL also take [`Options`](crate::Options).
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

/// A sentence about an error, and its cause.
#[derive(Debug, Clone)]
pub struct Detail {
    text: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Detail {
    pub(crate) fn caused(
        text: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Detail {
        Detail {
            text: text.into(),
            source: Some(source.into().into()),
        }
    }
}

impl<T: Into<String>> From<T> for Detail {
    fn from(text: T) -> Detail {
        Detail {
            text: text.into(),
            source: None,
        }
    }
}

/// The sentence, without the cause.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text of the server in a form that can be printed: one line, without hidden characters, of limited length.
pub(crate) fn printable(text: &str) -> String {
    /// Enough for the refusals of the pages; the error texts of v1 are shorter.
    const MAX_BYTES: usize = 256;
    let text = text.trim();
    let end = text.floor_char_boundary(MAX_BYTES);
    let line: String = text[..end]
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .chain((end < text.len()).then_some('…'))
        .collect();
    visible(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1::{NO_NEW_LOCKS, OVER_SHARE, revoked, waited_too_long};
    use std::error::Error as _;
    use std::io;

    #[test]
    fn texts_of_the_server_are_shown_on_one_short_line() {
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(printable(" a\r\n\u{1b}[2Jb\n"), "a   [2Jb");
        assert_eq!(printable(&"é".repeat(5000)), "é".repeat(128) + "…");
    }

    #[test]
    fn the_cause_is_the_source_and_not_part_of_the_text() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = Error::Closed(Detail::caused("I/O error", reset));
        assert_eq!(error.to_string(), "connection lost: I/O error");
        let source = error.source().expect("a cause");
        let kind = source.downcast_ref().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::ConnectionReset));
        assert!(Error::Closed("it is closed".into()).source().is_none());
    }

    #[test]
    fn each_error_text_of_v1_becomes_its_variant() {
        assert!(matches!(Error::from_v1(NO_NEW_LOCKS), Error::Connect(_)));
        assert!(matches!(Error::from_v1(&revoked(7)), Error::Revoked(_)));
        assert!(matches!(Error::from_v1(OVER_SHARE), Error::Connect(_)));
        let longest = Duration::from_secs(3);
        let waited = Error::from_v1(&waited_too_long(longest));
        assert!(matches!(waited, Error::Timeout(time) if time == longest));
        let refused = Error::from_v1("lock of 9 resources; at most 4 are allowed");
        assert!(matches!(refused, Error::Refused { code: None, .. }));
    }
}
