//! Accepts sockets and serves HTTP on each, over TLS if the server has a certificate.

use super::Site;
use super::routes;
use crate::shares::{Party, Refused};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How many sockets are refused with an answer at one time; further ones are closed at once.
const MAX_REFUSALS: usize = 100;
/// How long such an answer may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
///
/// The longest place of a list of locks has 22 KiB: the longest path, in base64url.
const HEADER_BYTES: usize = 32 * 1024;
/// How long to wait after a failed accept: if no file descriptors are left, for example, the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts sockets until it is dropped.
///
/// The number of sockets that wait for an upgrade or ask for pages is limited to `max_connections`, of which each
/// address has a share. Further sockets are refused at once.
pub(crate) async fn accept(site: Arc<Site>, listener: &TcpListener) {
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut accepting = true;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                accepting = true;
                // Messages are small, and the peer waits for each.
                let _ = stream.set_nodelay(true);
                let party = Party::of_address(address.ip());
                let place = match site.shared.shares.sockets.try_take(party, 1) {
                    Ok(place) => place,
                    Err(refused) => {
                        site.shared.metrics.refused.inc();
                        let plain = site.secrets.acceptor().is_none();
                        if plain && let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                            site.shared.spawn(async move {
                                refuse(stream, refused).await;
                                drop(permit);
                            });
                        }
                        continue;
                    }
                };
                let site = Arc::clone(&site);
                site.clone().shared.spawn(async move {
                    serve(site, stream, address).await;
                    drop(place);
                });
            }
            Err(error) => {
                if accepting {
                    warn!(%error, "cannot accept connections at the moment");
                }
                accepting = false;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers without reading a request. Then reads on for a moment: closing a socket with unread bytes resets it, and
/// the peer might never see the answer.
async fn refuse(mut stream: TcpStream, refused: Refused) {
    let sentence = match refused {
        Refused::Full { .. } => "too many connections\n",
        Refused::OverShare { .. } => "too many connections from this address\n",
    };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{sentence}",
        sentence.len()
    );
    let refusal = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut dropped = [0; 1024];
        while stream.read(&mut dropped).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let _ = timeout(REFUSAL_TIMEOUT, refusal).await;
}

/// Serves the requests of one socket, until it becomes a WebSocket or is closed.
async fn serve(site: Arc<Site>, stream: TcpStream, address: SocketAddr) {
    let Some(acceptor) = site.secrets.acceptor() else {
        return serve_http(site, stream, address).await;
    };
    // A failed handshake is an error of the peer alone.
    let limit = site.shared.config.handshake_timeout;
    if let Ok(Ok(stream)) = timeout(limit, acceptor.accept(stream)).await {
        serve_http(site, stream, address).await;
    }
}

async fn serve_http(
    site: Arc<Site>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
) {
    let Site { shared, .. } = &*site;
    // Closes the connection if its client is too slow for a long answer.
    let cut = CancellationToken::new();
    let service = service_fn(|request| {
        let (site, cut) = (&site, &cut);
        async move { Ok::<_, Infallible>(routes::respond(site, address, cut, request).await) }
    });
    // A peer that does not read its answer is cut off. WebSockets use the send timeout itself; with twice that time
    // here, their own tasks notice such a peer first.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(shared.config.send_timeout() * 2));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.config.handshake_timeout)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades()
    );
    // An error here concerns only this peer.
    tokio::select! {
        _ = &mut connection => {}
        () = cut.cancelled() => {}
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
