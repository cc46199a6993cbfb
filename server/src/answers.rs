//! Answers to HTTP requests: contents, and refusals that say why.

use crate::body::Content;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(crate) type Answer = Response<Content>;

/// Why there is no better answer: a sentence that says what is wrong and what is allowed.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    sentence: String,
    hint: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, sentence: impl Into<String>) -> Refusal {
        Refusal {
            status,
            sentence: sentence.into(),
            hint: None,
        }
    }

    pub(crate) fn bad_request(sentence: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, sentence)
    }

    pub(crate) fn not_found(sentence: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, sentence)
    }

    pub(crate) fn forbidden(sentence: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, sentence)
    }

    pub(crate) fn unauthorized(sentence: impl Into<String>) -> Refusal {
        Refusal {
            hint: Some((WWW_AUTHENTICATE, "Bearer")),
            ..Refusal::new(StatusCode::UNAUTHORIZED, sentence)
        }
    }

    pub(crate) fn unavailable(sentence: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }

    pub(crate) fn not_an_upgrade() -> Refusal {
        let sentence = "this is a WebSocket endpoint; an upgrade is required";
        Refusal {
            hint: Some((UPGRADE, "websocket")),
            ..Refusal::new(StatusCode::UPGRADE_REQUIRED, sentence)
        }
    }

    pub(crate) fn wrong_method(allowed: &'static str) -> Refusal {
        let sentence = format!("method not allowed; allowed here: {allowed}");
        Refusal {
            hint: Some((ALLOW, allowed)),
            ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let mut answer = text(refusal.sentence + "\n");
        *answer.status_mut() = refusal.status;
        if let Some((name, value)) = refusal.hint {
            answer
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

pub(crate) fn text(text: String) -> Answer {
    content("text/plain; charset=utf-8", text)
}

pub(crate) fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value).expect("strings and numbers always serialize");
    content("application/json", text)
}

pub(crate) fn content(kind: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Content::from(content.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
