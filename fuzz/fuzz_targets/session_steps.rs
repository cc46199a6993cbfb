//! Arbitrary events for the session machine of v1. Properties: there is at most one lock; no lock is lost or left
//! behind; after an error only the end of the connection has an effect.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use locktopus_protocol::Resource;
use locktopus_protocol::v1::{MAX_ERROR_BYTES, Request, Response, State};
use locktopus_server::v1::{Effect, Input, Left, Session};

#[derive(Debug, Arbitrary)]
enum Event {
    Frame(Vec<u8>),
    Lock,
    Release,
    Malformed(String),
    Queued { token: u64, acquired: bool },
    Refused(String),
    Granted,
    Revoked,
    Ended,
}

/// The lock of the driver, according to the effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    None,
    Asked,
    Waiting(u64),
    Held(u64),
}

fuzz_target!(|events: Vec<Event>| {
    let mut session = Session::new();
    let mut lock = Lock::None;
    let (mut failed, mut ended) = (false, false);
    for event in &events {
        // A driver queues a request when an effect says so, and reports a grant once.
        let input = match event {
            Event::Frame(frame) => {
                Input::Read(Request::decode(frame).map_err(|error| error.to_string()))
            }
            Event::Lock => Input::Read(Ok(Request::Lock(vec![Resource::write(["a"])]))),
            Event::Release => Input::Read(Ok(Request::Release)),
            Event::Malformed(problem) => Input::Read(Err(problem.clone())),
            Event::Queued { token, acquired } => {
                if lock == Lock::Asked {
                    lock = if *acquired {
                        Lock::Held(*token)
                    } else {
                        Lock::Waiting(*token)
                    };
                }
                Input::Queued {
                    token: *token,
                    acquired: *acquired,
                }
            }
            Event::Refused(reason) => {
                if lock == Lock::Asked {
                    lock = Lock::None;
                }
                Input::Refused(reason.clone())
            }
            Event::Granted => {
                if let Lock::Waiting(token) = lock {
                    lock = Lock::Held(token);
                }
                Input::Granted
            }
            Event::Revoked => Input::Revoked,
            Event::Ended => Input::Ended,
        };
        let is_end = matches!(input, Input::Ended);
        let effect = session.step(input);
        assert!(
            !ended || effect == Effect::Nothing,
            "after the end: {effect:?}"
        );
        match effect {
            Effect::Nothing => {}
            Effect::Lock(_) => {
                assert!(!failed && lock == Lock::None, "a second lock");
                lock = Lock::Asked;
            }
            Effect::Reply(Response::State { id, state, .. }) => {
                assert!(!failed);
                let expected = match lock {
                    Lock::Waiting(token) => (token, State::Enqueued),
                    Lock::Held(token) => (token, State::Acquired),
                    other => panic!("a reply about {other:?}"),
                };
                assert_eq!((id.parse(), state), (Ok(expected.0), expected.1));
            }
            Effect::Release(Response::State { id, state, .. }) => {
                assert!(!failed);
                let (Lock::Waiting(token) | Lock::Held(token)) = lock else {
                    panic!("a release of {lock:?}");
                };
                assert_eq!((id.parse(), state), (Ok(token), State::Ready));
                lock = Lock::None;
            }
            Effect::Reply(error) | Effect::Release(error) => panic!("{error:?}"),
            Effect::Fail(text) => {
                assert!(!failed && text.len() <= MAX_ERROR_BYTES);
                failed = true;
            }
            Effect::Revoked(text) => {
                assert!(!failed && text.len() <= MAX_ERROR_BYTES);
                assert!(
                    matches!(lock, Lock::Waiting(_) | Lock::Held(_)),
                    "{lock:?} revoked"
                );
                (failed, lock) = (true, Lock::None);
            }
            Effect::Leave(left) => {
                assert!(is_end);
                ended = true;
                let expected = match lock {
                    Lock::None | Lock::Asked => Left::Nothing,
                    Lock::Waiting(_) => Left::Waiting,
                    Lock::Held(_) => Left::Holding,
                };
                assert_eq!(left, expected);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            session.is_waiting(),
            !ended && matches!(lock, Lock::Waiting(_))
        );
    }
});
