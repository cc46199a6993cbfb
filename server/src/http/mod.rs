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
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many lists of locks are made at the same time.
const LISTINGS: usize = 4;

/// The state that the requests of a server share.
#[derive(Debug)]
pub(crate) struct Site {
    shared: Arc<Shared>,
    secrets: Secrets,
    access: Access,
    /// The address that the server listens on.
    address: SocketAddr,
    started: Instant,
    /// One permit for each connection that may be open or have left a lock behind.
    places: Arc<Semaphore>,
    /// One permit for each list of locks that may be made at the same time.
    listings: Arc<Semaphore>,
    last_connection: AtomicU64,
}

impl Site {
    pub(crate) fn new(shared: Arc<Shared>, secrets: Secrets, address: SocketAddr) -> Site {
        let origins = shared.config.allow_origin.clone();
        Site {
            access: Access::new(secrets.clone(), origins, address),
            listings: Arc::new(Semaphore::new(LISTINGS)),
            places: Arc::new(Semaphore::new(shared.config.max_connections)),
            last_connection: AtomicU64::new(0),
            started: Instant::now(),
            shared,
            secrets,
            address,
        }
    }
}
