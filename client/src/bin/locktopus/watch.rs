//! The command while it holds its lock.
//!
//! ```text
//! Running ──► ended ──► its status
//!   │ │  ▲ SIGCONT, and the lock is surely ours
//!   │ └──┴─ SIGTSTP: stopped, and so are we
//!   └─ lost: SIGTERM ── last moment: SIGKILL
//! ```
//!
//! # Invariants
//! W1. The command does not run on after the last moment of a lock that is known to be lost.
//! W2. A command that was stopped with us is not continued before it is known that the lock is still
//!     ours, or there is time left to end it.

use crate::child::{Running, status_of, stop_ourselves};
use crate::complain;
use crate::signals::Signals;
use locktopus_client::{Error, Guard, Lost};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep_until};

/// How often it is looked whether anybody is left of a lost command.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Watch<'a> {
    pub(crate) running: Running,
    pub(crate) guard: &'a Guard,
    /// How long it has between SIGTERM and SIGKILL, if the deadline leaves it that.
    pub(crate) grace: Duration,
    /// Since when the lock is lost shows in when the command is killed.
    kill_at: Option<Instant>,
    killed: bool,
    stopped: Stopped,
}

/// Whether the command is stopped with us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    Yes,
    /// We go on, but the lock may be another's.
    UntilConfirmed,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(running: Running, guard: &'a Guard, grace: Duration) -> Watch<'a> {
        Watch {
            running,
            guard,
            grace,
            kill_at: None,
            killed: false,
            stopped: Stopped::No,
        }
    }

    /// Waits for the end of the command; its status, and whether the lock was lost before.
    pub(crate) async fn outcome(mut self, signals: &mut Signals) -> (u8, bool) {
        let guard = self.guard;
        let mut lost = std::pin::pin!(guard.lost());
        let ended = loop {
            tokio::select! {
                ended = self.running.ended() => break ended,
                signal = signals.next() => self.hear(signal),
                lost = &mut lost, if self.kill_at.is_none() => self.lose(&lost),
                () = until(self.kill_at), if !self.killed => self.kill(),
                confirmed = guard.confirm(), if self.stopped == Stopped::UntilConfirmed => {
                    // If it is not, it is lost, and that is told.
                    self.stopped = Stopped::Yes;
                    if confirmed.is_ok() {
                        self.go_on();
                    }
                }
            }
        };
        if self.kill_at.is_some() {
            self.outlast(signals).await;
        }
        let status = ended.map_or_else(
            |error| {
                complain(&format!("cannot wait for the command: {error}"));
                u8::MAX
            },
            status_of,
        );
        (status, self.kill_at.is_some())
    }

    /// What the command has started has no lock either, and has the same grace.
    async fn outlast(&mut self, signals: &mut Signals) {
        // The end of processes that are not our children is told to nobody.
        let mut looks = interval(LOOK_INTERVAL);
        while !self.killed && self.running.group_lives() {
            tokio::select! {
                _ = looks.tick() => {}
                signal = signals.next() => self.hear(signal),
                () = until(self.kill_at) => self.kill(),
            }
        }
    }

    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::TSTP => {
                // If the command runs on somebody has to keep its lock.
                if let Err(error) = self.running.send_to_all(Signal::STOP) {
                    complain(&format!(
                        "cannot stop the command, nor so ourselves: {error}"
                    ));
                    return;
                }
                self.stopped = Stopped::Yes;
                stop_ourselves();
            }
            Signal::CONT => self.come_back(),
            signal => {
                if let Err(error) = self.running.pass_on(signal) {
                    complain(&format!("cannot signal the command: {error}"));
                }
                // Who is stopped by the terminal, as one that reads it from a background group,
                // would not hear of its end. W2: but not if it is us who have stopped it.
                if self.stopped == Stopped::No {
                    self.running.wake_for(signal);
                }
            }
        }
    }

    /// Somebody has continued us. The time went on meanwhile.
    fn come_back(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        } else if self.stopped == Stopped::No
            || self.kill_at.is_some()
            || self.guard.deadline() > now
        {
            self.go_on();
        } else {
            self.stopped = Stopped::UntilConfirmed;
        }
    }

    fn go_on(&mut self) {
        self.stopped = Stopped::No;
        // Who may not be sent this one was not stopped by us.
        let _ = self.running.send_to_all(Signal::CONT);
    }

    fn lose(&mut self, lost: &Lost) {
        let at = self.last_moment(lost);
        self.kill_at = Some(at);
        let reason = lost.reason();
        if at <= Instant::now() {
            // W1, W2: not for a moment.
            complain(&format!(
                "the lock is lost: {reason}; it may be another's, and the command gets SIGKILL"
            ));
            self.end_at_once();
            return;
        }
        complain(&format!(
            "the lock is lost: {reason}; the command gets SIGTERM"
        ));
        self.end_by(Signal::TERM);
        // Who is stopped hears nothing.
        self.go_on();
    }

    fn kill(&mut self) {
        if !self.killed {
            complain(
                "the command, or what it started, still runs without its lock, and gets SIGKILL",
            );
            self.end_at_once();
        }
    }

    fn end_at_once(&mut self) {
        self.end_by(Signal::KILL);
        self.killed = true;
    }

    fn end_by(&self, signal: Signal) {
        if let Err(error) = self.running.send_to_all(signal) {
            complain(&format!(
                "cannot signal it: {error}; it runs on without its lock"
            ));
        }
    }

    /// When the command must be gone: after the grace, and well before the deadline.
    fn last_moment(&self, lost: &Lost) -> Instant {
        let margin = self.guard.abandon_timeout() / 24;
        let now = Instant::now();
        match lost.reason() {
            // The server has taken the lock, and there is no deadline that could be kept: whoever
            // did that has decided so. The command may still clean up.
            Error::Refused(_) => now + self.grace,
            _ => {
                let latest = lost.deadline().checked_sub(margin).unwrap_or(now);
                (now + self.grace).min(latest).max(now)
            }
        }
    }
}

/// Waits until then; without a time for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
