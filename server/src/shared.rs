//! The state that the requests and connections of a server share.

use crate::config::Config;
use crate::locks::{Journal, Namespaces};
use crate::metrics::Metrics;
use crate::shares::Shares;
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
    /// Cancelled when all locks are released after a shutdown; connections are closed then.
    pub(crate) closing: CancellationToken,
    /// The tasks of connections: a server that shuts down waits for them for a moment.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: Config, last_token: u64) -> Shared {
        let metrics = Arc::new(Metrics::new());
        let journal = Journal {
            metrics: Arc::clone(&metrics),
            log_locks: config.log_locks,
        };
        Shared {
            shares: Shares::new(&config, &metrics),
            metrics,
            namespaces: Namespaces::new(last_token, config.max_namespaces, journal),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        }
    }
}
