//! The v1 protocol of one connection as a pure state machine: no socket, no clock, no engine. The driver reads the
//! messages, since a long one is read elsewhere.
//!
//! Each input has exactly one effect, which the driver carries out before the next input.
//!
//! ```text
//!            lock ──► Lock ──Queued──► Reply           Granted: Reply
//!   ┌─────┐           ┌────────┐     ┌──────────┐     ┌──────────┐
//!   │Ready├──────────►│ Asking ├────►│ Enqueued ├────►│ Acquired │
//!   └──▲──┘           └───┬────┘     └────┬─────┘     └────┬─────┘
//!      │                  └───────────────┼───────────────►│
//!      └──────────── release: Release ────┴────────────────┘
//!   any state: a message that is not allowed: Fail;  the end of the connection: Leave
//!   Enqueued, Acquired: an operator has revoked the lock: Revoked
//!   Enqueued: the request has waited for too long: Withdraw
//! ```
//!
//! # Invariants
//! S1. There is at most one lock or request, and no other is requested meanwhile.
//! S2. After `Fail`, `Revoked` or `Withdraw`, only the end of the connection has an effect.
//! S3. `Leave` comes once, and says what the connection leaves behind.

use locktopus_protocol::Resource;
use locktopus_protocol::v1::{
    Action, Request, Response, State, fit_error, revoked, waited_too_long,
};
use std::time::Duration;

/// An event of a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// A message arrived and was read: a request, or the problem with it.
    Read(Result<Request, String>),
    /// The request of [`Effect::Lock`] is queued, or has been granted already.
    Queued {
        /// Its fencing token.
        token: u64,
        /// Whether it is granted already.
        acquired: bool,
    },
    /// The request of [`Effect::Lock`] was refused. The value is the reason.
    Refused(String),
    /// The queued request has been granted.
    Granted,
    /// An operator has revoked the lock or the waiting request, which has ended.
    Revoked,
    /// The queued request has waited for this time, the longest that the server allows.
    WaitedTooLong(Duration),
    /// The connection was closed or is broken, or is about to be closed by the server.
    Ended,
}

/// The task of the driver after an input.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Queue a request for these resources and step with `Queued` or `Refused`.
    Lock(Vec<Resource>),
    /// Send this.
    Reply(Response),
    /// Release the lock or withdraw the request, and only then send this.
    Release(Response),
    /// Send an error object with this text, and close with the same reason: the client has made a mistake.
    Fail(String),
    /// Send an error object with this text, and close with the same reason: the lock was revoked.
    Revoked(String),
    /// Withdraw the request, send an error object with this text, and close with the same reason.
    Withdraw(String),
    /// Leave the connection.
    Leave(Left),
}

/// The lock that a connection leaves behind when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A waiting request: withdraw it at once.
    Waiting,
    /// An acquired lock: release it after the abandon timeout.
    Holding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ready,
    Asking,
    Enqueued { token: u64 },
    Acquired { token: u64 },
    Ended,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    failed: bool,
}

impl Session {
    /// A new connection, without a lock.
    #[must_use]
    pub fn new() -> Session {
        Session {
            phase: Phase::Ready,
            failed: false,
        }
    }

    /// Whether a request waits, so that the driver must wait for its grant.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Enqueued { .. })
    }

    /// Takes the next input.
    pub fn step(&mut self, input: Input) -> Effect {
        match (input, self.phase) {
            (_, Phase::Ended) => Effect::Nothing,
            (Input::Ended, phase) => {
                self.phase = Phase::Ended;
                Effect::Leave(match phase {
                    Phase::Ready | Phase::Asking | Phase::Ended => Left::Nothing,
                    Phase::Enqueued { .. } => Left::Waiting,
                    Phase::Acquired { .. } => Left::Holding,
                })
            }
            (Input::Queued { token, acquired }, Phase::Asking) => {
                let state = if acquired {
                    self.phase = Phase::Acquired { token };
                    State::Acquired
                } else {
                    self.phase = Phase::Enqueued { token };
                    State::Enqueued
                };
                self.reply(token, Action::Lock, state)
            }
            (Input::Refused(reason), Phase::Asking) => {
                self.phase = Phase::Ready;
                self.fail(&reason)
            }
            (Input::Granted, Phase::Enqueued { token }) => {
                self.phase = Phase::Acquired { token };
                self.reply(token, Action::Lock, State::Acquired)
            }
            _ if self.failed => Effect::Nothing,
            (Input::Revoked, Phase::Enqueued { token } | Phase::Acquired { token }) => {
                self.phase = Phase::Ready;
                self.failed = true;
                Effect::Revoked(revoked(token))
            }
            (Input::WaitedTooLong(longest), Phase::Enqueued { .. }) => {
                self.phase = Phase::Ready;
                self.failed = true;
                Effect::Withdraw(waited_too_long(longest))
            }
            (Input::Read(Ok(request)), phase) => self.request(request, phase),
            (Input::Read(Err(problem)), _) => self.fail(&problem),
            (
                Input::Queued { .. }
                | Input::Refused(_)
                | Input::Granted
                | Input::Revoked
                | Input::WaitedTooLong(_),
                _,
            ) => Effect::Nothing,
        }
    }

    fn request(&mut self, request: Request, phase: Phase) -> Effect {
        match (request, phase) {
            (Request::Lock(resources), Phase::Ready) => {
                self.phase = Phase::Asking;
                Effect::Lock(resources)
            }
            (Request::Release, Phase::Enqueued { token } | Phase::Acquired { token }) => {
                self.phase = Phase::Ready;
                Effect::Release(state(token, Action::Release, State::Ready))
            }
            (Request::Lock(_), _) => self.fail(
                "lock is not allowed while a lock is acquired or enqueued; allowed is release",
            ),
            (Request::Release, _) => {
                self.fail("release is not allowed without a lock; allowed is lock")
            }
        }
    }

    fn reply(&self, token: u64, action: Action, to: State) -> Effect {
        if self.failed {
            Effect::Nothing
        } else {
            Effect::Reply(state(token, action, to))
        }
    }

    fn fail(&mut self, problem: &str) -> Effect {
        if self.failed {
            return Effect::Nothing;
        }
        self.failed = true;
        Effect::Fail(fit_error(problem))
    }
}

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

fn state(token: u64, action: Action, state: State) -> Response {
    Response::State {
        id: token.to_string(),
        action,
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use locktopus_protocol::v1::MAX_ERROR_BYTES;

    fn lock() -> Input {
        Input::Read(Ok(Request::Lock(vec![Resource::write(["a"])])))
    }

    fn release() -> Input {
        Input::Read(Ok(Request::Release))
    }

    fn malformed() -> Input {
        Input::Read(Err("x".repeat(500)))
    }

    fn ready() -> Session {
        Session::new()
    }

    fn enqueued() -> Session {
        let mut session = ready();
        assert!(matches!(session.step(lock()), Effect::Lock(_)));
        let queued = Input::Queued {
            token: 7,
            acquired: false,
        };
        assert_eq!(
            session.step(queued),
            Effect::Reply(state(7, Action::Lock, State::Enqueued))
        );
        assert!(session.is_waiting());
        session
    }

    fn acquired() -> Session {
        let mut session = enqueued();
        let reply = state(7, Action::Lock, State::Acquired);
        assert_eq!(session.step(Input::Granted), Effect::Reply(reply));
        assert!(!session.is_waiting());
        session
    }

    fn assert_fails(session: &mut Session, input: Input) {
        match session.step(input) {
            Effect::Fail(text) => assert!(!text.is_empty() && text.len() <= MAX_ERROR_BYTES),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is left behind either.
    fn assert_only_the_end_counts(mut session: Session) {
        let inputs = [
            lock(),
            release(),
            malformed(),
            Input::Granted,
            Input::Revoked,
        ];
        for input in inputs {
            assert_eq!(session.step(input), Effect::Nothing);
        }
        assert_eq!(session.step(Input::Ended), Effect::Leave(Left::Nothing));
    }

    #[test]
    fn a_lock_can_be_acquired_at_once() {
        let mut session = ready();
        assert!(matches!(session.step(lock()), Effect::Lock(resources) if resources.len() == 1));
        let queued = Input::Queued {
            token: 7,
            acquired: true,
        };
        assert_eq!(
            session.step(queued),
            Effect::Reply(state(7, Action::Lock, State::Acquired))
        );
    }

    #[test]
    fn release_is_allowed_while_enqueued_and_while_acquired() {
        for mut session in [enqueued(), acquired()] {
            let ready = Effect::Release(state(7, Action::Release, State::Ready));
            assert_eq!(session.step(release()), ready);
            assert!(
                matches!(session.step(lock()), Effect::Lock(_)),
                "lock is allowed again"
            );
        }
    }

    #[test]
    fn wrong_actions_fail() {
        assert_fails(&mut ready(), release());
        assert_fails(&mut enqueued(), lock());
        assert_fails(&mut acquired(), lock());
    }

    #[test]
    fn a_malformed_message_fails_in_every_state() {
        for mut session in [ready(), enqueued(), acquired()] {
            assert_fails(&mut session, malformed());
        }
    }

    #[test]
    fn a_refused_lock_fails_and_leaves_nothing_behind() {
        let mut session = ready();
        session.step(lock());
        assert_fails(&mut session, Input::Refused("closed".into()));
        assert_eq!(session.step(Input::Ended), Effect::Leave(Left::Nothing));
    }

    #[test]
    fn the_end_says_what_is_left_behind() {
        for (mut session, left) in [
            (ready(), Left::Nothing),
            (enqueued(), Left::Waiting),
            (acquired(), Left::Holding),
        ] {
            assert_eq!(session.step(Input::Ended), Effect::Leave(left));
            for input in [lock(), release(), malformed(), Input::Granted, Input::Ended] {
                assert_eq!(session.step(input), Effect::Nothing);
            }
        }
    }

    #[test]
    fn after_a_failure_only_the_end_has_an_effect() {
        for (mut session, left) in [(enqueued(), Left::Holding), (acquired(), Left::Holding)] {
            assert_fails(&mut session, malformed());
            for input in [lock(), release(), malformed(), Input::Granted] {
                assert_eq!(session.step(input), Effect::Nothing);
            }
            assert_eq!(session.step(Input::Ended), Effect::Leave(left));
        }
    }

    #[test]
    fn a_revoked_lock_is_not_left_behind() {
        for mut session in [enqueued(), acquired()] {
            let Effect::Revoked(text) = session.step(Input::Revoked) else {
                panic!("no error");
            };
            assert_eq!(text, revoked(7));
            assert_only_the_end_counts(session);
        }
        assert_eq!(ready().step(Input::Revoked), Effect::Nothing);
    }

    #[test]
    fn only_a_waiting_request_is_withdrawn_after_the_longest_wait() {
        let longest = Duration::from_secs(2);
        for mut session in [ready(), acquired()] {
            let effect = session.step(Input::WaitedTooLong(longest));
            assert_eq!(effect, Effect::Nothing);
        }
        let mut session = enqueued();
        let effect = session.step(Input::WaitedTooLong(longest));
        assert_eq!(effect, Effect::Withdraw(waited_too_long(longest)));
        assert_only_the_end_counts(session);
    }

    /// Found by the fuzz target `session_steps`.
    #[test]
    fn a_refusal_after_a_failure_is_not_a_second_error() {
        let mut session = ready();
        session.step(lock());
        assert_fails(&mut session, malformed());
        assert_eq!(
            session.step(Input::Refused("closed".into())),
            Effect::Nothing
        );
        assert_eq!(session.step(Input::Ended), Effect::Leave(Left::Nothing));
    }
}
