//! Requests and messages that are not allowed: each has a clear answer, leaves nothing behind, and does not disturb
//! other connections.

use crate::common::{HOUR, PATIENCE, Server};
use futures_util::SinkExt;
use locktopus_protocol::pages::{Refusal, RefusalCode};
use locktopus_server::Config;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn an_upgrade_without_namespace_or_with_a_bad_timeout_names_the_parameter() {
    let server = Server::start().await;
    for (query, parameter) in [
        ("", "namespace"),
        ("?", "namespace"),
        ("?namespace=", "namespace"),
        ("?namespaces=n", "namespace"),
        ("?namespace=n&abandon-timeout-ms=", "abandon-timeout-ms"),
        ("?namespace=n&abandon-timeout-ms=x", "abandon-timeout-ms"),
        ("?namespace=n&abandon-timeout-ms=-1", "abandon-timeout-ms"),
        ("?namespace=n&abandon-timeout-ms=1.5", "abandon-timeout-ms"),
        (
            "?namespace=n&abandon-timeout-ms=99999999999999999999",
            "abandon-timeout-ms",
        ),
    ] {
        let head = format!(
            "GET /v1{query} HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let (status, body) = server.http(&head).await;
        assert_eq!(status, 400, "{query}");
        assert!(body.contains(&format!("'{parameter}'")), "{query}: {body}");
    }
    assert_eq!(server.stats("n").await, None, "no namespace was made");
}

#[tokio::test]
async fn a_request_without_an_upgrade_is_426() {
    let server = Server::start().await;
    let (status, body) = server.get("/v1?namespace=n").await;
    assert_eq!(status, 426);
    assert!(body.contains("WebSocket"));
    let head = "GET /v1?namespace=n HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(server.http(head).await.0, 400);
}

#[tokio::test]
async fn unknown_routes_and_methods_list_the_known_ones() {
    let server = Server::start().await;
    let (status, body) = server.get("/nothing").await;
    assert!(status == 404 && body.contains("/v1"));
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(server.http(head).await.0, 405);
    for route in ["/stats_v1", "/stats"] {
        let (status, body) = server.get(route).await;
        assert!(status == 400 && body.contains("'namespace'"));
        assert_eq!(
            server.get(&format!("{route}?namespace=unknown")).await.0,
            404
        );
    }
}

#[tokio::test]
async fn refusals_are_json_with_a_code_if_the_accept_header_asks_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "all\nsome app-\n").expect("written");
    let mut config = Config::default();
    config.auth_token_file = Some(file);
    config.max_connections = 1;
    let server = Server::start_with(config).await;
    let _holder = server.connect("namespace=n&token=all").await;
    for (method, path, status, code) in [
        ("GET", "/locks?token=all", 400, RefusalCode::BadRequest),
        (
            "GET",
            "/locks?namespace=n&path=a//b&token=all",
            400,
            RefusalCode::BadRequest,
        ),
        (
            "GET",
            "/locks?namespace=n&limit=x&token=all",
            400,
            RefusalCode::BadRequest,
        ),
        (
            "GET",
            "/namespaces?limit=-1&token=all",
            400,
            RefusalCode::BadRequest,
        ),
        (
            "DELETE",
            "/locks/x?namespace=n&token=all",
            400,
            RefusalCode::BadRequest,
        ),
        ("GET", "/v1?token=all", 400, RefusalCode::BadRequest),
        ("GET", "/namespaces", 401, RefusalCode::Unauthorized),
        (
            "GET",
            "/namespaces?token=no",
            401,
            RefusalCode::Unauthorized,
        ),
        (
            "GET",
            "/stats?namespace=n&token=some",
            403,
            RefusalCode::Forbidden,
        ),
        ("GET", "/metrics?token=some", 403, RefusalCode::Forbidden),
        ("GET", "/nothing", 404, RefusalCode::NotFound),
        (
            "GET",
            "/locks?namespace=m&token=all",
            404,
            RefusalCode::NamespaceNotFound,
        ),
        (
            "DELETE",
            "/locks/1?namespace=m&token=all",
            404,
            RefusalCode::NamespaceNotFound,
        ),
        (
            "DELETE",
            "/locks/1?namespace=n&token=all",
            404,
            RefusalCode::LockNotFound,
        ),
        (
            "DELETE",
            "/locks/99999999999999999999?namespace=n&token=all",
            404,
            RefusalCode::LockNotFound,
        ),
        (
            "POST",
            "/locks?namespace=n&token=all",
            405,
            RefusalCode::MethodNotAllowed,
        ),
        (
            "HEAD",
            "/v1?namespace=n&token=all",
            405,
            RefusalCode::MethodNotAllowed,
        ),
        (
            "GET",
            "/v1?namespace=n&token=all",
            426,
            RefusalCode::UpgradeRequired,
        ),
    ] {
        let (plain_status, plain) = server.request(method, path, "").await;
        assert_eq!(plain_status, status, "{method} {path}: {plain}");
        let accept = "Accept: application/json";
        let (json_status, json) = server.request(method, path, accept).await;
        assert_eq!(json_status, status, "{method} {path}");
        if method == "HEAD" {
            assert!(plain.is_empty() && json.is_empty());
            continue;
        }
        let refusal: Refusal = serde_json::from_str(&json).expect("JSON");
        assert_eq!(refusal.code, code, "{method} {path}");
        assert_eq!(refusal.error + "\n", plain, "the same sentence");
        let both = "Accept: text/html, application/json";
        let (_, for_browsers) = server.request(method, path, both).await;
        assert!(
            for_browsers == plain || for_browsers.contains("<html"),
            "{for_browsers}"
        );
    }
    for (query, code) in [
        ("namespace=n&token=all", RefusalCode::Unavailable),
        ("namespace=n", RefusalCode::Unauthorized),
    ] {
        let (_, answer) = server.try_upgrade(query, "Accept: application/json").await;
        let (_, json) = answer.split_once("\r\n\r\n").expect("a head");
        let refusal: Refusal = serde_json::from_str(json).expect("JSON");
        assert_eq!(refusal.code, code, "{query}");
    }
}

#[tokio::test]
async fn every_bad_message_gets_an_error_object_and_close_code_3000() {
    let server = Server::start().await;
    let deep: Vec<&str> = vec!["x"; 65];
    let many: Vec<_> = (0..4097).map(|_| json!({"type": "r"})).collect();
    let lock = |resources| json!({"action": "lock", "resources": resources}).to_string();
    for (message, part) in [
        (String::new(), "not JSON"),
        ("hello".into(), "not JSON"),
        ("{".into(), "not JSON"),
        ("null".into(), "expected an object"),
        (r#"["lock",[]]"#.into(), "expected an object"),
        ("{}".into(), "action"),
        (json!({"action": "look"}).to_string(), "lock and release"),
        (json!({"action": null}).to_string(), "expected a string"),
        (json!({"action": "release"}).to_string(), "without a lock"),
        (json!({"action": "lock"}).to_string(), "no resources"),
        (lock(json!([])), "no resources"),
        (lock(json!([{"type": "x", "path": []}])), "read and write"),
        (lock(json!([{"path": ["a"]}])), "type"),
        (lock(json!([["write", ["a"]]])), "expected an object"),
        (
            lock(json!([{"type": "r", "path": "a"}])),
            "expected a sequence",
        ),
        (
            lock(json!([{"type": "r", "path": "x".repeat(3000)}])),
            "allowed",
        ),
        (lock(json!([{"type": "r", "path": [1]}])), "string"),
        (
            lock(json!([{"type": "r", "path": deep}])),
            "path of 65 segments; at most 64 are allowed",
        ),
        (
            lock(json!(vec![json!({"type": "r", "path": vec!["a"; 64]}); 65])),
            "lock of 4160 segments; at most 4096 are allowed",
        ),
        (
            lock(json!([{"type": "r", "path": ["x".repeat(17_000)]}])),
            "16384",
        ),
        (lock(json!(many)), "4096"),
    ] {
        for binary in [false, true] {
            let mut client = server.connect("namespace=n").await;
            let message = if binary {
                Message::binary(message.clone())
            } else {
                Message::text(message.clone())
            };
            client.send(message.clone()).await;
            let error = client.expect_error().await;
            assert!(error.contains(part), "{message}: {error}");
        }
    }
    server.until(|stats| stats.is_none()).await;
}

#[tokio::test]
async fn a_wrong_state_is_an_error_that_says_what_is_allowed() {
    let server = Server::start().await;
    let mut holder = server.connect("namespace=n&abandon-timeout-ms=0").await;
    let mut waiter = server.connect("namespace=n").await;
    holder.lock("w:a").await;
    waiter.enqueue("w:a").await;
    waiter.send_lock("w:b").await;
    assert!(waiter.expect_error().await.contains("allowed is release"));
    holder.send_lock("w:b").await;
    assert!(holder.expect_error().await.contains("allowed is release"));
    server.until(|stats| stats.is_none()).await;
}

#[tokio::test]
async fn after_an_error_a_waiting_request_is_withdrawn_and_an_acquired_lock_abandoned() {
    let server = Server::start().await;
    let mut holder = server.connect(&format!("namespace=n&{HOUR}")).await;
    holder.lock("r:a").await;
    let mut waiter = server.connect(&format!("namespace=n&{HOUR}")).await;
    waiter.enqueue("w:a").await;
    let mut late = server.connect("namespace=n").await;
    late.enqueue("r:a").await;

    waiter.send("nonsense").await;
    waiter.expect_error().await;
    late.expect("lock", "acquired").await;

    holder.send("nonsense").await;
    holder.expect_error().await;
    late.release().await;
    late.enqueue("w:a").await;
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 1))
        .await;
    let stats = server.stats("n").await.expect("open");
    assert_eq!(
        (&stats["acquired"], &stats["waiting"]),
        (&json!(1), &json!(1))
    );
}

/// The pongs of the server fill its buffer for this connection; the error must still arrive.
#[tokio::test]
async fn a_client_that_reads_late_gets_its_error() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    for _ in 0..100_000 {
        let ping = Message::Ping(vec![7; 60].into());
        client.0.feed(ping).await.expect("taken");
    }
    client.send("nonsense").await;
    server.until(|stats| stats.is_none()).await;
    let error = client.expect_error().await;
    assert!(error.contains("not JSON"), "{error}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_an_error() {
    let server = Server::start().await;
    for size in [64 * 1024 + 1, 10_000_000] {
        let mut client = server.connect("namespace=n").await;
        client.send("x".repeat(size)).await;
        let error = client.expect_error().await;
        assert!(error.contains("65536"), "{error}");
    }
}

#[tokio::test]
async fn a_fragmented_message_over_the_limit_is_an_error() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let part = || vec![b'x'; 40_000];
    let first = Frame::message(part(), OpCode::Data(Data::Text), false);
    let second = Frame::message(part(), OpCode::Data(Data::Continue), true);
    client.0.feed(Message::Frame(first)).await.expect("sent");
    client.send(Message::Frame(second)).await;
    assert!(client.expect_error().await.contains("65536"));
}

#[tokio::test]
async fn a_fragmented_message_is_reassembled() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let (first, second) = (r#"{"action":"lock","resou"#, r#"rces":[{"type":"w"}]}"#);
    let first = Frame::message(first, OpCode::Data(Data::Text), false);
    let second = Frame::message(second, OpCode::Data(Data::Continue), true);
    client.send(Message::Frame(first)).await;
    client.send(Message::Frame(second)).await;
    client.expect("lock", "acquired").await;
}

#[tokio::test]
async fn a_text_message_that_is_not_utf_8_is_an_error() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    client.send(Message::Frame(frame)).await;
    assert!(client.expect_error().await.contains("UTF-8"));
    let mut client = server.connect("namespace=n").await;
    client.send(Message::binary(vec![0xff, 0xfe])).await;
    assert!(client.expect_error().await.contains("not JSON"));
}

#[tokio::test]
async fn malformed_frames_are_an_error_and_do_not_disturb_other_connections() {
    let server = Server::start().await;
    let mut other = server.connect("namespace=n").await;
    other.lock("w:a").await;
    let mut client = server.connect("namespace=n").await;
    client
        .0
        .get_mut()
        .write_all(&[0xff; 64])
        .await
        .expect("sent");
    assert!(
        client
            .expect_error()
            .await
            .contains("not a WebSocket frame")
    );
    // A malformed HTTP request is an error as well.
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(&[0; 100]).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("closed")
        .expect("read");
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    other.release().await;
}

#[tokio::test]
async fn a_connection_that_ends_during_the_handshake_leaves_nothing_behind() {
    let server = Server::start().await;
    for head in [
        "",
        "GET /v1?namespace=n HTT",
        "GET /v1?namespace=n HTTP/1.1\r\nUpgrade: websocket\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        stream.write_all(head.as_bytes()).await.expect("sent");
        drop(stream);
    }
    assert_eq!(server.stats("n").await, None);
}
