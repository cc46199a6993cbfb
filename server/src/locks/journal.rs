//! Where the events of locks are recorded: in the metrics, and in the log if that is wanted.

use super::convert::from_engine;
use super::holder::Client;
use crate::metrics::Metrics;
use locktopus_engine::Resource;
use locktopus_protocol as protocol;
use std::fmt::Write as _;
use std::sync::Arc;
use tracing::info;

/// Where the events of locks are recorded.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log_locks: bool,
}

impl Journal {
    pub(super) fn log(
        &self,
        event: &str,
        client: &Client,
        namespace: &str,
        token: u64,
        resources: &[Resource],
    ) {
        if self.log_locks {
            info!(
                connection = client.id,
                namespace,
                token,
                resources = abbreviate(resources),
                "lock {event}"
            );
        }
    }
}

/// The first resources, shortened: a log that is not read is kept in memory for a while.
fn abbreviate(resources: &[Resource]) -> String {
    const SHOWN: usize = 4;
    const CHARACTERS: usize = 80;
    let mut text = String::new();
    for (index, resource) in resources.iter().take(SHOWN).enumerate() {
        let protocol::Resource { mode, path } = from_engine(resource);
        let mode = match mode {
            protocol::Mode::Read => "read",
            protocol::Mode::Write => "write",
        };
        let path: String = protocol::path::write(path)
            .chars()
            .take(CHARACTERS)
            .collect();
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{mode} {path}");
    }
    if resources.len() > SHOWN {
        let _ = write!(text, " and {} more", resources.len() - SHOWN);
    }
    text
}
