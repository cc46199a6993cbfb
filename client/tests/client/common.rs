//! A real server on a free loopback port, and a scripted one.

use futures_util::{SinkExt, StreamExt};
use locktopus_client::{Client, Options};
use locktopus_server::{Config, run};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Longer than any step of a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for at most [`PATIENCE`].
pub(crate) async fn soon<T>(step: impl Future<Output = T>) -> T {
    timeout(PATIENCE, step)
        .await
        .expect("the step ends in time")
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_at(([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (shutdown, stop) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stop = async { stop.await.unwrap_or(()) };
            run(listener, Config::default(), stop)
                .await
                .expect("no error");
        });
        Server {
            address,
            shutdown: Some(shutdown),
            task,
        }
    }

    /// Shuts down, and waits until no lock is held.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown.take());
        soon(self.task).await.expect("no panic");
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) async fn client(&self) -> Client {
        soon(Client::connect(self.url())).await.expect("connects")
    }
}

/// A server whose messages the test writes, one connection after the other.
pub(crate) struct Fake(TcpListener);

impl Fake {
    pub(crate) async fn listen() -> Fake {
        Fake(
            TcpListener::bind(("127.0.0.1", 0))
                .await
                .expect("a free port"),
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().expect("bound"))
    }

    /// Options with a short silence limit.
    pub(crate) fn impatient(&self) -> Options {
        let mut options = Options::new(&self.url()).expect("a URL");
        options.ping_interval = Duration::from_millis(20);
        options.silence_limit = Duration::from_millis(60);
        options
    }

    /// The next connection, before the upgrade.
    pub(crate) async fn accept_stream(&self) -> TcpStream {
        soon(self.0.accept()).await.expect("a connection").0
    }

    /// The next connection, upgraded.
    pub(crate) async fn accept(&self) -> Peer {
        let stream = self.accept_stream().await;
        Peer(soon(accept_async(stream)).await.expect("an upgrade"))
    }

    /// Connects a client, and returns both ends.
    pub(crate) async fn connected(&self, options: Options) -> (Client, Peer) {
        let (client, peer) = tokio::join!(Client::connect(options), self.accept());
        (client.expect("connects"), peer)
    }
}

/// The server's end of a connection.
pub(crate) struct Peer(pub(crate) WebSocketStream<TcpStream>);

impl Peer {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.expect("sent");
    }

    pub(crate) async fn send_state(&mut self, id: &str, action: &str, state: &str) {
        self.send(format!(
            r#"{{"id":"{id}","action":"{action}","state":"{state}"}}"#
        ))
        .await;
    }

    /// The next text message; pings are answered meanwhile.
    pub(crate) async fn receive(&mut self) -> Option<String> {
        let text = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        soon(text).await
    }

    /// Grants the next request.
    pub(crate) async fn grant(&mut self, id: &str) {
        let request = self.receive().await.expect("a request");
        assert!(request.contains(r#""action":"lock""#), "{request}");
        self.send_state(id, "lock", "acquired").await;
    }
}
