//! Accepts connections, whatever comes, and serves HTTP on each, over TLS if the server has a
//! certificate.

use crate::Server;
use crate::http;
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

/// How many sockets are turned away at one time, and how long each may take.
const DOORSTEP: usize = 100;
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
const HEADER_BYTES: usize = 16 * 1024;
/// How long to wait before accepting again, when there are no file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts for ever.
///
/// Sockets that are not WebSockets yet, on their way in or asking for pages, are as many at most as
/// there may be connections; further ones are turned away at once.
pub(crate) async fn accept(server: &Arc<Server>, listener: &TcpListener) {
    let anteroom = Arc::new(Semaphore::new(server.config.limits.connections));
    let doorstep = Arc::new(Semaphore::new(DOORSTEP));
    let mut accepting = true;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                accepting = true;
                // Messages are small and each is waited for.
                let _ = stream.set_nodelay(true);
                let Ok(place) = Arc::clone(&anteroom).try_acquire_owned() else {
                    server.metrics.refused.inc();
                    let plain = server.config.secrets.acceptor().is_none();
                    // Those who come in even larger crowds are dropped without a word.
                    if plain && let Ok(step) = Arc::clone(&doorstep).try_acquire_owned() {
                        server.tasks.spawn(async move {
                            turn_away(stream).await;
                            drop(step);
                        });
                    }
                    continue;
                };
                let server = Arc::clone(server);
                server.clone().tasks.spawn(async move {
                    serve(server, stream, address).await;
                    drop(place);
                });
            }
            Err(error) => {
                if accepting {
                    warn!(%error, "cannot accept connections for the moment");
                }
                accepting = false;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Says why, and reads on for a moment: a socket that is closed with unread bytes is reset, and the
/// peer may never see what was sent.
async fn turn_away(mut stream: TcpStream) {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\ntoo many connections\n";
    let farewell = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        let mut dropped = [0; 1024];
        while stream.read(&mut dropped).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// Serves the requests of one socket, until it becomes a WebSocket or is closed.
async fn serve(server: Arc<Server>, stream: TcpStream, address: SocketAddr) {
    match server.config.secrets.acceptor() {
        None => serve_http(server, stream, address).await,
        Some(acceptor) => {
            // What goes wrong with a handshake concerns nobody else.
            if let Ok(Ok(stream)) =
                timeout(server.config.limits.handshake, acceptor.accept(stream)).await
            {
                serve_http(server, stream, address).await;
            }
        }
    }
}

async fn serve_http(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
) {
    let slow = CancellationToken::new();
    let service = service_fn(|request| {
        let (server, slow) = (&server, &slow);
        async move { Ok::<_, Infallible>(http::respond(server, address, request, slow).await) }
    });
    // Also a peer that asks for a long answer and does not take it comes to an end. Twice the time, so
    // that a WebSocket that does not take its messages is noticed before, by its own task.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(server.config.send_timeout() * 2));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(server.config.limits.handshake)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades()
    );
    // What goes wrong with a connection here concerns nobody else.
    tokio::select! {
        _ = &mut connection => {}
        () = slow.cancelled() => {}
        () = server.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
