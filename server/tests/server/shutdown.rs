//! Shutting down: no new locks, and the end when the last one is released.

use crate::common::{HOUR, Server, until_shutting_down};
use locktopus_protocol::v1::{self, NO_NEW_LOCKS, SHUTTING_DOWN};

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let mut server = Server::start().await;
    let mut idle = server.connect("namespace=n").await;
    server.shut_down();
    let close = idle.expect_close().await.expect("a reason");
    assert_eq!(u16::from(close.code), 1001);
    assert_eq!(close.reason.as_str(), SHUTTING_DOWN);
    drop(idle);
    server.stopped().await;
}

#[tokio::test]
async fn locks_are_granted_and_released_during_a_shutdown() {
    let mut server = Server::start().await;
    let mut holder = server.connect("namespace=n").await;
    let mut waiter = server.connect("namespace=n").await;
    let mut idle = server.connect("namespace=m").await;
    holder.lock("w:a").await;
    waiter.enqueue("w:a").await;
    server.shut_down();

    until_shutting_down(server.address).await;
    let (status, answer) = server.try_upgrade("namespace=n", "").await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert_eq!((status, body.trim_end()), (503, SHUTTING_DOWN));
    let (_, answer) = server
        .try_upgrade("namespace=n", "Accept: application/json")
        .await;
    assert!(answer.ends_with(r#""code":"shutting_down"}"#), "{answer}");
    idle.send_lock("w:b").await;
    let text = idle.expect_error().await;
    assert_eq!(text, NO_NEW_LOCKS);
    assert_eq!(v1::ErrorKind::of(&text), v1::ErrorKind::ShuttingDown);
    holder.release().await;
    waiter.expect("lock", "acquired").await;
    waiter.release().await;
    for mut client in [holder, waiter] {
        client.expect_close().await;
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_abandoned_locks() {
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
async fn a_lock_that_delays_a_shutdown_is_listed_and_can_be_revoked() {
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
