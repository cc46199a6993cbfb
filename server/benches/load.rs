//! What the server does under load, one line a case: `name value unit`. The clients are this process,
//! on the same machine: both sides share its cores.
//!
//! ```sh
//! cargo bench -p locktopus-server --bench load
//! ```

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long each case is measured, and how long it runs before that.
const MEASURED: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);

/// Idle connections are opened so many at a time.
const BATCH: u64 = 500;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let server = Server::start();
    idle(&server, 5_000).await;
    drop(server);

    let server = Server::start();
    for connections in [1, 16, 64, 256, 1_000] {
        throughput(&server, "uncontended", connections, Some).await;
    }
    for connections in [1, 16, 64, 256, 1_000] {
        throughput(&server, "contended", connections, |_| None).await;
    }
    let holders = hold(&server, 10_000).await;
    for connections in [1, 16, 64, 256, 1_000] {
        throughput(&server, "beside_10000_held", connections, Some).await;
    }
    drop(holders);
    hand_over(&server).await;
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_locktopus-server"))
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--default-abandon-timeout",
                "0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim_end().rsplit(' ').next();
        let address = address.and_then(|text| text.parse().ok());
        Server {
            child,
            address: address.expect("an address"),
        }
    }

    async fn connect(&self, namespace: u64) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        stream.set_nodelay(true).expect("a socket");
        let url = format!("ws://{}/v1?namespace=app-{namespace}", self.address);
        // The default, 128 KiB for each, would measure the caches of the machine.
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        let connected = client_async_with_config(url, stream, Some(config)).await;
        Client(connected.expect("upgraded").0)
    }

    /// Resident memory, in bytes.
    fn resident(&self) -> Option<f64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).ok()?;
        let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * 4096.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn send(&mut self, message: &str) {
        self.0.send(Message::text(message)).await.expect("sent");
    }

    /// Waits for the message that says this state.
    async fn until(&mut self, state: &str) {
        loop {
            let message = self.0.next().await.expect("open").expect("a message");
            if let Message::Text(text) = message
                && text.contains(state)
            {
                return;
            }
        }
    }
}

fn lock_of(paths: impl Iterator<Item = String>) -> String {
    let resources: Vec<String> = paths
        .map(|path| format!(r#"{{"type":"write","path":["load","{path}"]}}"#))
        .collect();
    format!(
        r#"{{"action":"lock","resources":[{}]}}"#,
        resources.join(",")
    )
}

const RELEASE: &str = r#"{"action":"release"}"#;

/// What an idle connection takes in the server. A hundred applications.
async fn idle(server: &Server, count: u64) {
    // Whatever the first connections bring up once is not theirs.
    let mut connections = join_all((0..100).map(|i| server.connect(i))).await;
    let before = server.resident();
    for batch in 0..count / BATCH {
        let all = (0..BATCH).map(|i| server.connect((batch * BATCH + i) % 100));
        connections.extend(join_all(all).await);
    }
    match (before, server.resident()) {
        (Some(before), Some(after)) => {
            println!("idle_connections {count} count");
            println!(
                "idle_connection_memory {:.0} bytes",
                (after - before) / count as f64
            );
        }
        _ => println!("# this system does not tell the resident memory of a process"),
    }
}

/// So many resources, held by a few connections.
async fn hold(server: &Server, count: usize) -> Vec<Client> {
    const EACH: usize = 1_000;
    let mut holders = Vec::new();
    for holder in 0..count / EACH {
        let mut client = server.connect(0).await;
        let lock = lock_of((0..EACH).map(|path| format!("held-{holder}-{path}")));
        client.send(&lock).await;
        client.until("acquired").await;
        holders.push(client);
    }
    holders
}

/// Each connection locks and releases all the time, a path of its own or the one of all.
async fn throughput(server: &Server, name: &str, connections: u64, own: fn(u64) -> Option<u64>) {
    let mut clients = Vec::new();
    for start in (0..connections).step_by(BATCH as usize) {
        let batch = start..connections.min(start + BATCH);
        clients.extend(join_all(batch.map(|_| server.connect(0))).await);
    }
    let start = Instant::now() + WARM_UP;
    let end = start + MEASURED;
    let tasks = clients.into_iter().zip(0..).map(|(mut client, number)| {
        let path = own(number).map_or("all".to_owned(), |number| format!("own-{number}"));
        let lock = lock_of(std::iter::once(path));
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let begin = Instant::now();
                if begin > end {
                    return took;
                }
                client.send(&lock).await;
                client.until("acquired").await;
                client.send(RELEASE).await;
                client.until("ready").await;
                if begin > start {
                    took.push(begin.elapsed());
                }
            }
        })
    });
    let mut took = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        took.extend(task.await.expect("no panic"));
    }
    let rounds = took.len() as f64 / MEASURED.as_secs_f64();
    println!("{name}_{connections}_connections {rounds:.0} rounds/s");
    quantiles(&format!("{name}_{connections}_connections"), took);
}

/// From the moment in which one releases to the moment in which the next hears that it has the lock.
async fn hand_over(server: &Server) {
    let mut holder = server.connect(1).await;
    let mut waiter = server.connect(1).await;
    let lock = lock_of(std::iter::once("handed".to_owned()));
    holder.send(&lock).await;
    holder.until("acquired").await;
    let mut took = Vec::new();
    for _ in 0..10_000 {
        waiter.send(&lock).await;
        waiter.until("enqueued").await;
        let begin = Instant::now();
        holder.send(RELEASE).await;
        waiter.until("acquired").await;
        took.push(begin.elapsed());
        holder.until("ready").await;
        std::mem::swap(&mut holder, &mut waiter);
    }
    quantiles("release_to_next_acquired", took);
}

fn quantiles(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    for (quantile, percent) in [("p50", 50), ("p99", 99)] {
        if let Some(time) = took.get(took.len() * percent / 100) {
            println!("{name}_{quantile} {:.0} us", time.as_secs_f64() * 1e6);
        }
    }
}
