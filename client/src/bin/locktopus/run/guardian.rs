//! The guardian: a small process between `locktopus run` and the command, which ends the command when `locktopus` is
//! killed.
//!
//! ```text
//! locktopus run ──socket──► guardian ──► command ──► …
//!                              ▲ adopts every process below it whose parent ends
//!   order: the command, its standard input      report: started, failed, ended
//!   end of the socket: SIGTERM … SIGKILL to all that the command has started
//! ```
//!
//! # Invariants
//! G1. The guardian is started before the lock is requested, from the running program. Later the file may be replaced.
//! G2. Only `locktopus run` has the other end of the socket, so the socket ends when that process does.
//! G3. The guardian survives all signals that are for the command's group or the job. If it was stopped, the end of
//!     `locktopus run` continues it.
//! G4. The guardian ends with `locktopus run`, or once all that the command has started has ended, or has received
//!     SIGKILL and does not end.
//! G5. The command is not started after the end of `locktopus run`.

use super::child::status_of;
use super::family::Family;
use super::signals;
use crate::output::{USAGE, complain};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, WaitOptions, getpid, wait};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal as Received, SignalKind, signal};

/// The first argument of a guardian.
pub(crate) const GUARD: &str = "--guard";

/// The length of an order, before the order itself.
const LENGTH_BYTES: usize = size_of::<u64>();

/// What the guardian runs.
pub(crate) struct Order {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    pub(crate) token: String,
    pub(crate) resources: String,
    /// Whether the command gets a process group of its own.
    pub(crate) own_group: bool,
    /// The time between SIGTERM and SIGKILL when `locktopus` is killed.
    pub(crate) grace: Duration,
}

impl Order {
    /// Sends the order, and with it our standard input: that of the guardian is the socket. `control` must be writable.
    ///
    /// # Errors
    /// If the guardian has ended, or if the socket is full: an order goes into an empty socket.
    pub(crate) fn announce(&self, control: impl std::os::fd::AsFd) -> io::Result<Vec<u8>> {
        let grace_ms = self.grace.as_millis().to_string();
        let own_group = if self.own_group { "1" } else { "" };
        let first = [&grace_ms, own_group, &self.token, &self.resources];
        let first = first.map(OsStr::new).into_iter();
        let mut order = vec![];
        for text in first.chain(self.command.iter().map(|text| &**text)) {
            // No argument of a process has a zero byte in it.
            order.extend(text.as_bytes());
            order.push(0);
        }
        let length = (order.len() as u64).to_ne_bytes();
        let stdin = io::stdin();
        let descriptors = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(
            control,
            &[IoSlice::new(&length)],
            &mut message,
            SendFlags::empty(),
        )?;
        match sent {
            LENGTH_BYTES => Ok(order),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Waits for the order. `None` if there will be none, or if `locktopus run` has ended since: the lock may be lost.
    /// From then on the socket is not blocking.
    fn receive(control: &UnixStream) -> io::Result<Option<(Order, OwnedFd)>> {
        let mut length = [0; LENGTH_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut length)];
        let received = loop {
            match recvmsg(control, buffers, &mut message, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                received => break received?,
            }
        };
        if received.bytes != LENGTH_BYTES {
            return Ok(None);
        }
        let stdin = message.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let length = u64::from_ne_bytes(length);
        let mut order = vec![];
        control.take(length).read_to_end(&mut order)?;
        if order.len() as u64 != length {
            // `locktopus run` was killed while it wrote.
            return Ok(None);
        }
        control.set_nonblocking(true)?;
        let after = (&mut &*control).read(&mut [0]);
        if !after.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return Ok(None);
        }
        let mut texts = order
            .split(|byte| *byte == 0)
            .map(|text| OsString::from_vec(text.to_vec()));
        let mut next = || texts.next().ok_or(io::ErrorKind::InvalidData);
        let mut text = || {
            next()?
                .into_string()
                .map_err(|_| io::ErrorKind::InvalidData)
        };
        let grace_ms = text()?.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        let own_group = !text()?.is_empty();
        let (token, resources) = (text()?, text()?);
        let mut command: Vec<OsString> = texts.collect();
        // The text after the last zero byte.
        command.pop();
        let order = Order {
            command,
            token,
            resources,
            own_group,
            grace: Duration::from_millis(grace_ms),
        };
        Ok(stdin.map(|stdin| (order, stdin)))
    }

    fn spawn(&self, stdin: OwnedFd) -> io::Result<std::process::Child> {
        let again = stdin.try_clone()?;
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        match self.prepare(program, stdin).args(arguments).spawn() {
            // A script without an interpreter line, which `execvp` would give to the shell. Only a name without a slash
            // is searched for, and started by `execvp`.
            Err(error)
                if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())
                    && program.as_bytes().contains(&b'/') =>
            {
                let mut shell = self.prepare(OsStr::new("/bin/sh"), again);
                shell.args(&self.command).spawn()
            }
            spawned => spawned,
        }
    }

    fn prepare(&self, program: &OsStr, stdin: OwnedFd) -> Command {
        let mut command = Command::new(program);
        command
            .env("LOCKTOPUS_TOKEN", &self.token)
            .env("LOCKTOPUS_RESOURCES", &self.resources)
            .stdin(Stdio::from(stdin));
        if let Some(path) = std::env::var_os("PATH") {
            // With a PATH that is set here, the standard library starts a name without a slash by `execvp`.
            command.env("PATH", path);
        }
        if self.own_group {
            command.process_group(0);
        }
        command
    }
}

/// What the guardian reports, each on a line of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The command runs, as this process.
    Started(Pid),
    /// The command cannot be run: the exit status that a shell gives, and the reason.
    Failed(u8, String),
    /// The command has ended: the exit status that a shell gives.
    Ended(u8),
}

impl Report {
    fn write(&self) -> String {
        match self {
            Report::Started(pid) => format!("started {}\n", pid.as_raw_nonzero()),
            Report::Failed(status, reason) => {
                format!("failed {status} {}\n", reason.replace('\n', " "))
            }
            Report::Ended(status) => format!("ended {status}\n"),
        }
    }

    pub(crate) fn read(line: &str) -> Option<Report> {
        let (kind, rest) = line.split_once(' ')?;
        Some(match kind {
            "started" => Report::Started(Pid::from_raw(rest.parse().ok()?)?),
            "failed" => {
                let (status, reason) = rest.split_once(' ')?;
                Report::Failed(status.parse().ok()?, reason.to_owned())
            }
            "ended" => Report::Ended(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// Acts as the guardian. Returns its exit status.
pub(crate) fn guard() -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("{GUARD} is internal; see --help: {error}"));
            USAGE
        }
    }
}

async fn serve() -> io::Result<()> {
    // G3: the process has these handlers for the rest of its life.
    signals::survive()?;
    let ended = signal(SignalKind::child())?;
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::CONT))?;
        rustix::process::set_child_subreaper(Some(getpid()))?;
    }
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Some((order, stdin)) = Order::receive(&control)? else {
        return Ok(());
    };
    let command = match order.spawn(stdin) {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(error) => {
            let status = match error.kind() {
                io::ErrorKind::NotFound => 127,
                _ => 126,
            };
            let program = order
                .command
                .first()
                .map(|program| program.to_string_lossy());
            let reason = format!("cannot run {}: {error}", program.unwrap_or_default());
            report(&control, &Report::Failed(status, reason));
            None
        }
    };
    let Some(command) = command else {
        return Ok(());
    };
    report(&control, &Report::Started(command));
    let family = Family {
        root: getpid(),
        command: Some(command),
        own_group: order.own_group,
        with_job: false,
    };
    // If we cannot watch, the command must not run on without a guardian.
    let watched = watch(control, ended, &family).await;
    end(&family, order.grace).await;
    watched
}

/// Reports the end of the command. Returns when `locktopus run` has ended.
async fn watch(control: UnixStream, mut ended: Received, family: &Family) -> io::Result<()> {
    let mut reports = control.try_clone()?;
    let mut control = tokio::net::UnixStream::from_std(control)?;
    loop {
        tokio::select! {
            // G2: nothing comes after the order but the end.
            _ = control.read_u8() => return Ok(()),
            _ = ended.recv() => {
                if let Some(status) = reap(family) {
                    let line = Report::Ended(status_of(status)).write();
                    // If `locktopus run` has ended, that shows at the next turn.
                    let _ = reports.write_all(line.as_bytes());
                }
            }
        }
    }
}

/// Ends all that the command has started.
async fn end(family: &Family, grace: Duration) {
    /// How often to check whether all have ended.
    const INTERVAL: Duration = Duration::from_millis(20);
    /// How long processes may take to end after SIGKILL. Those of another user may stay.
    const LONGEST: Duration = Duration::from_secs(5);
    let kill_at = Instant::now() + grace;
    // An error cannot be reported any more: `locktopus run` has ended, and a terminal could stop a write.
    let _ = family.signal(Signal::TERM);
    // A stopped process would not receive SIGTERM.
    let _ = family.signal(Signal::CONT);
    while is_left(family) {
        let now = Instant::now();
        if now >= kill_at {
            let _ = family.kill();
        }
        if now >= kill_at + LONGEST {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether a process of the family is left. A list of processes can miss one that moves meanwhile; but as long as one
/// is left, a subreaper has a child.
fn is_left(family: &Family) -> bool {
    reap(family);
    !matches!(wait(WaitOptions::NOHANG), Err(Errno::CHILD)) || family.lives()
}

/// Takes the exit statuses of the processes that have ended: of the command, and of adopted ones.
fn reap(family: &Family) -> Option<ExitStatus> {
    let mut status = None;
    while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == family.command {
            status = Some(ExitStatus::from_raw(ended.as_raw()));
        }
    }
    status
}

fn report(mut control: &UnixStream, report: &Report) {
    // If `locktopus run` has ended, the report is of no use.
    let _ = control.write_all(report.write().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    /// Not by a drop: a process that another test starts at this moment may still have a copy of the socket.
    fn end(ours: &UnixStream) {
        ours.shutdown(Shutdown::Both).expect("open");
    }

    #[test]
    fn an_order_reaches_the_guardian_byte_by_byte() {
        for command in [&[&b"sh"[..]][..], &[b"sh", b"", b"\xff\n", b"a b", b""]] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let texts = command.iter().map(|text| OsString::from_vec(text.to_vec()));
            let sent = Order {
                command: texts.collect(),
                token: "17".to_owned(),
                resources: "[]".to_owned(),
                own_group: true,
                grace: Duration::from_millis(1500),
            };
            let rest = sent.announce(&ours).expect("sent");
            (&ours).write_all(&rest).expect("sent");
            let (order, _stdin) = Order::receive(&theirs).expect("open").expect("an order");
            assert_eq!(order.command, sent.command);
            assert_eq!((order.token, order.resources), (sent.token, sent.resources));
            assert_eq!((order.own_group, order.grace), (sent.own_group, sent.grace));
            end(&ours);
            assert!(Order::receive(&theirs).expect("closed").is_none());
        }
    }

    /// A guardian that was slow, or stopped, once started the command after the end of `locktopus run`.
    #[test]
    fn an_order_of_an_ended_process_is_not_carried_out() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let order = Order {
            command: vec!["true".into()],
            token: "17".to_owned(),
            resources: "[]".to_owned(),
            own_group: true,
            grace: Duration::ZERO,
        };
        let rest = order.announce(&ours).expect("sent");
        (&ours).write_all(&rest).expect("sent");
        end(&ours);
        assert!(Order::receive(&theirs).expect("closed").is_none());
    }

    #[test]
    fn a_report_is_one_line() {
        let pid = Pid::from_raw(17).expect("a process");
        for report in [
            Report::Started(pid),
            Report::Failed(127, "cannot run a b: not found".to_owned()),
            Report::Ended(0),
        ] {
            let line = report.write();
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            assert_eq!(Report::read(line.trim_end()), Some(report));
        }
        for line in [
            "",
            "started",
            "started 0",
            "ended 256",
            "failed 1",
            "other 1",
        ] {
            assert_eq!(Report::read(line), None, "{line}");
        }
        let report = Report::Failed(126, "a\nb".to_owned());
        assert_eq!(report.write(), "failed 126 a b\n");
    }
}
