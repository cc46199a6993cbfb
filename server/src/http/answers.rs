//! Answers to HTTP requests: contents, and refusals that say what is allowed.

use super::query::BadParameter;
use crate::shares::Refused;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, RETRY_AFTER, UPGRADE, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use locktopus_protocol::pages::{self, RefusalCode};
use locktopus_protocol::v1::SHUTTING_DOWN;
use serde::Serialize;
use std::fmt::Display;

pub(super) type Answer = Response<Full<Bytes>>;

/// Types of contents.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: RefusalCode,
    /// What is wrong and what is allowed.
    sentence: String,
    hint: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, code: RefusalCode, sentence: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            sentence: sentence.into(),
            hint: None,
        }
    }

    fn with_hint(self, name: HeaderName, value: &'static str) -> Refusal {
        Refusal {
            hint: Some((name, value)),
            ..self
        }
    }

    pub(super) fn bad_handshake(error: &impl Display) -> Refusal {
        let sentence = format!("bad WebSocket handshake: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, RefusalCode::BadRequest, sentence)
    }

    pub(super) fn unauthorized(sentence: &str) -> Refusal {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            RefusalCode::Unauthorized,
            sentence,
        )
        .with_hint(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn forbidden(sentence: &str) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, RefusalCode::Forbidden, sentence)
    }

    pub(super) fn no_such_page() -> Refusal {
        let sentence =
            "not found; there are /, /v1, /namespaces, /locks, /stats_v1, /metrics and /healthz";
        Refusal::new(StatusCode::NOT_FOUND, RefusalCode::NotFound, sentence)
    }

    pub(super) fn no_such_namespace() -> Refusal {
        let sentence =
            "namespace not found; it exists while clients are connected to it or hold locks in it";
        Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalCode::NamespaceNotFound,
            sentence,
        )
    }

    pub(super) fn no_such_lock() -> Refusal {
        let sentence = "no such lock in this namespace; it may have been released just now";
        Refusal::new(StatusCode::NOT_FOUND, RefusalCode::LockNotFound, sentence)
    }

    pub(super) fn wrong_method(allowed: &'static str) -> Refusal {
        let sentence = format!("method not allowed; allowed here: {allowed}");
        let code = RefusalCode::MethodNotAllowed;
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, sentence).with_hint(ALLOW, allowed)
    }

    pub(super) fn not_an_upgrade() -> Refusal {
        let sentence = "this is a WebSocket endpoint; an upgrade is required";
        let code = RefusalCode::UpgradeRequired;
        Refusal::new(StatusCode::UPGRADE_REQUIRED, code, sentence).with_hint(UPGRADE, "websocket")
    }

    pub(super) fn too_many(what: &str, limit: usize) -> Refusal {
        let sentence = format!("too many {what}; at most {limit} are allowed");
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::Unavailable,
            sentence,
        )
    }

    /// No place is left for this client in a limit that clients share.
    pub(super) fn no_place(refused: Refused, what: &str) -> Refusal {
        match refused {
            Refused::Full { whole } => Refusal::too_many(what, whole),
            Refused::OverShare { taken, whole } => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                RefusalCode::OverShare,
                format!(
                    "the auth token or the address of this client has {taken} of {whole} {what}; the rest is kept for \
                     other clients"
                ),
            ),
        }
    }

    pub(super) fn busy() -> Refusal {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::Busy,
            "the server makes as many long answers as it may at one time; try again",
        )
        .with_hint(RETRY_AFTER, "1")
    }

    pub(super) fn shutting_down() -> Refusal {
        let code = RefusalCode::ShuttingDown;
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, SHUTTING_DOWN)
    }

    /// The answer to a request with these headers: JSON if the program asks for it, otherwise the plain sentence.
    pub(super) fn answer(self, as_json: bool) -> Answer {
        let mut answer = if as_json {
            json(&pages::Refusal {
                error: self.sentence,
                code: self.code,
            })
        } else {
            text(self.sentence + "\n")
        };
        *answer.status_mut() = self.status;
        if let Some((name, value)) = self.hint {
            answer
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

impl From<BadParameter> for Refusal {
    fn from(problem: BadParameter) -> Refusal {
        let sentence = problem.to_string();
        Refusal::new(StatusCode::BAD_REQUEST, RefusalCode::BadRequest, sentence)
    }
}

/// Whether the client is a browser, to which the live page is shown.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    accepts(headers, "text/html")
}

/// Whether the client wants refusals as JSON.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    accepts(headers, "application/json") && !accepts(headers, "text/html")
}

/// Whether an Accept header names this media type, which a weight of zero excludes. Wildcards do not name a type.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).into_iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        named && !parts.any(is_zero_weight)
    })
}

/// Whether a parameter of a media type is `q=0`, in any of its forms (RFC 9110, 12.4.2).
fn is_zero_weight(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0)
    })
}

pub(super) fn text(text: String) -> Answer {
    content(TEXT, text)
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value).expect("strings and numbers always serialize");
    content(JSON, text)
}

pub(super) fn content(kind: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(content.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Marks an answer that depends on the Accept header.
pub(super) fn varies(mut answer: Answer) -> Answer {
    let accept = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(VARY, accept);
    answer
}

/// The live page. Its policy allows only its own style and script, and requests to this server.
pub(super) fn live_page() -> Answer {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut answer = varies(content(
        "text/html; charset=utf-8",
        include_str!("page.html"),
    ));
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values
            .iter()
            .map(|value| HeaderValue::from_str(value).expect("valid"));
        values.map(|value| (ACCEPT, value)).collect()
    }

    #[test]
    fn json_is_wanted_where_accept_names_it_and_does_not_name_html() {
        for accept in [
            &["application/json"][..],
            &["Application/JSON"],
            &["text/plain, application/json;q=0.5"],
            &["text/plain", "application/json; charset=utf-8"],
            &["application/json, text/html;q=0"],
            &["application/json;Q=1, text/html; q=0.000"],
        ] {
            assert!(wants_json(&headers(accept)), "{accept:?}");
            assert!(!wants_page(&headers(accept)), "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &["application/*"],
            &["application/json;q=0"],
            &["application/json; q=0.0"],
            &["application/jsonx"],
            &["text/html, application/json"],
            &["application/json", "TEXT/HTML"],
            &["\u{e9}"],
            &[";;,,=;q"],
        ] {
            assert!(!wants_json(&headers(accept)), "{accept:?}");
        }
    }

    #[test]
    fn the_page_is_wanted_where_accept_names_html() {
        for accept in [
            "text/html",
            "text/html,*/*;q=0.8",
            "a/b, Text/Html ;level=1",
        ] {
            assert!(wants_page(&headers(&[accept])), "{accept}");
        }
        for accept in [
            "*/*",
            "text/*",
            "text/htmlx",
            "text/html;q=0",
            "x;text/html",
        ] {
            assert!(!wants_page(&headers(&[accept])), "{accept}");
        }
    }
}
