//! Long answers: their memory is bounded, also if the clients hang up, do not read, or read slowly.

use crate::common::{PATIENCE, Server};
use locktopus_server::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const HEAD: &str = "GET /locks?namespace=n HTTP/1.1\r\nHost: x\r\n\r\n";
/// A page and the rest of its last request.
const PAGE: f64 = 1.1 * 1024.0 * 1024.0;

/// A server with small send buffers, and locks that fill several pages.
async fn server_with_long_lists() -> (Server, Vec<crate::common::Client>) {
    let server = Server::start_narrow(Config::default()).await;
    let mut holders = Vec::new();
    for holder in 0..80 {
        let set: Vec<String> = (0..1000)
            .map(|path| format!("r:{holder}-{path}-longer"))
            .collect();
        let mut client = server.connect("namespace=n").await;
        client.lock(&set.join(" ")).await;
        holders.push(client);
    }
    (server, holders)
}

/// Sends requests, and reads nothing, through a socket that takes little.
async fn deaf(server: &Server, requests: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let mut stream = socket.connect(server.address).await.expect("connects");
    stream.write_all(requests.as_bytes()).await.expect("sent");
    stream
}

/// Waits until a figure has this value.
async fn until(server: &Server, figure: &str, satisfied: impl Fn(f64) -> bool) {
    let start = Instant::now();
    loop {
        let value = server.metric(figure).await;
        if satisfied(value) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{figure} stays {value}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_bounded(server: &Server) {
    until(server, "locktopus_answer_bytes", |bytes| bytes == 0.0).await;
    let peak = server.metric("locktopus_answer_bytes_peak").await;
    assert!(peak > 0.0 && peak <= 4.0 * PAGE, "{peak}");
}

#[tokio::test]
async fn clients_that_hang_up_use_the_memory_of_four_pages_at_most() {
    let (server, _holders) = server_with_long_lists().await;
    for round in 0..200 {
        let stream = deaf(&server, HEAD).await;
        if round % 2 == 0 {
            // So that the request arrives before the end of the connection.
            sleep(Duration::from_millis(1)).await;
        }
        drop(stream);
    }
    assert_bounded(&server).await;
}

#[tokio::test]
async fn an_unread_answer_uses_its_right_until_its_connection_is_cut() {
    let (server, _holders) = server_with_long_lists().await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(deaf(&server, HEAD).await);
    }
    until(&server, "locktopus_answer_bytes", |bytes| {
        bytes > 2.5 * 1024.0 * 1024.0
    })
    .await;
    let (status, body) = server
        .request("GET", "/locks?namespace=n", "Accept: application/json")
        .await;
    assert!(
        status == 503 && body.contains("\"busy\""),
        "{status} with {} bytes",
        body.len()
    );
    assert_eq!(server.get("/healthz").await.0, 200);
    // A trickling reader gains no time: after the deadline its connection is closed.
    let mut trickling = unread.pop().expect("one");
    let trickle = tokio::spawn(async move {
        while trickling.read_u8().await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    until(&server, "locktopus_answers_cut_total", |cut| cut >= 3.0).await;
    trickle.abort();
    assert_eq!(server.get("/locks?namespace=n").await.0, 200);
    assert_bounded(&server).await;
}

#[tokio::test]
async fn pipelined_requests_and_heads_are_bounded_as_well() {
    let (server, _holders) = server_with_long_lists().await;
    let pipelined = deaf(&server, &HEAD.repeat(100)).await;
    until(&server, "locktopus_answer_bytes", |bytes| bytes > 0.0).await;
    drop(pipelined);
    let heads = HEAD.replace("GET", "HEAD").repeat(20)
        + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(heads.as_bytes()).await.expect("sent");
    let mut answers = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answers)).await;
    read.expect("answered").expect("text");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 21, "{answers}");
    assert_bounded(&server).await;
}
