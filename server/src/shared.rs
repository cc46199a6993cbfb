//! The state that the requests and connections of a server share.

use crate::config::Config;
use crate::locks::{Journal, Namespaces};
use crate::metrics::Metrics;
use crate::polls::measured;
use crate::shares::Shares;
use crate::work::Queues;
use std::future::Future;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The state that the requests and connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) namespaces: Namespaces,
    pub(crate) shares: Shares,
    /// The work that is too long for one poll.
    pub(crate) queues: Arc<Queues>,
    /// Cancelled when all locks are released after a shutdown; connections are closed then.
    pub(crate) closing: CancellationToken,
    /// The tasks of connections: a server that shuts down waits for them for a moment.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    /// Starts the queues of work as tasks on the current runtime.
    pub(crate) fn start(config: Config, last_token: u64) -> Shared {
        let metrics = Arc::new(Metrics::new());
        let queues = Arc::new(Queues::start(&metrics));
        let journal = Journal {
            metrics: Arc::clone(&metrics),
            log_locks: config.log_locks,
        };
        Shared {
            shares: Shares::new(&config, &metrics),
            metrics,
            namespaces: Namespaces::new(
                last_token,
                config.max_namespaces,
                journal,
                Arc::clone(&queues),
            ),
            queues,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        }
    }

    /// Spawns a task whose polls are measured, and whose end a server that shuts down awaits for a moment.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(measured(&self.metrics, task));
    }
}
