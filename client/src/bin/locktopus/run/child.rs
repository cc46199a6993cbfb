//! The command that runs under the lock, and its process group.

use super::signals::Signals;
use crate::output::{USAGE, complain};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, getppid, kill_process, kill_process_group,
    test_kill_process_group,
};
use rustix::termios::tcgetpgrp;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use tokio::process::Command;

/// The status that a shell gives for a command that a signal ended.
pub(crate) fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The running command.
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Option<Pid>,
    /// Away from a terminal the command has a process group of its own, so that all processes it started can be
    /// stopped. On a terminal it stays in our group: the job control of the shell knows no other, and the terminal
    /// stops a process of another group that reads from it.
    own_group: bool,
}

impl Child {
    pub(crate) fn start(
        command: &[OsString],
        environment: &[(&str, String)],
        signals: &Signals,
    ) -> Result<Child, (u8, String)> {
        let Some((program, arguments)) = command.split_first() else {
            return Err((USAGE, "no command".to_owned()));
        };
        let own_group = !on_terminal();
        let mut command = end_with_us(program);
        command.args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if own_group {
            command.process_group(0);
            // Before the command starts, since it must never run while we are stopped: a stop of our group does not
            // reach the group of the command.
            signals
                .take_job_control()
                .map_err(|error| (126, format!("cannot listen for signals: {error}")))?;
        }
        let process = command
            .spawn()
            .map_err(|error| cannot_run(program, &error))?;
        let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Child {
            process,
            pid,
            own_group,
        })
    }

    /// Waits for the end of the command.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Passes on a signal that we received.
    ///
    /// # Errors
    /// As for [`send_to_all`](Child::send_to_all).
    pub(crate) fn pass_on(&self, signal: Signal) -> io::Result<()> {
        if self.own_group && is_to_end(signal) {
            // A terminal does the same. Otherwise the processes that the command started would go on without a lock.
            return self.send_to_all(signal);
        }
        // The terminal sends these two to the whole foreground group, and so also to the command.
        let from_terminal = matches!(signal, Signal::INT | Signal::QUIT);
        if from_terminal && !self.own_group && in_foreground() {
            return Ok(());
        }
        self.send(signal)
    }

    /// Continues a command with a process group of its own, so that it receives a signal that is to end it.
    pub(crate) fn wake_for(&self, signal: Signal) {
        if self.own_group && is_to_end(signal) {
            // A permission error was reported for the first signal already.
            let _ = self.send_to_all(Signal::CONT);
        }
    }

    /// Sends a signal to the command, if it still runs.
    fn send(&self, signal: Signal) -> io::Result<()> {
        // After the wait another process may have the process id.
        match self.pid.filter(|_| self.process.id().is_some()) {
            Some(pid) => sent(kill_process(pid, signal)),
            None => Ok(()),
        }
    }

    /// Whether a process of the command's group is left. False if the command has no group of its own.
    pub(crate) fn group_lives(&self) -> bool {
        self.own_group
            && self.pid.is_some_and(|pid| {
                // A permission error means that the process exists.
                test_kill_process_group(pid) != Err(Errno::SRCH)
            })
    }

    /// Sends a signal to the command, and to all processes of its group if it has one of its own.
    ///
    /// # Errors
    /// If we have no permission, as for a command of another user under `sudo`. A command that has ended is not an
    /// error.
    pub(crate) fn send_to_all(&self, signal: Signal) -> io::Result<()> {
        match self.pid {
            // The id belongs to the group for as long as the group has a process.
            Some(pid) if self.own_group => sent(kill_process_group(pid, signal)),
            _ => self.send(signal),
        }
    }
}

/// The status that a shell gives for a command that cannot be run, and the reason.
fn cannot_run(program: &OsStr, error: &io::Error) -> (u8, String) {
    let status = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    let text = format!("cannot run {}: {error}", program.to_string_lossy());
    (status, text)
}

/// A command that gets SIGTERM when we end, even by SIGKILL: from then on its lock is not kept alive.
///
/// Only the process that is to receive the signal can request it from the kernel. So it starts as this program, which
/// makes the request and then executes the command.
fn end_with_us(program: &OsStr) -> Command {
    let this = std::env::current_exe().ok();
    match this.filter(|this| cfg!(target_os = "linux") && this.exists()) {
        Some(this) => {
            let mut command = Command::new(this);
            command
                .arg(BECOME)
                .arg(std::process::id().to_string())
                .arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The first argument of the process that is to become the command. The process id of its parent and the command
/// follow.
pub(crate) const BECOME: &str = "--become";

/// Becomes the command. Returns the exit status if that fails.
pub(crate) fn become_command(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    let parent = arguments.next().and_then(|id| id.to_str()?.parse().ok());
    let Some((parent, program)) = parent.zip(arguments.next()) else {
        complain("--become is internal; see --help");
        return USAGE;
    };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        complain(&format!("the command will not end with locktopus: {error}"));
    }
    // The parent may have ended before the request.
    if getppid() != Pid::from_raw(parent) {
        return status_of_signal(Signal::TERM.as_raw());
    }
    let error = std::process::Command::new(&program).args(arguments).exec();
    let (status, text) = cannot_run(&program, &error);
    complain(&text);
    status
}

/// Whether the purpose of a signal is to end its receiver. The others are for the command alone: a process that it
/// started may not handle them, and would end.
fn is_to_end(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal)
}

/// The receiver may just have ended, which is not an error.
fn sent(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
