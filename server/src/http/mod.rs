//! The HTTP side: accepts sockets, answers requests, and hands upgraded connections to `ws`.

mod accept;
mod access;
mod answers;
mod pages;
pub mod query;
mod routes;

pub(crate) use accept::accept;

use crate::secrets::Secrets;
use crate::shared::Shared;
use access::Access;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::time::Instant;

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
}

impl Site {
    pub(crate) fn new(shared: Arc<Shared>, secrets: Secrets, address: SocketAddr) -> Site {
        let origins = shared.config.allow_origin.clone();
        Site {
            access: Access::new(secrets.clone(), origins, address),
            last_connection: AtomicU64::new(0),
            started: Instant::now(),
            shared,
            secrets,
            address,
        }
    }
}
