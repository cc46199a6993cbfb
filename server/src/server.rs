//! The life of a server: serve, shut down, wait for the locks, close the connections.

use crate::config::Config;
use crate::http::{self, Site};
use crate::polls::measured;
use crate::secrets::Secrets;
use crate::shared::Shared;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tracing::info;

/// How long all connections together may take for their close handshakes at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until `shutdown` resolves and, after that, until no lock is held or waited for.
///
/// After `shutdown` resolves, the server accepts no new connections and no new locks; clients can release their locks.
///
/// # Errors
/// If the listener has no address, or a file that the configuration names cannot be used.
///
/// # Cancel safety
/// Dropping the future stops accepting; open connections continue in their tasks until the runtime ends.
///
/// # Examples
/// ```no_run
/// use locktopus_server::{Config, run};
///
/// # async fn serve() -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9009").await?;
/// let interrupted = async {
///     let _ = tokio::signal::ctrl_c().await;
/// };
/// run(listener, Config::default(), interrupted).await
/// # }
/// ```
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let secrets = Secrets::load(&config).map_err(io::Error::other)?;
    run_with_secrets(listener, config, secrets, shutdown).await
}

/// As [`run`], with secrets of which the caller keeps a clone, to [reload](Secrets::reload) them while the server runs.
///
/// # Errors
/// If the listener has no address.
pub async fn run_with_secrets(
    listener: TcpListener,
    config: Config,
    secrets: Secrets,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = Arc::new(Shared::start(config, first_token()));
    let site = Site::new(Arc::clone(&shared), secrets, listener.local_addr()?);
    site.log_start();
    let interval = shared.config.stats_interval;
    if !interval.is_zero() {
        let logging = log_statistics(Arc::clone(&shared), interval);
        shared.spawn(logging);
    }
    let accepting = http::accept(Arc::new(site), &listener);
    let mut accepting = pin!(measured(&shared.metrics, accepting));
    tokio::select! {
        () = shutdown => {}
        () = &mut accepting => {}
    }
    info!("shutting down: no new connections and locks; waiting until all locks are released");
    let closing = measured(&shared.metrics, shared.namespaces.close());
    // Accepting goes on: upgrades are refused with the reason, and the pages still list the locks.
    tokio::select! {
        () = closing => {}
        () = &mut accepting => {}
    }
    shared.closing.cancel();
    shared.tasks.close();
    // The server does not wait longer for peers that do not read their close frames.
    let _ = timeout(CLOSE_TIMEOUT, shared.tasks.wait()).await;
    info!("all locks are released");
    Ok(())
}

/// Tokens start at the microseconds since 1970, so that they rise across restarts: fencing relies on that. This fails
/// if the machine's clock is set back, or if the server granted more than a million locks per second on average.
fn first_token() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0))
}

async fn log_statistics(shared: Arc<Shared>, interval: Duration) {
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = sleep(interval) => shared.metrics.log(&shared.namespaces.totals()),
        }
    }
}
