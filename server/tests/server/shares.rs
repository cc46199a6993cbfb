//! Shares: what one client can take of each limit, and what stays free for others.

use crate::common::{Client, HOUR, Server};
use locktopus_protocol::pages::{Refusal, RefusalCode};
use locktopus_protocol::v1::{CLOSE_CODE_TRY_AGAIN, ErrorKind, NO_MEMORY, OVER_SHARE};
use locktopus_server::Config;
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const JSON: &str = "Accept: application/json";
const REFUSED_CONNECTIONS: &str = r#"locktopus_over_share_total{kind="connections"}"#;

async fn server(max_connections: usize) -> Server {
    let mut config = Config::default();
    config.max_connections = max_connections;
    Server::start_with(config).await
}

/// The JSON of a refused upgrade.
fn refusal(answer: &str) -> Refusal {
    let (_, json) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(json).expect("JSON")
}

#[tokio::test]
async fn locks_abandoned_by_one_client_leave_a_share_of_the_connections_to_others() {
    let server = server(8).await;
    for number in 0..6 {
        let mut client = server.connect(&format!("namespace=n&{HOUR}")).await;
        client.lock(&format!("w:{number}")).await;
        client.close().await;
    }
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 0))
        .await;
    let (status, answer) = server.try_upgrade("namespace=n", JSON).await;
    assert_eq!(status, 503, "{answer}");
    let refusal = refusal(&answer);
    assert_eq!(refusal.code, RefusalCode::OverShare);
    assert!(refusal.error.contains("6 of 8 connections"), "{answer}");
    assert_eq!(server.metric(REFUSED_CONNECTIONS).await, 1.0);
    let _others = [
        server.connect_from(2, "namespace=n").await,
        server.connect_from(3, "namespace=n").await,
    ];
    let (_, answer) = server.try_upgrade("namespace=n", JSON).await;
    assert!(answer.contains(r#""code":"unavailable""#), "{answer}");
    // A place that is given back is free for the others only, until the client is below its share.
    let locks = server.get_json("/locks?namespace=n").await;
    let token = locks["requests"][0]["token"].as_str().expect("a token");
    let path = format!("/locks/{token}?namespace=n");
    assert_eq!(server.request("DELETE", &path, "").await.0, 200);
    server
        .until(|stats| stats.is_some_and(|stats| stats["acquired"] == 5))
        .await;
    let mut refused = server.try_upgrade("namespace=n", JSON).await;
    // The place is free once the task of the abandoned lock has ended.
    for _ in 0..3000 {
        if refused.1.contains("over_share") {
            break;
        }
        tokio::task::yield_now().await;
        refused = server.try_upgrade("namespace=n", JSON).await;
    }
    assert!(refused.1.contains("over_share"), "{}", refused.1);
    let _last = server.connect_from(2, "namespace=n").await;
}

#[tokio::test]
async fn with_tokens_each_token_has_a_share_wherever_its_clients_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "one\ntwo\n").expect("written");
    let mut config = Config::default();
    config.max_connections = 4;
    config.auth_token_file = Some(file);
    let server = Server::start_with(config).await;
    let _held = [
        server.connect_from(1, "namespace=n&token=one").await,
        server.connect_from(2, "namespace=n&token=one").await,
        server.connect_from(3, "namespace=n&token=one").await,
    ];
    let (status, answer) = server.try_upgrade("namespace=n&token=one", JSON).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(refusal(&answer).code, RefusalCode::OverShare);
    let _other = server.connect_from(1, "namespace=n&token=two").await;
}

#[tokio::test]
async fn sockets_of_one_address_leave_a_share_to_others() {
    let server = server(4).await;
    let _idle = [
        server.socket_from(2).await,
        server.socket_from(2).await,
        server.socket_from(2).await,
    ];
    let mut refused = server.socket_from(2).await;
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut refused, &mut answer);
    read.await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\ntoo many connections from this address\n"));
    assert_eq!(server.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn the_smallest_limits_serve_one_client_at_a_time_and_then_one_each() {
    let one = server(1).await;
    one.connect("namespace=n").await.lock("w:a").await;
    let two = server(2).await;
    let _first = two.connect("namespace=n").await;
    assert_eq!(two.try_upgrade("namespace=n", "").await.0, 503);
    let mut second = two.connect_from(2, "namespace=n").await;
    second.lock("w:a").await;
}

/// Takes 16 KiB of the memory for messages, besides the 4 KiB that belong to the place of a connection.
const LONG: usize = 20_000;

/// A server with memory for four long messages, of which one client can have three.
async fn narrow_server() -> Server {
    let mut config = Config::default();
    config.max_request_bytes = 4 * 16 * 1024;
    Server::start_with(config).await
}

/// The message that locks `a/NUMBER`.
fn lock(number: usize) -> String {
    let path = ["a".to_owned(), number.to_string()];
    json!({"action": "lock", "resources": [{"type": "w", "path": path}]}).to_string()
}

/// The same in [`LONG`] bytes.
fn long_lock(number: usize) -> String {
    let lock = lock(number);
    let padding = " ".repeat(LONG - lock.len());
    lock + &padding
}

async fn expect_over_share(client: &mut Client) {
    let error = client.next_json().await["error"].clone();
    assert_eq!(error, OVER_SHARE);
    assert_eq!(ErrorKind::of(OVER_SHARE), ErrorKind::OutOfMemory);
    let close = client.expect_close().await.expect("a reason");
    assert_eq!(u16::from(close.code), CLOSE_CODE_TRY_AGAIN);
    assert_eq!(close.reason.as_str(), OVER_SHARE);
}

/// Sends the first frame of a message that is not complete.
async fn send_beginning(client: &mut Client) {
    let payload = vec![b' '; LONG];
    let frame = Frame::message(payload, OpCode::Data(Data::Text), false);
    client.send(Message::Frame(frame)).await;
}

#[tokio::test]
async fn unfinished_messages_of_one_client_leave_a_share_of_the_memory_to_others() {
    let server = narrow_server().await;
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect("namespace=n").await;
        send_beginning(&mut client).await;
        // The answer shows that the frame before it was read.
        client.send(Message::Ping(Vec::new().into())).await;
        assert!(matches!(client.next().await, Message::Pong(_)));
        unfinished.push(client);
    }
    let mut refused = server.connect("namespace=n").await;
    send_beginning(&mut refused).await;
    expect_over_share(&mut refused).await;
    let name = r#"locktopus_over_share_total{kind="memory"}"#;
    assert_eq!(server.metric(name).await, 1.0);
    // Short messages belong to the places of their connections.
    server.connect("namespace=n").await.lock("w:b").await;
    let mut other = server.connect_from(2, "namespace=n").await;
    send_beginning(&mut other).await;
    other.send(Message::Ping(Vec::new().into())).await;
    assert!(matches!(other.next().await, Message::Pong(_)));
    // A message that ends returns nothing: its request needs memory as well.
    let rest = Frame::message(lock(1), OpCode::Data(Data::Continue), true);
    unfinished[0].send(Message::Frame(rest)).await;
    assert_eq!(unfinished[0].next_json().await["error"], NO_MEMORY);
}

#[tokio::test]
async fn pings_between_the_frames_of_a_message_neither_count_nor_hide_its_bytes() {
    let server = narrow_server().await;
    let mut client = server.connect("namespace=n").await;
    for _ in 0..2_000 {
        client.send(Message::Ping(vec![0; 100].into())).await;
        assert!(matches!(client.next().await, Message::Pong(_)));
    }
    client.lock("w:a").await;
    send_beginning(&mut client).await;
    for _ in 0..2 {
        client.send(Message::Ping(vec![0; 100].into())).await;
        assert!(matches!(client.next().await, Message::Pong(_)));
        let more = Frame::message(vec![b' '; LONG], OpCode::Data(Data::Continue), false);
        client.send(Message::Frame(more)).await;
    }
    expect_over_share(&mut client).await;
}

#[tokio::test]
async fn the_memory_of_a_request_is_taken_until_its_lock_is_released() {
    let server = narrow_server().await;
    // The read buffer of a connection keeps the size of its largest message, so each takes two parts of four.
    let mut holder = server.connect(&format!("namespace=n&{HOUR}")).await;
    holder.send(long_lock(0)).await;
    holder.expect("lock", "acquired").await;
    let mut refused = server.connect("namespace=n").await;
    refused.send(long_lock(1)).await;
    expect_over_share(&mut refused).await;
    let mut other = server.connect_from(2, "namespace=n").await;
    other.lock("w:b").await;
    drop(refused);
    // An abandoned lock keeps the memory of its request, but not the read buffer.
    drop(holder);
    let mut held = until_granted(&server, 2).await;
    let mut refused = server.connect("namespace=n").await;
    refused.send(long_lock(3)).await;
    expect_over_share(&mut refused).await;
    drop(refused);
    held.release().await;
    drop(held);
    until_granted(&server, 4).await;
}

#[tokio::test]
async fn a_release_gives_the_memory_of_the_request_back() {
    let server = narrow_server().await;
    let mut first = server.connect("namespace=n").await;
    let mut second = server.connect("namespace=n").await;
    // Both read buffers and one request are all that one client can have.
    for _ in 0..2 {
        for client in [&mut first, &mut second] {
            client.send(long_lock(0)).await;
            client.expect("lock", "acquired").await;
            client.release().await;
        }
    }
}

/// A client with a long lock, once the memory of clients that have left is free.
async fn until_granted(server: &Server, number: usize) -> Client {
    for _ in 0..3000 {
        let mut client = server.connect("namespace=n&abandon-timeout-ms=0").await;
        client.send(long_lock(number)).await;
        if client.next_json().await["state"] == "acquired" {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no memory is given back");
}
