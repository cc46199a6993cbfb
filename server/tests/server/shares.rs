//! Shares: what one client can take of each limit, and what stays free for others.

use crate::common::{HOUR, Server};
use locktopus_protocol::pages::{Refusal, RefusalCode};
use locktopus_server::Config;

const JSON: &str = "Accept: application/json";
const OVER_SHARE: &str = r#"locktopus_over_share_total{kind="connections"}"#;

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
    assert_eq!(server.metric(OVER_SHARE).await, 1.0);
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
