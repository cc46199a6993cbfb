//! A bare WebSocket server: it answers each message with a ready-made text.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The argument that makes the bench serve the echo instead of measuring.
pub(crate) const ARGUMENT: &str = "serve-echo";

const ACQUIRED: &str = r#"{"id":"1795536000000000","action":"lock","state":"acquired"}"#;
const READY: &str = r#"{"id":"1795536000000000","action":"release","state":"ready"}"#;

/// Serves until the process is killed. Prints its address as the server does.
pub(crate) fn serve() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(4))
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("listening on {}", listener.local_addr().expect("bound"));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

/// With the settings of the server's connections.
async fn echo(stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    let config = WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0);
    let Ok(mut websocket) = accept_async_with_config(stream, Some(config)).await else {
        return;
    };
    while let Some(Ok(message)) = websocket.next().await {
        let is_release = match &message {
            Message::Text(text) => text.contains("release"),
            _ => continue,
        };
        let answer = if is_release { READY } else { ACQUIRED };
        if websocket.send(Message::text(answer)).await.is_err() {
            return;
        }
    }
}
