//! The command that runs under the lock, and the group of its processes.

use crate::signals::Signals;
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
use tokio::process::{Child, Command};

/// The status of a shell for a command that a signal ended.
pub(crate) fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The command while it runs.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    /// Away from a terminal it has a process group of its own, so that all that it starts can be
    /// stopped. On a terminal it stays in ours: the shell's job control knows no other, and who reads
    /// the terminal from another is stopped.
    own_group: bool,
}

impl Running {
    pub(crate) fn start(
        command: &[OsString],
        environment: &[(&str, String)],
        signals: &Signals,
    ) -> Result<Running, (u8, String)> {
        let Some((program, arguments)) = command.split_first() else {
            return Err((crate::USAGE, "no command".to_owned()));
        };
        let own_group = !on_terminal();
        let mut command = end_with_us(program);
        command.args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if own_group {
            command.process_group(0);
            // From before it is there: it must not go on for one moment while we are stopped. Who
            // stops the processes of our group one by one would not stop it.
            signals
                .take_job_control()
                .map_err(|error| (126, format!("cannot listen for signals: {error}")))?;
        }
        let child = command
            .spawn()
            .map_err(|error| cannot_run(program, &error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Running {
            child,
            pid,
            own_group,
        })
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes on a signal that came to us.
    ///
    /// # Errors
    /// As for [`send_to_all`](Running::send_to_all).
    pub(crate) fn pass_on(&self, signal: Signal) -> io::Result<()> {
        if self.own_group && ends(signal) {
            // As from a terminal: what the command has started would go on without its lock.
            return self.send_to_all(signal);
        }
        // The terminal sends these two to the whole foreground group, and so to the command itself.
        let from_terminal = matches!(signal, Signal::INT | Signal::QUIT);
        if from_terminal && !self.own_group && in_foreground() {
            return Ok(());
        }
        self.send(signal)
    }

    /// Wakes what has a group of its own, for a signal that is to end it.
    pub(crate) fn wake_for(&self, signal: Signal) {
        if self.own_group && ends(signal) {
            // Who may not be sent this one was not sent the other, either, and that was told.
            let _ = self.send_to_all(Signal::CONT);
        }
    }

    /// Sends a signal to the command, if it still runs.
    fn send(&self, signal: Signal) -> io::Result<()> {
        // Once it has been waited for the number may be another process's.
        match self.pid.filter(|_| self.child.id().is_some()) {
            Some(pid) => sent(kill_process(pid, signal)),
            None => Ok(()),
        }
    }

    /// Whether anybody is left of the command and of what it has started, as far as they are known.
    pub(crate) fn group_lives(&self) -> bool {
        self.own_group
            && self.pid.is_some_and(|pid| {
                // Who may not be sent a signal is there.
                test_kill_process_group(pid) != Err(Errno::SRCH)
            })
    }

    /// Sends a signal to the command and to all that it has started, as far as they are known.
    ///
    /// # Errors
    /// If we may not: it runs for another user, as under `sudo`. That it has ended is none.
    pub(crate) fn send_to_all(&self, signal: Signal) -> io::Result<()> {
        match self.pid {
            // The number stays the group's as long as anybody is in it.
            Some(pid) if self.own_group => sent(kill_process_group(pid, signal)),
            _ => self.send(signal),
        }
    }
}

/// The status of a shell for a command that cannot be run, and why.
fn cannot_run(program: &OsStr, error: &io::Error) -> (u8, String) {
    let status = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    let what = format!("cannot run {}: {error}", program.to_string_lossy());
    (status, what)
}

/// A command that gets SIGTERM when we end in whatever way, SIGKILL included: from then on nobody
/// keeps its lock.
///
/// Only the process that is to be ended can ask the kernel for that. So it starts as this program,
/// which asks and then becomes the command.
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

/// The first argument of the process that is to become the command; then come the process id of its
/// parent, and the command.
pub(crate) const BECOME: &str = "--become";

/// Becomes the command. Returns the exit status if that fails.
pub(crate) fn become_command(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    let parent = arguments.next().and_then(|id| id.to_str()?.parse().ok());
    let Some((parent, program)) = parent.zip(arguments.next()) else {
        crate::complain("nothing to become");
        return crate::USAGE;
    };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        crate::complain(&format!("the command will not end with locktopus: {error}"));
    }
    // It may have ended before we had asked.
    if getppid() != Pid::from_raw(parent) {
        return status_of_signal(Signal::TERM.as_raw());
    }
    let error = std::process::Command::new(&program).args(arguments).exec();
    let (status, what) = cannot_run(&program, &error);
    crate::complain(&what);
    status
}

/// Whether a signal is to end who gets it. The others are for the command alone: what it has started may not
/// know them, and would end.
fn ends(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal)
}

/// It may have ended in this moment.
fn sent(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a shell would call the end of a command.
pub(crate) fn status_of(end: ExitStatus) -> u8 {
    match (end.code(), end.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => status_of_signal(signal),
        (None, None) => u8::MAX,
    }
}

/// Stops us, as SIGTSTP does where nobody listens for it. This may return before we are stopped, so what is
/// to be done afterwards waits for SIGCONT.
pub(crate) fn stop_ourselves() {
    // We may always send a signal to ourselves.
    let _ = kill_process(getpid(), Signal::STOP);
}

/// Whether a terminal controls us: we are the job in its foreground, or one of the standard streams is
/// that terminal. A pipeline has its own streams and is in the foreground all the same.
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
