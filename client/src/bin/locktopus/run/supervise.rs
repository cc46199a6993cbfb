//! The supervision of the command while the lock is held.
//!
//! ```text
//! Running ──► ended ──► its status
//!   │ │  ▲ SIGCONT, and the lock is known to be still held
//!   │ └──┴─ SIGTSTP: the command is stopped, and this process, too
//!   └─ lost: SIGTERM ── last moment: SIGKILL
//! ```
//!
//! # Invariants
//! W1. The command does not run past the last moment of a lock that is known to be lost.
//! W2. A command that was stopped with this process is continued only once the lock is known to be still held, or while
//!     there is time left to end it.

use super::child::{Child, stop_ourselves};
use super::signals::Signals;
use crate::output::{complain, explain};
use locktopus_client::{Error, Guard, Lost};
use rustix::process::Signal;
use std::io;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep_until};

/// How often to check whether all processes that lost the lock have ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Supervisor<'a> {
    child: Child,
    guard: &'a Guard,
    /// The time between SIGTERM and SIGKILL, if the deadline leaves that much.
    grace: Duration,
    /// When to kill the command; set once the lock is lost.
    kill_at: Option<Instant>,
    killed: bool,
    stopped: Stopped,
}

/// Whether the command is stopped together with this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    Yes,
    /// This process was continued, but the lock may be lost: the command stays stopped.
    UntilConfirmed,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(child: Child, guard: &'a Guard, grace: Duration) -> Supervisor<'a> {
        Supervisor {
            child,
            guard,
            grace,
            kill_at: None,
            killed: false,
            stopped: Stopped::No,
        }
    }

    /// Waits for the end of the command. Returns its status, and whether the lock was lost before.
    pub(crate) async fn outcome(mut self, signals: &mut Signals) -> (u8, bool) {
        let guard = self.guard;
        let mut lost = std::pin::pin!(guard.lost());
        let status = loop {
            tokio::select! {
                status = self.child.ended() => break status,
                signal = signals.next() => self.receive(signal),
                lost = &mut lost, if self.kill_at.is_none() => self.lose(&lost),
                () = until(self.kill_at), if !self.killed => self.kill(),
                confirmed = guard.confirm(), if self.stopped == Stopped::UntilConfirmed => {
                    // Without a confirmation the lock is lost, and `lost` resolves.
                    self.stopped = Stopped::Yes;
                    if confirmed.is_ok() {
                        self.go_on();
                    }
                }
            }
        };
        if self.kill_at.is_some() {
            self.wait_for_family(signals).await;
        }
        (status, self.kill_at.is_some())
    }

    /// Waits for the processes that the command started. They have lost the lock, too, and get the same grace.
    async fn wait_for_family(&mut self, signals: &mut Signals) {
        // No event reports the end of processes that are not children of this process.
        let mut checks = interval(CHECK_INTERVAL);
        while !self.killed && self.child.family().lives() {
            tokio::select! {
                _ = checks.tick() => {}
                signal = signals.next() => self.receive(signal),
                () = until(self.kill_at) => self.kill(),
            }
        }
        self.child.family().gone().await;
    }

    fn receive(&mut self, signal: Signal) {
        match signal {
            Signal::TSTP => {
                // If the command runs on, its lock must be kept alive.
                if let Err(error) = self.child.signal_group(Signal::STOP) {
                    complain(&format!(
                        "cannot stop the command, so locktopus goes on, too: {error}"
                    ));
                    return;
                }
                self.stopped = Stopped::Yes;
                stop_ourselves();
            }
            Signal::CONT => self.continued(),
            signal => {
                if let Err(error) = self.child.pass_on(signal) {
                    complain(&format!("cannot signal the command: {error}"));
                }
                // A command that the terminal stopped, since it read from the background, would not receive the signal.
                // W2: a command that we stopped stays stopped.
                if self.stopped == Stopped::No {
                    self.child.wake_for(signal);
                }
            }
        }
    }

    /// This process was continued. The deadline may have passed meanwhile.
    fn continued(&mut self) {
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
        // Without permission to send this signal, SIGSTOP has failed, too, and the command runs.
        let _ = self.child.signal_group(Signal::CONT);
    }

    fn lose(&mut self, lost: &Lost) {
        let at = self.last_moment(lost);
        self.kill_at = Some(at);
        let reason = explain(lost.reason());
        if at <= Instant::now() {
            // W1, W2: the command must not run for another moment.
            complain(&format!(
                "the lock is lost: {reason}; another client may hold it, and the command gets SIGKILL"
            ));
            self.end_at_once();
            return;
        }
        complain(&format!(
            "the lock is lost: {reason}; the command gets SIGTERM"
        ));
        self.report_failure(self.child.family().signal(Signal::TERM));
        // A stopped process would not receive SIGTERM. A permission error was reported for that signal already.
        let _ = self.child.family().signal(Signal::CONT);
        self.stopped = Stopped::No;
    }

    fn kill(&mut self) {
        if !self.killed {
            complain(
                "the command, or a process that it started, still runs without the lock, and gets SIGKILL",
            );
            self.end_at_once();
        }
    }

    fn end_at_once(&mut self) {
        self.report_failure(self.child.family().kill());
        self.killed = true;
    }

    fn report_failure(&self, signalled: io::Result<()>) {
        if let Err(error) = signalled {
            complain(&format!(
                "cannot signal the command or a process that it started, which runs on without the lock: {error}"
            ));
        }
    }

    /// The moment at which the command must have ended: after the grace, and well before the deadline.
    fn last_moment(&self, lost: &Lost) -> Instant {
        let margin = self.guard.abandon_timeout() / 24;
        let now = Instant::now();
        match lost.reason() {
            // The server has already released the lock, so there is no deadline to meet. An operator decided that; the
            // command still gets time to clean up.
            Error::Revoked(_) | Error::Refused { .. } => now + self.grace,
            _ => {
                let latest = lost.deadline().checked_sub(margin).unwrap_or(now);
                (now + self.grace).min(latest).max(now)
            }
        }
    }
}

/// Waits until this moment; without one it never resolves.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
