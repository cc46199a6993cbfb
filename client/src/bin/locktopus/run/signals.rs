//! The signals that this process receives, for the command or for itself.

use rustix::process::Signal;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The signals that are passed on.
const PASSED_ON: [Signal; 6] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
];

/// The signals of job control. They are received only if they do not reach the command itself; see `own_group` in
/// `Child`.
const JOB_CONTROL: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// The signals that a terminal sends to a job in the background.
const BACKGROUND: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// Lets this process survive the signals that are for the command or for the job. Only SIGKILL ends it then, and only
/// SIGSTOP stops it. In the command they have their default action.
pub(crate) fn survive() -> io::Result<()> {
    let ignored = ignored();
    let all = PASSED_ON.into_iter().chain(JOB_CONTROL).chain(BACKGROUND);
    for survived in all.filter(|signal| !ignored.contains(signal)) {
        // The handler stays when the stream is dropped.
        let _ = signal(SignalKind::from_raw(survived.as_raw()))?;
    }
    Ok(())
}

/// The received signals.
pub(crate) struct Signals {
    sender: mpsc::UnboundedSender<Signal>,
    receiver: mpsc::UnboundedReceiver<Signal>,
    /// The signals that were ignored when this process started.
    ignored: Vec<Signal>,
}

impl Signals {
    /// Receives the signals that are passed on; they do not end this process any more.
    pub(crate) fn new() -> io::Result<Signals> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let signals = Signals {
            sender,
            receiver,
            ignored: ignored(),
        };
        signals.listen(&PASSED_ON)?;
        // The parent may have ignored SIGCHLD, and then the system forgets the status of the command before it can be
        // read. A handler that is set once prevents that.
        let _ = signal(SignalKind::child())?;
        Ok(signals)
    }

    /// Also receives SIGTSTP and SIGCONT from now on.
    pub(crate) fn take_job_control(&self) -> io::Result<()> {
        self.listen(&JOB_CONTROL)
    }

    fn listen(&self, signals: &[Signal]) -> io::Result<()> {
        for &listened in signals {
            // The parent ignores this signal on purpose, as `nohup` does, for the command too. A handler here would
            // become the default action in the command.
            if self.ignored.contains(&listened) {
                continue;
            }
            let mut stream = signal(SignalKind::from_raw(listened.as_raw()))?;
            let sender = self.sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() && sender.send(listened).is_ok() {}
            });
        }
        Ok(())
    }

    pub(crate) async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// The signals that are ignored now. Empty if the system does not report them.
fn ignored() -> Vec<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    let is_ignored = |signal: &Signal| mask >> (signal.as_raw() - 1) & 1 == 1;
    let known = PASSED_ON.into_iter().chain(JOB_CONTROL).chain(BACKGROUND);
    known.filter(is_ignored).collect()
}
