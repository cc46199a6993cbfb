//! Shutting down, and the pages that tell how the server does.

mod common;

use common::{HOUR, Server, until_shutting_down};

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let mut server = Server::start().await;
    let mut idle = server.connect("namespace=n").await;
    server.shut_down();
    let close = idle.expect_close().await.expect("a reason");
    assert_eq!(u16::from(close.code), 1001);
    drop(idle);
    server.stopped().await;
}

#[tokio::test]
async fn a_server_that_shuts_down_lets_locks_be_finished() {
    let mut server = Server::start().await;
    let mut holder = server.connect("namespace=n").await;
    let mut waiter = server.connect("namespace=n").await;
    let mut idle = server.connect("namespace=m").await;
    holder.lock("w:a").await;
    waiter.enqueue("w:a").await;
    server.shut_down();

    // Once the server has noticed.
    until_shutting_down(server.address).await;
    let (status, answer) = server.try_upgrade("namespace=n", "").await;
    assert!(
        status == 503 && answer.contains("shutting down"),
        "{answer}"
    );
    idle.send_lock("w:b").await;
    assert!(idle.expect_error().await.contains("shutting down"));
    holder.release().await;
    waiter.expect("lock", "acquired").await;
    waiter.release().await;
    for mut client in [holder, waiter] {
        client.expect_close().await;
    }
    server.stopped().await;
}

#[tokio::test]
async fn an_abandoned_lock_is_waited_for() {
    let mut server = Server::start().await;
    let mut holder = server.connect("namespace=n&abandon-timeout-ms=200").await;
    holder.lock("w:a").await;
    let start = std::time::Instant::now();
    drop(holder);
    server.shut_down();
    server.stopped().await;
    assert!(start.elapsed().as_millis() >= 200);
}

#[tokio::test]
async fn what_keeps_a_server_from_ending_can_be_seen_and_released() {
    let mut server = Server::start().await;
    let mut holder = server.connect(&format!("namespace=n&{HOUR}")).await;
    let held = holder.lock("w:a").await;
    drop(holder);
    server.shut_down();
    until_shutting_down(server.address).await;
    let listing = server.get_json("/locks?namespace=n").await;
    assert_eq!(listing["requests"][0]["token"], held);
    let path = format!("/locks/{held}?namespace=n");
    assert_eq!(server.request("DELETE", &path, "").await.0, 200);
    server.stopped().await;
}

#[tokio::test]
async fn the_status_page_tells_version_parameters_and_namespaces() {
    let server = Server::start().await;
    let mut client = server.connect(&format!("namespace=my%20app&{HOUR}")).await;
    client.lock("w:a r:b").await;
    let (status, page) = server.get("/").await;
    assert_eq!(status, 200);
    for part in [
        env!("CARGO_PKG_VERSION"),
        "60000 ms",
        &server.address.to_string(),
        "\"my app\": 1 connections, 1 locks acquired, 0 waiting, 2 resources",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test]
async fn statistics_are_json_under_both_routes() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let id = client.lock("w:a r:b").await;
    let mut other = server.connect("namespace=n").await;
    other.enqueue("w:").await;
    for route in ["/stats_v1", "/stats"] {
        let (status, body) = server.get(&format!("{route}?namespace=n")).await;
        assert_eq!(status, 200);
        let stats: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(stats["namespace"], "n");
        assert_eq!(stats["connections"], 2);
        assert_eq!(stats["acquired"], 1);
        assert_eq!(stats["waiting"], 1);
        assert_eq!(stats["resources"], 3);
        let last: u64 = stats["last_token"]
            .as_str()
            .expect("a token")
            .parse()
            .expect("a number");
        assert!(last > id.parse().expect("a number"));
    }
}
