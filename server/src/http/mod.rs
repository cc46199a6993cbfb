//! The HTTP side: accepts sockets, answers requests, and hands upgraded connections to `ws`.

mod accept;
mod access;
mod answers;
mod listing;
mod long;
mod pages;
pub mod query;
mod revocation;
mod routes;

pub(crate) use accept::accept;

use crate::secrets::Secrets;
use crate::shared::Shared;
use access::Access;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

/// The state that the requests of a server share.
#[derive(Debug)]
pub(crate) struct Site {
    shared: Arc<Shared>,
    secrets: Secrets,
    access: Access,
    /// The address that the server listens on.
    address: SocketAddr,
    started: Instant,
    last_connection: AtomicU64,
    /// One permit: the figures of `/metrics` are made for one request at a time, so that they take one core at most.
    figures: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn new(shared: Arc<Shared>, secrets: Secrets, address: SocketAddr) -> Site {
        let origins = shared.config.allow_origin.clone();
        Site {
            access: Access::new(secrets.clone(), origins, address),
            last_connection: AtomicU64::new(0),
            figures: Arc::new(Semaphore::new(1)),
            started: Instant::now(),
            shared,
            secrets,
            address,
        }
    }

    /// Logs the version, the address, the kind of access and the limits.
    pub(crate) fn log_start(&self) {
        let config = &self.shared.config;
        info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %self.address,
            tls = self.secrets.acceptor().is_some(),
            auth_tokens = self.secrets.are_required(),
            "started"
        );
        info!(
            connections = config.max_connections,
            namespaces = config.max_namespaces,
            share_percent = config.share,
            request_bytes = config.max_request_bytes,
            message_bytes = config.max_message_bytes,
            resources = config.max_resources,
            segments = config.max_segments,
            path_depth = config.max_path_depth,
            path_bytes = config.max_path_bytes,
            wait_seconds = config.max_wait.as_secs_f64(),
            abandon_timeout_ms = config.max_abandon_timeout.as_millis(),
            "limits"
        );
        if self.access.is_open() {
            warn!(
                "every peer on the network can lock and read here: the server requires no auth tokens and does not \
                 listen on loopback only; --auth-token-file or --host 127.0.0.1 prevents it"
            );
        }
    }
}
