//! Locktopus, the lock service: a thin WebSocket front-end for [`locktopus_engine`].
//!
//! ```text
//! main ──► config
//!   └────► run ──► http ──► connection ──► session     (the protocol, pure)
//!                    └──────────┴────────► namespaces  (name ─► LockManager)
//! ```

mod config;
mod connection;
mod http;
mod namespaces;
pub mod query;
pub mod session;
mod stream;

pub use config::{Command, Config, ConfigError, parse};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use locktopus_client::protocol;
use locktopus_engine::{Path, Resource};
use namespaces::Namespaces;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How long a peer may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before accepting again, when there are no file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to say goodbye when the server is done.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections share.
struct Server {
    config: Config,
    address: SocketAddr,
    namespaces: Namespaces,
    last_connection: AtomicU64,
    /// Cancelled when all locks are released after a shutdown.
    closing: CancellationToken,
    tasks: TaskTracker,
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
    let server = Arc::new(Server {
        address: listener.local_addr()?,
        namespaces: Namespaces::new(token_of_now()),
        last_connection: AtomicU64::new(0),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
        config,
    });
    if let Some(interval) = server.config.stats_interval {
        server
            .tasks
            .spawn(log_statistics(Arc::clone(&server), interval));
    }
    let mut shutdown = pin!(shutdown);
    let mut accepting = true;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    accepting = true;
                    server.tasks.spawn(serve(Arc::clone(&server), stream, address));
                }
                Err(error) => {
                    if accepting {
                        warn!(%error, "cannot accept connections for the moment");
                    }
                    accepting = false;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    info!("shutting down: no new connections and locks; waiting until all locks are released");
    server.namespaces.close();
    server.namespaces.drained().await;
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

/// Serves the requests of one connection, until it becomes a WebSocket or is closed.
async fn serve(server: Arc<Server>, stream: TcpStream, address: SocketAddr) {
    // Messages are small and each is waited for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let answer = http::respond(&server, address, request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // What goes wrong with a connection here concerns nobody else.
    tokio::select! {
        _ = &mut connection => {}
        () = server.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn log_statistics(server: Arc<Server>, interval: Duration) {
    loop {
        tokio::select! {
            () = server.closing.cancelled() => return,
            () = sleep(interval) => {}
        }
        let namespaces = server.namespaces.list();
        info!(namespaces = namespaces.len(), "statistics");
        for namespace in namespaces {
            info!("{}", http::summary(&namespace));
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
