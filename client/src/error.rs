//! What can go wrong, sorted by what there is to do about it.

use crate::protocol::v1::fit_error;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

/// Why there is no lock, or no more.
///
/// | variant | is something queued or held? | what to do |
/// |---|---|---|
/// | [`Options`](Error::Options) | no | correct the URL or the options |
/// | [`Connect`](Error::Connect) | no | is the server running? has it too much to do? try again later |
/// | [`Refused`](Error::Refused) | no, nor is a lock that was held | correct what was asked for: the text says what is allowed |
/// | [`Protocol`](Error::Protocol) | as for `Closed` | is it a Locktopus server of v1? report it |
/// | [`Closed`](Error::Closed) | a lock that was held is, for the abandon timeout at most | stop using it; lock again |
/// | [`Timeout`](Error::Timeout) | no | try again later |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL or the options are wrong; nothing was sent.
    Options(String),
    /// There is no connection to the server, or it takes nothing more for now: it is being shut down, say, or
    /// its proxy answers with an HTTP status of 429 or 5xx. Nothing is queued.
    Connect(String),
    /// The server does not do it; what it says. To ask again for the same is no use, unless it is the
    /// reason for which a lock was [lost](crate::Guard::lost): then the server has taken the lock, by force
    /// say, and what it says is why.
    Refused(String),
    /// What came is not of the v1 protocol. The connection is closed.
    Protocol(String),
    /// The connection ended, or nothing was heard for too long.
    Closed(String),
    /// The lock was not granted within this time. The request is withdrawn.
    Timeout(Duration),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Options(what) => f.write_str(what),
            Error::Connect(what) => write!(f, "cannot connect: {what}"),
            Error::Refused(what) => write!(f, "refused by the server: {what}"),
            Error::Protocol(what) => write!(f, "not the v1 protocol: {what}"),
            Error::Closed(what) => write!(f, "connection lost: {what}"),
            Error::Timeout(time) => write!(f, "not granted within {time:?}"),
        }
    }
}

impl std::error::Error for Error {}

/// So that what is options already is taken where a URL is.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

/// A text of the server, made fit to be shown: one line, without control characters, not long.
pub(crate) fn printable(text: &str) -> String {
    let text: String = text
        .trim()
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(512)
        .collect();
    fit_error(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_shown_on_one_short_line() {
        assert_eq!(printable(" a\r\n\u{1b}[2Jb\n"), "a   [2Jb");
        assert!(printable(&"é".repeat(5000)).len() <= crate::protocol::v1::MAX_ERROR_BYTES);
    }
}
