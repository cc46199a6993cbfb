//! A server on a free loopback port, and clients that speak raw frames to it.

use futures_util::{SinkExt, StreamExt};
use locktopus_server::{Config, Secrets, run_with_secrets};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Longer than any step of a test takes: a longer wait is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test.
pub(crate) const HOUR: &str = "abandon-timeout-ms=3600000";

/// A running server. Dropping this handle does not stop it; it ends with the runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) secrets: Secrets,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Server {
        let socket = TcpSocket::new_v4().expect("a socket");
        Server::listen(socket, config)
    }

    /// A server with small send buffers: they are soon full if a client does not read.
    pub(crate) async fn start_narrow(config: Config) -> Server {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(4096).expect("a size");
        Server::listen(socket, config)
    }

    fn listen(socket: TcpSocket, config: Config) -> Server {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(loopback).expect("a free port");
        let listener = socket.listen(1024).expect("listens");
        let address = listener.local_addr().expect("bound");
        let secrets = Secrets::load(&config).expect("good files");
        let shared = secrets.clone();
        let (shutdown, stop) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stop = async { stop.await.unwrap_or(()) };
            let done = run_with_secrets(listener, config, shared, stop).await;
            done.expect("no error");
        });
        Server {
            address,
            secrets,
            shutdown: Some(shutdown),
            task,
        }
    }

    /// Shuts the server down, as a signal does.
    pub(crate) fn shut_down(&mut self) {
        let shutdown = self.shutdown.take().expect("once");
        shutdown.send(()).expect("running");
    }

    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.task)
            .await
            .expect("stops")
            .expect("no panic");
    }

    /// Connects with this query.
    pub(crate) async fn connect(&self, query: &str) -> Client {
        Client::connect(self.address, query).await
    }

    /// Connects with this query from the address `127.0.0.HOST`.
    pub(crate) async fn connect_from(&self, host: u8, query: &str) -> Client {
        Client::on(self.socket_from(host).await, self.address, query).await
    }

    /// A socket from the address `127.0.0.HOST`.
    pub(crate) async fn socket_from(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::from(([127, 0, 0, host], 0));
        socket.bind(from).expect("an address of loopback");
        socket.connect(self.address).await.expect("connects")
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path_and_query: &str) -> (u16, String) {
        let head = format!("GET {path_and_query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.http(&head).await
    }

    /// Status and JSON of a GET.
    pub(crate) async fn get_json(&self, path_and_query: &str) -> Value {
        let (status, body) = self.get(path_and_query).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Status and body of a request with this method and, unless it is empty, one more header.
    pub(crate) async fn request(&self, method: &str, path: &str, header: &str) -> (u16, String) {
        let address = self.address;
        let header = if header.is_empty() {
            String::new()
        } else {
            format!("{header}\r\n")
        };
        self.http(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n"
        ))
        .await
    }

    /// Status and text of the answer to an upgrade with this query and one more header.
    pub(crate) async fn try_upgrade(&self, query: &str, header: &str) -> (u16, String) {
        try_upgrade(self.address, query, header).await
    }

    /// The value of a figure of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (status, figures) = self.get("/metrics").await;
        assert_eq!(status, 200, "{figures}");
        let line = figures
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} in {figures}"))
    }

    /// Waits until this path is locked in the namespace `n`.
    pub(crate) async fn until_held(&self, path: &str) {
        for _ in 0..3000 {
            let (status, body) = self.get(&format!("/locks?namespace=n&path={path}")).await;
            if status == 200 && body.contains("\"acquired\"") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} is not locked");
    }

    /// Waits until no connection, no lock and no namespace is left.
    pub(crate) async fn until_empty(&self) {
        for _ in 0..3000 {
            let (_, list) = self.get("/namespaces").await;
            if list.contains("\"namespaces\":[]") {
                assert_eq!(self.metric("locktopus_locks_acquired").await, 0.0);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left behind: {}", self.get_json("/namespaces").await);
    }

    /// Status and body of the answer to a request with this head.
    pub(crate) async fn http(&self, head: &str) -> (u16, String) {
        http(self.address, head).await
    }

    /// Statistics of a namespace; `None` if there is no such namespace.
    pub(crate) async fn stats(&self, namespace: &str) -> Option<Value> {
        let (status, body) = self.get(&format!("/stats_v1?namespace={namespace}")).await;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// Waits until the statistics of the namespace `n` satisfy a condition.
    pub(crate) async fn until(&self, satisfied: impl Fn(Option<&Value>) -> bool) {
        for _ in 0..3000 {
            if satisfied(self.stats("n").await.as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("statistics stay {:?}", self.stats("n").await);
    }
}

/// Status and body of the answer to a request with this head.
pub(crate) async fn http(address: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("answered").expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// Status and text of the answer to an upgrade with this query and one more header.
async fn try_upgrade(address: SocketAddr, query: &str, header: &str) -> (u16, String) {
    let header = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}"
    );
    let path = format!("/v1?{query}");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{}\r\n\r\n",
        header.trim_end()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = timeout(PATIENCE, stream.read(&mut answer)).await;
    let read = read.expect("answered").expect("text");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), answer)
}

/// Waits until a server that shuts down refuses connections.
pub(crate) async fn until_shutting_down(address: SocketAddr) {
    for _ in 0..3000 {
        let (status, answer) = try_upgrade(address, "namespace=n", "").await;
        if status == 503 {
            assert!(answer.contains("shutting down"), "{answer}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server does not shut down");
}

/// A socket with small buffers.
pub(crate) async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    socket.set_send_buffer_size(4096).expect("a size");
    socket.connect(address).await.expect("connects")
}

pub(crate) struct Client<S = TcpStream>(pub(crate) WebSocketStream<S>);

impl Client {
    /// Connects with small buffers.
    pub(crate) async fn connect_narrow(address: SocketAddr, query: &str) -> Client {
        let url = format!("ws://{address}/v1?{query}");
        let connected = client_async(url, narrow(address).await).await;
        let (websocket, _) = connected.expect("upgraded");
        Client(websocket)
    }

    pub(crate) async fn connect(address: SocketAddr, query: &str) -> Client {
        let stream = TcpStream::connect(address).await.expect("connects");
        Client::on(stream, address, query).await
    }

    async fn on(stream: TcpStream, address: SocketAddr, query: &str) -> Client {
        stream.set_nodelay(true).expect("a socket");
        let url = format!("ws://{address}/v1?{query}");
        let (websocket, _) = client_async(url, stream).await.expect("upgraded");
        Client(websocket)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.expect("sent");
    }

    pub(crate) async fn send_json(&mut self, message: Value) {
        self.send(message.to_string()).await;
    }

    /// `"w:a/b r:c"` is a write of `a/b` and a read of `c`.
    pub(crate) async fn send_lock(&mut self, set: &str) {
        let resource = |word: &str| {
            let (kind, path) = word.split_once(':').expect("r: or w:");
            let path: Vec<&str> = path
                .split('/')
                .filter(|segment| !segment.is_empty())
                .collect();
            json!({"type": kind, "path": path})
        };
        let resources: Vec<Value> = set.split_whitespace().map(resource).collect();
        self.send_json(json!({"action": "lock", "resources": resources}))
            .await;
    }

    pub(crate) async fn send_release(&mut self) {
        self.send_json(json!({"action": "release"})).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        let next = timeout(PATIENCE, self.0.next()).await.expect("in time");
        next.expect("open").expect("no error")
    }

    /// The next message other than pings and pongs.
    pub(crate) async fn next_data(&mut self) -> Message {
        loop {
            match self.next().await {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The JSON of the next message, which must be text.
    pub(crate) async fn next_json(&mut self) -> Value {
        match self.next_data().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("{other:?}"),
        }
    }

    /// Expects a state after an action, and returns the token.
    pub(crate) async fn expect(&mut self, action: &str, state: &str) -> String {
        let message = self.next_json().await;
        let id = message["id"].as_str().expect("an id").to_owned();
        assert_eq!(message, json!({"id": id, "action": action, "state": state}));
        id
    }

    /// Expects an error object, then a close frame with the same text.
    pub(crate) async fn expect_error(&mut self) -> String {
        let message = self.next_json().await;
        let error = message["error"].as_str().expect("an error").to_owned();
        assert_eq!(message, json!({"error": error}));
        let close = self.expect_close().await.expect("a reason");
        assert_eq!(
            (u16::from(close.code), close.reason.as_str()),
            (3000, error.as_str())
        );
        error
    }

    pub(crate) async fn expect_close(&mut self) -> Option<CloseFrame> {
        match self.next_data().await {
            Message::Close(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// Locks, and expects to be granted at once.
    pub(crate) async fn lock(&mut self, set: &str) -> String {
        self.send_lock(set).await;
        self.expect("lock", "acquired").await
    }

    /// Locks, and expects to wait.
    pub(crate) async fn enqueue(&mut self, set: &str) -> String {
        self.send_lock(set).await;
        self.expect("lock", "enqueued").await
    }

    pub(crate) async fn release(&mut self) -> String {
        self.send_release().await;
        self.expect("release", "ready").await
    }

    /// Closes with a full close handshake.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.expect("closed");
        let rest = async { while self.0.next().await.is_some() {} };
        timeout(PATIENCE, rest)
            .await
            .expect("the server closes as well");
    }
}
