//! What lies between a connection's task and who uses the connection: the handle by which it is told what
//! to do, the stages of a request that it tells, and the lease, which gives the connection back.

use crate::error::Error;
use crate::pulse::Pulse;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::protocol::Message;

/// What the task is told.
pub(crate) enum Command {
    /// Ask for a lock with this frame, and tell through `stage` what becomes of it.
    Lock {
        frame: Message,
        stage: watch::Sender<Stage>,
    },
    /// Ask whether the server is there now, and answer when it has answered.
    Confirm { done: oneshot::Sender<()> },
    /// Release or withdraw; then put the handle into the pool, and answer to whoever waits.
    Release {
        handle: Handle,
        done: Option<oneshot::Sender<Result<(), Error>>>,
    },
}

/// What has become of a request for a lock.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// The server has not answered yet.
    Asked,
    /// The connection had ended before the request was written.
    NotSent(Error),
    /// It waits in line.
    Enqueued(Arc<str>),
    /// It is granted.
    Acquired(Arc<str>),
    /// The connection has ended.
    Ended(Lost),
}

/// The way to a connection's task. When it is dropped the connection is closed.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) pulse: Arc<Pulse>,
}

/// A connection that is lent out for one lock. Dropping it releases or withdraws.
pub(crate) struct Lease {
    handle: Option<Handle>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stage: watch::Receiver<Stage>,
}

impl Lease {
    /// Asks for a lock on this connection.
    pub(crate) fn new(handle: Handle, frame: Message) -> Lease {
        let (sender, stage) = watch::channel(Stage::Asked);
        let pulse = Arc::clone(&handle.pulse);
        let command = Command::Lock {
            frame,
            stage: sender,
        };
        if let Err(unsent) = handle.commands.send(command)
            && let Command::Lock { stage, .. } = unsent.0
        {
            stage.send_replace(Stage::NotSent(gone()));
        }
        Lease {
            handle: Some(handle),
            pulse,
            stage,
        }
    }

    /// Waits for a stage that is such.
    pub(crate) async fn reaches(&mut self, such: impl FnMut(&Stage) -> bool) -> Stage {
        match self.stage.wait_for(such).await {
            Ok(stage) => stage.clone(),
            // The task is gone without a word: its runtime is shut down.
            Err(_) => Stage::Ended(Lost::new(gone(), self.pulse.deadline())),
        }
    }

    /// Returns once the server has answered what is asked now, so that the deadline has moved on.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        if let Some(handle) = &self.handle {
            // If the task is gone it does not answer, and has told why.
            let _ = handle.commands.send(Command::Confirm { done });
        }
        answer.await.map_err(|_| self.why_gone())
    }

    fn why_gone(&self) -> Error {
        match &*self.stage.borrow() {
            Stage::Ended(lost) => lost.reason.clone(),
            _ => gone(),
        }
    }

    /// Releases or withdraws, once; the task does it.
    fn give_back(&mut self, done: Option<oneshot::Sender<Result<(), Error>>>) {
        if let Some(handle) = self.handle.take() {
            let commands = handle.commands.clone();
            // If the task is gone there is nothing to be released by us.
            let _ = commands.send(Command::Release { handle, done });
        }
    }

    pub(crate) async fn release(mut self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.give_back(Some(done));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.why_gone()),
        }
    }

    /// How the connection ended; never, if it is given back before.
    pub(crate) fn lost(&self) -> impl Future<Output = Lost> + Send + 'static + use<> {
        let mut stage = self.stage.clone();
        async move {
            let ended = |stage: &Stage| matches!(stage, Stage::Ended(_));
            if let Ok(stage) = stage.wait_for(ended).await
                && let Stage::Ended(lost) = &*stage
            {
                return lost.clone();
            }
            // The lock is released, and so it is not lost any more.
            std::future::pending().await
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

pub(crate) fn gone() -> Error {
    Error::Closed("it has ended before".to_owned())
}

/// How a lock was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    reason: Error,
    deadline: Instant,
}

impl Lost {
    pub(crate) fn new(reason: Error, deadline: Instant) -> Lost {
        Lost { reason, deadline }
    }

    /// What became of the connection. [`Error::Refused`] says that the server has taken the lock.
    #[must_use]
    pub fn reason(&self) -> &Error {
        &self.reason
    }

    /// The moment before which nobody else gets the lock, as [`Guard::lost`](crate::Guard::lost) explains it.
    ///
    /// It is the abandon timeout after we last *sent* something that the server has answered, so
    /// that it holds however slow the network is.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left of the time until the deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
