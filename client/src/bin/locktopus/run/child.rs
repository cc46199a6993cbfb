//! The command that runs under the lock, behind its guardian.

use super::family::Family;
use super::guardian::{GUARD, Order, Report};
use super::signals::Signals;
use crate::output::complain;
use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process};
use rustix::termios::tcgetpgrp;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const GUARDIAN_ENDED: &str = "the guardian of the command has ended; the command gets SIGKILL";

/// The status that a shell gives for a command that a signal ended.
pub(crate) fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The process that ends the command if we are killed; see `guardian`.
pub(crate) struct Guardian {
    process: std::process::Child,
    /// Away from a terminal the command has a process group of its own, so that all processes it started can be
    /// stopped. On a terminal it stays in our group: the job control of the shell knows no other, and the terminal
    /// stops a process of another group that reads from it.
    own_group: bool,
    /// Whether the guardian may be killed: it has no command, or the command has ended.
    idle: bool,
    command: Option<Pid>,
    reports: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl Guardian {
    /// Starts the guardian.
    pub(crate) fn start() -> io::Result<Guardian> {
        let own_group = !on_terminal();
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reports, orders) = tokio::net::UnixStream::from_std(ours)?.into_split();
        // If the guardian is killed, we adopt what the command has started.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(getpid()))?;
        // On Linux this link names the running program even if its file is replaced or deleted.
        let this = match cfg!(target_os = "linux") {
            true => "/proc/self/exe".into(),
            false => std::env::current_exe()?,
        };
        let mut command = Command::new(this);
        command.arg0("locktopus").arg(GUARD);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        if own_group {
            // A SIGKILL to our group must not reach it.
            command.process_group(0);
        }
        Ok(Guardian {
            process: command.spawn()?,
            own_group,
            idle: true,
            command: None,
            reports: BufReader::new(reports).lines(),
            orders,
        })
    }

    /// Whether the command gets a process group of its own.
    pub(crate) fn own_group(&self) -> bool {
        self.own_group
    }

    /// Lets the guardian run the command.
    ///
    /// # Errors
    /// The status that a shell gives for a command that cannot be run, and the reason.
    pub(crate) async fn run(
        mut self,
        order: &Order,
        signals: &Signals,
    ) -> Result<Child, (u8, String)> {
        if self.own_group {
            // Before the command starts, since it must never run while we are stopped: a stop of our group does not
            // reach the group of the command.
            signals
                .take_job_control()
                .map_err(|error| (126, format!("cannot listen for signals: {error}")))?;
        }
        self.idle = false;
        let sent = async {
            let rest = order.announce(self.orders.as_ref())?;
            self.orders.write_all(&rest).await?;
            self.report().await
        };
        let command = match sent.await {
            Ok(Report::Started(command)) => command,
            Ok(Report::Failed(status, reason)) => {
                self.idle = true;
                return Err((status, reason));
            }
            // The command may run already.
            _ => return Err((self.replace().await, GUARDIAN_ENDED.to_owned())),
        };
        self.command = Some(command);
        Ok(Child {
            family: Family {
                root: Pid::from_child(&self.process),
                command: self.command,
                own_group: self.own_group,
                with_job: !self.own_group,
            },
            guardian: self,
        })
    }

    /// Does the duty of a guardian that has ended: kills what it has guarded, which is ours now. Returns the exit
    /// status of the command.
    async fn replace(&mut self) -> u8 {
        self.idle = true;
        // If it does not answer for another reason, it ends here.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let family = Family {
            root: getpid(),
            command: self.command,
            own_group: self.own_group,
            with_job: false,
        };
        if let Err(error) = family.kill() {
            complain(&format!("cannot signal the command: {error}"));
        }
        // The lock is released next.
        family.gone().await;
        status_of_signal(Signal::KILL.as_raw())
    }

    async fn report(&mut self) -> io::Result<Report> {
        let line = self.reports.next_line().await?;
        let report = line.as_deref().map(Report::read);
        match report {
            Some(Some(report)) => Ok(report),
            Some(None) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // Otherwise it would outlive us for a moment. If the command still runs, the end of the socket tells the
        // guardian to end it.
        if self.idle {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// The running command.
pub(crate) struct Child {
    guardian: Guardian,
    family: Family,
}

impl Child {
    /// Waits for the end of the command, and returns its status.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn ended(&mut self) -> u8 {
        let status = match self.guardian.report().await {
            Ok(Report::Ended(status)) => status,
            _ => {
                complain(GUARDIAN_ENDED);
                self.guardian.replace().await
            }
        };
        self.guardian.idle = true;
        status
    }

    /// Passes on a signal that we received.
    ///
    /// # Errors
    /// As for [`signal_group`](Child::signal_group).
    pub(crate) fn pass_on(&self, signal: Signal) -> io::Result<()> {
        if self.family.own_group && is_to_end(signal) {
            // A terminal does the same. Otherwise the processes that the command started would go on without a lock.
            return self.signal_group(signal);
        }
        // The terminal sends these two to the whole foreground group, and so also to the command.
        let from_terminal = matches!(signal, Signal::INT | Signal::QUIT);
        if from_terminal && !self.family.own_group && in_foreground() {
            return Ok(());
        }
        self.signal(signal)
    }

    /// Continues a command with a process group of its own, so that it receives a signal that is to end it.
    pub(crate) fn wake_for(&self, signal: Signal) {
        if self.family.own_group && is_to_end(signal) {
            // A permission error was reported for the first signal already.
            let _ = self.signal_group(Signal::CONT);
        }
    }

    /// Sends a signal to the command, if it still runs.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        // After its end another process may have the process id.
        match self.guardian.idle {
            false => self.family.signal_command(signal),
            true => Ok(()),
        }
    }

    /// Sends a signal to the command, and to all processes of its group if it has one of its own.
    ///
    /// # Errors
    /// If we have no permission, as for a command of another user under `sudo`. A command that has ended is not an
    /// error.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        match self.family.own_group {
            // The id belongs to the group for as long as the group has a process.
            true => self.family.signal_group(signal),
            false => self.signal(signal),
        }
    }

    /// The processes that run under the lock: all that the command has started, and on a terminal also the rest of the
    /// job, such as the other commands of a pipeline.
    pub(crate) fn family(&self) -> &Family {
        &self.family
    }
}

/// Whether the purpose of a signal is to end its receiver. The others are for the command alone: a process that it
/// started may not handle them, and would end.
fn is_to_end(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal)
}

/// The status that a shell gives for the end of a command.
pub(crate) fn status_of(end: ExitStatus) -> u8 {
    match (end.code(), end.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => status_of_signal(signal),
        (None, None) => u8::MAX,
    }
}

/// Stops this process, as SIGTSTP does by default. It may return before the process is stopped, so everything that
/// must happen after the stop waits for SIGCONT.
pub(crate) fn stop_ourselves() {
    // A process may always send a signal to itself.
    let _ = kill_process(getpid(), Signal::STOP);
}

/// Whether a terminal controls us: we are its foreground job, or one of the standard streams is that terminal. In a
/// pipeline the streams are pipes, but the job is in the foreground all the same.
fn on_terminal() -> bool {
    in_foreground()
        || tcgetpgrp(io::stdin()).is_ok()
        || tcgetpgrp(io::stdout()).is_ok()
        || tcgetpgrp(io::stderr()).is_ok()
}

fn in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
