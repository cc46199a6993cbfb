//! The signals that come to us, for the command or for ourselves.

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

/// The signals of job control. They come to us only where they do not come to the command: see
/// `own_group` in `Running`.
const JOB_CONTROL: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// The signals that came to us.
pub(crate) struct Signals {
    sender: mpsc::UnboundedSender<Signal>,
    receiver: mpsc::UnboundedReceiver<Signal>,
    /// Those that were ignored when we were started.
    ignored: Vec<Signal>,
}

impl Signals {
    /// From now on they come here, and do not end us.
    pub(crate) fn new() -> io::Result<Signals> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let signals = Signals {
            sender,
            receiver,
            ignored: ignored(),
        };
        signals.listen(&PASSED_ON)?;
        // Whoever started us may ignore it, and then the system forgets how the command ended before we
        // can ask. To listen for it once is enough.
        let _ = signal(SignalKind::child())?;
        Ok(signals)
    }

    /// From now on SIGTSTP and SIGCONT come here, too.
    pub(crate) fn take_job_control(&self) -> io::Result<()> {
        self.listen(&JOB_CONTROL)
    }

    fn listen(&self, signals: &[Signal]) -> io::Result<()> {
        for &listened in signals {
            // Whoever started us wants it so, as `nohup` does, and wants it for the command, which
            // would inherit our listening as the default.
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

/// The signals that are ignored now, as far as the system says so.
fn ignored() -> Vec<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    let is_ignored = |signal: &Signal| mask >> (signal.as_raw() - 1) & 1 == 1;
    let known = PASSED_ON.into_iter().chain(JOB_CONTROL);
    known.filter(is_ignored).collect()
}
