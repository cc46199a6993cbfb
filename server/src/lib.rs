//! Locktopus, the lock service: a thin WebSocket front-end for [`locktopus_engine`].
//!
//! ```text
//! main ──► config ──► flags, secrets
//!   └────► run ──► accept ──► http ──► connection ──► session     (the protocol, pure)
//!                              │           ├────────► heartbeat   (pure)
//!                              ├── access  └── wire ──► stream
//!                              └── listing
//!          http, connection, listing ──► namespaces ──► clients
//! ```

mod accept;
mod access;
mod answers;
mod body;
mod clients;
mod config;
mod connection;
mod error;
mod flags;
mod heartbeat;
mod http;
mod limits;
mod listing;
mod metrics;
mod namespaces;
pub mod query;
mod secrets;
pub mod session;
mod stream;
mod wire;

pub use config::{Command, Config, Limits, parse};
pub use error::ConfigError;
pub use flags::LogFormat;
pub use secrets::Secrets;

use access::Access;
use locktopus_engine::{Path, Resource};
use locktopus_protocol as protocol;
use metrics::Metrics;
use namespaces::Namespaces;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

/// How long connections may take to say goodbye when the server is done.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many answers that may be long are made or sent at the same time.
const LONG_ANSWERS: usize = 4;

/// What all connections share.
struct Server {
    config: Config,
    address: SocketAddr,
    started: Instant,
    access: Access,
    namespaces: Namespaces,
    metrics: Metrics,
    /// One for each connection that may be open, or have left a lock behind.
    places: Arc<Semaphore>,
    /// One for each answer that may be long and is under way.
    long_answers: Arc<Semaphore>,
    last_connection: AtomicU64,
    /// Cancelled when all locks are released after a shutdown.
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    fn new(config: Config, address: SocketAddr) -> Server {
        let limits = &config.limits;
        let (secrets, origins) = (config.secrets.clone(), config.allow_origins.clone());
        Server {
            address,
            started: Instant::now(),
            access: Access::new(secrets, origins, address),
            namespaces: Namespaces::new(token_of_now(), limits.namespaces),
            metrics: Metrics::new(),
            places: Arc::new(Semaphore::new(limits.connections)),
            long_answers: Arc::new(Semaphore::new(LONG_ANSWERS)),
            last_connection: AtomicU64::new(0),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        }
    }
}

/// Serves until `shutdown` resolves and, after that, until no lock is held or waited for.
///
/// From then on there are no new connections and no new locks; existing locks may be released.
///
/// # Errors
/// If the listener has no address.
///
/// # Cancel safety
/// Dropping the future stops accepting; connections go on in their tasks until the runtime ends.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Arc::new(Server::new(config, listener.local_addr()?));
    if let Some(interval) = server.config.stats_interval {
        server
            .tasks
            .spawn(log_statistics(Arc::clone(&server), interval));
    }
    let mut accepting = pin!(accept::accept(&server, &listener));
    tokio::select! {
        () = shutdown => {}
        () = &mut accepting => {}
    }
    info!("shutting down: no new connections and locks; waiting until all locks are released");
    server.namespaces.close();
    // Upgrades are refused from now on; the pages still tell who holds what.
    tokio::select! {
        () = server.namespaces.drained() => {}
        () = &mut accepting => {}
    }
    server.closing.cancel();
    server.tasks.close();
    // A peer that does not take its goodbye is left behind.
    let _ = timeout(GOODBYE_TIMEOUT, server.tasks.wait()).await;
    info!("all locks are released");
    Ok(())
}

/// Tokens start at the microseconds since 1970, so that they go on growing across restarts, as
/// whoever fences with them relies on, unless the machine's clock is set back or a million locks a
/// second were taken all the time.
fn token_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0))
}

async fn log_statistics(server: Arc<Server>, interval: Duration) {
    loop {
        tokio::select! {
            () = server.closing.cancelled() => return,
            () = sleep(interval) => server.metrics.log(&server),
        }
    }
}

/// The engine's form of a resource from the wire.
fn engine_resource(resource: protocol::Resource) -> Resource {
    let path = Path::from(resource.path);
    match resource.mode {
        protocol::Mode::Read => Resource::read(path),
        protocol::Mode::Write => Resource::write(path),
    }
}
