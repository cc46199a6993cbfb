//! Who holds what, who waits, and why; and taking a lock away by force.

mod common;

use common::{HOUR, Server};
use locktopus_server::Config;
use serde_json::{Value, json};
use std::time::Duration;

fn tokens(listing: &Value) -> Vec<&str> {
    let requests = listing["requests"].as_array().expect("requests");
    requests
        .iter()
        .map(|request| request["token"].as_str().expect("a token"))
        .collect()
}

#[tokio::test]
async fn the_listing_says_who_holds_who_waits_and_why() {
    let server = Server::start().await;
    let mut holder = server
        .connect(&format!("namespace=n&client=nightly%20job&{HOUR}"))
        .await;
    let mut waiter = server.connect("namespace=n").await;
    let held = holder.lock("w:a/b r:").await;
    let waits = waiter.enqueue("w:a").await;
    let listing = server.get_json("/locks?namespace=n").await;
    assert_eq!(listing["namespace"], "n");
    assert_eq!(listing["truncated"], false);
    assert_eq!(tokens(&listing), [&held, &waits]);
    let [holding, waiting] = [&listing["requests"][0], &listing["requests"][1]];
    assert_eq!(holding["state"], "acquired");
    assert_eq!(holding["waits_for"], Value::Null);
    assert_eq!(
        holding["resources"],
        json!([{"type": "read", "path": []}, {"type": "write", "path": ["a", "b"]}])
    );
    let connection = &holding["connection"];
    assert_eq!(connection["client"], "nightly job");
    assert_eq!(connection["connected"], true);
    assert_eq!(connection["released_in_ms"], Value::Null);
    assert_eq!(connection["abandon_timeout_ms"], 3_600_000);
    assert!(
        connection["address"]
            .as_str()
            .expect("text")
            .starts_with("127.0.0.1:")
    );
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["waits_for"], held);
    assert_eq!(waiting["connection"]["client"], Value::Null);
    assert!(waiting["since_ms"].as_u64().expect("a number") < 60_000);

    drop(holder);
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 1))
        .await;
    let listing = server.get_json("/locks?namespace=n").await;
    assert_eq!(
        listing["requests"][0]["connection"]["connected"], false,
        "abandoned"
    );
}

#[tokio::test]
async fn the_listing_can_be_narrowed_to_a_path() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for set in ["r:", "r:a", "r:a/b", "r:a/b/c", "r:a/c", "r:b r:a/b"] {
        let mut client = server.connect("namespace=n").await;
        ids.push(client.lock(set).await);
        clients.push(client);
    }
    for (path, listed) in [
        ("", &[0, 1, 2, 3, 4, 5][..]),
        ("a", &[0, 1, 2, 3, 4, 5]),
        ("a/b", &[0, 1, 2, 3, 5]),
        ("a/b/c/d", &[0, 1, 2, 3, 5]),
        ("b", &[0, 5]),
        ("c", &[0]),
    ] {
        let listing = server
            .get_json(&format!("/locks?namespace=n&path={path}"))
            .await;
        let expected: Vec<&str> = listed.iter().map(|index| ids[*index].as_str()).collect();
        assert_eq!(tokens(&listing), expected, "{path}");
    }
    let listing = server.get_json("/locks?namespace=n&limit=2").await;
    assert_eq!(
        (tokens(&listing).len(), &listing["truncated"]),
        (2, &json!(true))
    );
    for (query, part) in [("path=%5Cx", "'path'"), ("limit=-1", "'limit'")] {
        let (status, body) = server.get(&format!("/locks?namespace=n&{query}")).await;
        assert!(status == 400 && body.contains(part), "{body}");
    }
    assert_eq!(server.get("/locks?namespace=m").await.0, 404);
    assert_eq!(server.get("/locks").await.0, 400);
}

#[tokio::test]
async fn a_lock_that_is_taken_away_goes_to_the_next_at_once() {
    let server = Server::start().await;
    let mut holder = server.connect(&format!("namespace=n&{HOUR}")).await;
    let mut waiter = server.connect("namespace=n").await;
    let mut bystander = server.connect("namespace=n").await;
    let held = holder.lock("w:a").await;
    let waits = waiter.enqueue("w:a").await;
    bystander.lock("w:b").await;
    let path = format!("/locks/{held}?namespace=n");
    let (status, body) = server.request("DELETE", &path, "").await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(answer, json!({"token": held, "state": "acquired"}));
    let error = holder.expect_error().await;
    assert_eq!(error, format!("lock {held} was released by force"));
    waiter.expect("lock", "acquired").await;
    assert_eq!(
        server.request("DELETE", &path, "").await.0,
        404,
        "it is gone"
    );
    let listing = server.get_json("/locks?namespace=n&path=a").await;
    assert_eq!(tokens(&listing), [&waits]);
    bystander.release().await;
    assert_eq!(server.metric("locktopus_forced_total").await, 1.0);
}

#[tokio::test]
async fn a_request_that_waits_and_an_abandoned_lock_can_be_taken_away() {
    let server = Server::start().await;
    let mut holder = server.connect(&format!("namespace=n&{HOUR}")).await;
    let mut waiter = server.connect("namespace=n").await;
    let held = holder.lock("r:a").await;
    let waits = waiter.enqueue("w:a").await;
    let (status, body) = server
        .request("DELETE", &format!("/locks/{waits}?namespace=n"), "")
        .await;
    assert!(status == 200 && body.contains("waiting"), "{body}");
    waiter.expect_error().await;
    drop(holder);
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 0))
        .await;
    let (status, _) = server
        .request("DELETE", &format!("/locks/{held}?namespace=n"), "")
        .await;
    assert_eq!(status, 200);
    server.until_empty().await;
}

#[tokio::test]
async fn what_is_no_lock_cannot_be_taken_away() {
    let server = Server::start().await;
    let mut holder = server.connect("namespace=n").await;
    let held = holder.lock("w:a").await;
    for (path, status) in [
        ("/locks/1?namespace=n".to_owned(), 404),
        (format!("/locks/{held}?namespace=m"), 404),
        (format!("/locks/{held}"), 400),
        ("/locks/x?namespace=n".to_owned(), 400),
        ("/locks/?namespace=n".to_owned(), 400),
    ] {
        assert_eq!(
            server.request("DELETE", &path, "").await.0,
            status,
            "{path}"
        );
    }
    let get = server
        .request("GET", &format!("/locks/{held}?namespace=n"), "")
        .await;
    assert_eq!(get.0, 405);
    holder.release().await;
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let mut config = Config::default();
    config.default_abandon_timeout = Duration::ZERO;
    let server = Server::start_with(config).await;
    let mut holder = server.connect("namespace=n").await;
    let mut waiter = server.connect("namespace=n").await;
    holder.lock("w:a").await;
    waiter.enqueue("w:a").await;
    for (name, value) in [
        ("locktopus_connections", 2.0),
        ("locktopus_namespaces", 1.0),
        ("locktopus_locks_acquired", 1.0),
        ("locktopus_locks_waiting", 1.0),
        ("locktopus_grants_total", 1.0),
    ] {
        assert!((server.metric(name).await - value).abs() < 0.5, "{name}");
    }
    waiter.release().await;
    waiter.enqueue("w:a").await;
    holder.release().await;
    waiter.expect("lock", "acquired").await;
    holder.send("nonsense").await;
    holder.expect_error().await;
    drop(waiter);
    server.until_empty().await;
    assert_eq!(server.get("/nothing").await.0, 404);
    for (name, value) in [
        ("locktopus_connections", 0.0),
        ("locktopus_connected_total", 2.0),
        ("locktopus_grants_total", 2.0),
        ("locktopus_withdrawals_total", 1.0),
        ("locktopus_abandoned_total", 1.0),
        ("locktopus_protocol_errors_total", 1.0),
        ("locktopus_refused_total", 1.0),
        ("locktopus_wait_seconds_count", 2.0),
        ("locktopus_hold_seconds_count", 2.0),
        ("locktopus_hold_seconds_bucket{le=\"+Inf\"}", 2.0),
    ] {
        assert!((server.metric(name).await - value).abs() < 0.5, "{name}");
    }
}

#[tokio::test]
async fn browsers_get_the_page_and_others_the_plain_status() {
    let server = Server::start().await;
    for path in ["/", "/locks?namespace=nobody"] {
        let (status, page) = server
            .request("GET", path, "Accept: text/html,*/*;q=0.8")
            .await;
        assert!(status == 200 && page.contains("<html"), "{path}");
    }
    for accept in ["Accept: text/plain", "Accept: */*", ""] {
        let (status, text) = server.request("GET", "/", accept).await;
        assert!(status == 200 && text.starts_with("Locktopus "), "{text}");
    }
}
