//! The link between a connection's task and the user of the connection: the handle that sends commands to the task, the
//! stages of a request that the task reports, and the checkout, which gives the connection back.

use crate::error::Error;
use crate::keepalive::Keepalive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::protocol::Message;

/// A command to the task of a connection.
pub(crate) enum Command {
    /// Send this request for a lock, and report its progress through `stage`.
    Lock {
        frame: Message,
        stage: watch::Sender<Stage>,
    },
    /// Ping the server, and answer once it has answered.
    Confirm { done: oneshot::Sender<()> },
    /// Release the lock or withdraw the request; then put the handle into the pool, and answer.
    Release {
        handle: Handle,
        done: Option<oneshot::Sender<Result<(), Error>>>,
    },
}

/// The progress of a request for a lock.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// The server has not answered yet.
    Requested,
    /// The connection had ended before the request was written.
    NotSent(Error),
    /// The request waits in line.
    Enqueued(Arc<str>),
    /// The lock is granted.
    Acquired(Arc<str>),
    /// The connection has ended.
    Ended(Lost),
}

/// Sends commands to a connection's task. The connection is closed when the handle is dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) keepalive: Arc<Keepalive>,
}

/// A connection that is checked out of the pool for one lock. Dropping it releases the lock or withdraws the request.
pub(crate) struct Checkout {
    handle: Option<Handle>,
    pub(crate) keepalive: Arc<Keepalive>,
    pub(crate) stage: watch::Receiver<Stage>,
}

impl Checkout {
    /// Requests a lock on this connection.
    pub(crate) fn new(handle: Handle, frame: Message) -> Checkout {
        let (sender, stage) = watch::channel(Stage::Requested);
        let keepalive = Arc::clone(&handle.keepalive);
        let command = Command::Lock {
            frame,
            stage: sender,
        };
        if let Err(unsent) = handle.commands.send(command)
            && let Command::Lock { stage, .. } = unsent.0
        {
            stage.send_replace(Stage::NotSent(ended_before()));
        }
        Checkout {
            handle: Some(handle),
            keepalive,
            stage,
        }
    }

    /// Waits for a stage that satisfies the condition.
    pub(crate) async fn reaches(&mut self, condition: impl FnMut(&Stage) -> bool) -> Stage {
        match self.stage.wait_for(condition).await {
            Ok(stage) => stage.clone(),
            // The task has ended without a report: its runtime was shut down.
            Err(_) => Stage::Ended(Lost::new(ended_before(), self.keepalive.deadline())),
        }
    }

    /// Returns once the server has answered a ping that is sent now, so that the deadline has moved on.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let asked = self.asker().ask().await;
        asked.map_err(|_| self.reason())
    }

    /// Asks the server without a borrow of the checkout.
    pub(crate) fn asker(&self) -> Asker {
        Asker(
            self.handle
                .as_ref()
                .map(|handle| handle.commands.downgrade()),
        )
    }

    fn reason(&self) -> Error {
        match &*self.stage.borrow() {
            Stage::Ended(lost) => lost.reason.clone(),
            _ => ended_before(),
        }
    }

    /// Lets the task release the lock or withdraw the request, once.
    fn give_back(&mut self, done: Option<oneshot::Sender<Result<(), Error>>>) {
        if let Some(handle) = self.handle.take() {
            let commands = handle.commands.clone();
            // If the task has ended, no lock is left to release.
            let _ = commands.send(Command::Release { handle, done });
        }
    }

    pub(crate) async fn release(mut self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.give_back(Some(done));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.reason()),
        }
    }

    /// Resolves when the connection ends. It never resolves if the connection is given back before.
    pub(crate) fn lost(&self) -> impl Future<Output = Lost> + Send + 'static + use<> {
        let mut stage = self.stage.clone();
        async move {
            let ended = |stage: &Stage| matches!(stage, Stage::Ended(_));
            if let Ok(stage) = stage.wait_for(ended).await
                && let Stage::Ended(lost) = &*stage
            {
                return lost.clone();
            }
            // The lock is released, so it cannot be lost any more.
            std::future::pending().await
        }
    }
}

/// Sends pings on a connection, and does not keep it open.
pub(crate) struct Asker(Option<mpsc::WeakUnboundedSender<Command>>);

impl Asker {
    /// Returns once the server has answered a ping that is sent now; fails if the connection has ended.
    pub(crate) async fn ask(&self) -> Result<(), oneshot::error::RecvError> {
        let (done, answer) = oneshot::channel();
        if let Some(commands) = self.0.as_ref().and_then(|commands| commands.upgrade()) {
            // A task that has ended does not answer, and has reported why.
            let _ = commands.send(Command::Confirm { done });
        }
        answer.await
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

pub(crate) fn ended_before() -> Error {
    Error::Closed("the connection had ended before".into())
}

/// How a lock was lost.
#[derive(Debug, Clone)]
pub struct Lost {
    reason: Error,
    deadline: Instant,
}

impl Lost {
    pub(crate) fn new(reason: Error, deadline: Instant) -> Lost {
        Lost { reason, deadline }
    }

    /// Why the connection ended. [`Error::Revoked`] says that an operator released the lock by force.
    #[must_use]
    pub fn reason(&self) -> &Error {
        &self.reason
    }

    /// The moment before which no other client gets the lock; see [`Guard::lost`](crate::Guard::lost).
    ///
    /// It is the abandon timeout after the moment at which the client last *sent* something that the server has
    /// answered. So it holds however slow the network is.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time that is left until the deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
