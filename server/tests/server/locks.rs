//! `GET /locks`: the requests of a namespace.

use crate::common::{HOUR, PATIENCE, Server};
use locktopus_server::Config;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::timeout;

fn tokens(listing: &Value) -> Vec<&str> {
    let requests = listing["requests"].as_array().expect("requests");
    requests
        .iter()
        .map(|request| request["token"].as_str().expect("a token"))
        .collect()
}

#[tokio::test]
async fn the_listing_names_holders_and_waiters_and_what_they_wait_for() {
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
    // Writes come first; the first resource of the holder is a read.
    assert_eq!(tokens(&listing), [&waits, &held]);
    let [waiting, holding] = [&listing["requests"][0], &listing["requests"][1]];
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
        listing["requests"][1]["connection"]["connected"], false,
        "abandoned"
    );
}

#[tokio::test]
async fn a_path_and_a_limit_narrow_the_listing() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for set in ["r:", "r:a", "r:a/b", "r:a/b/c", "r:a/c", "r:b r:a/b"] {
        let mut client = server.connect("namespace=n").await;
        ids.push(client.lock(set).await);
        clients.push(client);
    }
    for (path, listed) in [
        // By the first path of each set; at one path the youngest comes first.
        ("", &[0, 1, 5, 2, 3, 4][..]),
        ("a", &[0, 1, 5, 2, 3, 4]),
        ("a/b", &[0, 1, 5, 2, 3]),
        ("a/b/c/d", &[0, 1, 5, 2, 3]),
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
    for (query, part) in [
        ("path=%5Cx", "unknown escape"),
        ("path=a//b", "empty segment"),
        ("path=a/", "empty segment"),
        ("path=%5Cx", "'path'"),
        ("limit=-1", "'limit'"),
        ("limit=1e3", "'limit'"),
        ("after=", "'after'"),
        ("after=AA=", "'after'"),
        ("after=AAA", "'after'"),
        ("after=1795539057965032", "'after'"),
    ] {
        let (status, body) = server.get(&format!("/locks?namespace=n&{query}")).await;
        assert!(status == 400 && body.contains(part), "{body}");
    }
    let everything = server.get_json("/locks?namespace=n&limit=6").await;
    assert_eq!(everything["truncated"], false);
    let none = server.get_json("/locks?namespace=n&limit=0").await;
    assert_eq!((tokens(&none).len(), &none["truncated"]), (0, &json!(true)));
    assert_eq!(server.get("/locks?namespace=m").await.0, 404);
    assert_eq!(server.get("/locks").await.0, 400);
}

#[tokio::test]
async fn a_listing_has_1000_requests_unless_the_limit_is_another() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..1001 {
        let mut client = server.connect("namespace=n").await;
        client.send_lock("r:a").await;
        clients.push(client);
    }
    let mut last = String::new();
    for client in &mut clients {
        last = client.expect("lock", "acquired").await;
    }
    for (limit, listed) in [
        ("", 1000),
        ("&limit=1001", 1001),
        ("&limit=99999999", 1001),
        ("&limit=18446744073709551616", 1001),
    ] {
        let listing = server.get_json(&format!("/locks?namespace=n{limit}")).await;
        assert_eq!(tokens(&listing).len(), listed, "{limit}");
        assert_eq!(listing["truncated"], listed < 1001);
        assert_eq!(tokens(&listing)[0], last, "the youngest reader of a path");
        assert!(tokens(&listing).is_sorted_by(|a, b| a > b));
        assert_eq!(listing["next"].is_string(), listed < 1001);
    }
}

/// The server makes few lists at a time; the other requests wait for their turn.
#[tokio::test]
async fn many_listings_at_once_are_all_answered() {
    let server = Arc::new(Server::start().await);
    let mut client = server.connect("namespace=n").await;
    client.lock("w:a").await;
    let mut listings = JoinSet::new();
    for _ in 0..40 {
        let server = Arc::clone(&server);
        listings.spawn(async move { server.get_json("/locks?namespace=n").await });
    }
    while let Some(listing) = timeout(PATIENCE, listings.join_next())
        .await
        .expect("answered")
    {
        assert_eq!(tokens(&listing.expect("no panic")).len(), 1);
    }
}

#[tokio::test]
async fn an_empty_segment_is_listed_and_found() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    client
        .send_json(json!({"action": "lock", "resources": [{"type": "w", "path": ["a", "", "b"]}]}))
        .await;
    client.expect("lock", "acquired").await;
    for (path, found) in [("a/%5Ce/b", 1), ("a/%5Ce", 1), ("a", 1), ("a/b", 0)] {
        let listing = server
            .get_json(&format!("/locks?namespace=n&path={path}"))
            .await;
        assert_eq!(tokens(&listing).len(), found, "{path}");
    }
}

#[tokio::test]
async fn pages_list_every_request_that_stays_once() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    // A path of nearly 16 KiB: its place is the longest one.
    let long = format!("w:{}", "x".repeat(16_380));
    for set in ["w:a", "w:a", "r:b", "r:b", "r:c w:d", &long] {
        let mut client = server.connect("namespace=n").await;
        client.send_lock(set).await;
        client.next().await;
        clients.push(client);
    }
    let whole = server.get_json("/locks?namespace=n").await;
    ids.extend(tokens(&whole).into_iter().map(str::to_owned));
    assert_eq!(ids.len(), 6);
    for limit in 1..=6 {
        let (mut listed, mut after) = (Vec::new(), String::new());
        for _ in 0..10 {
            let query = format!("/locks?namespace=n&limit={limit}{after}");
            let page = server.get_json(&query).await;
            assert!(tokens(&page).len() <= limit);
            listed.extend(tokens(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else {
                after.clear();
                break;
            };
            after = format!("&after={next}");
            // A request that comes and goes between two pages.
            let mut passing = server.connect("namespace=n").await;
            passing.lock("w:zz").await;
            passing.release().await;
        }
        assert!(after.is_empty(), "the list comes to its end");
        assert_eq!(listed, ids, "{limit} a page");
    }
}

/// A filter that keeps few requests must not walk over all of them in one call.
#[tokio::test]
async fn a_search_ends_before_it_has_visited_a_million_entries() {
    let mut config = Config::default();
    config.max_message_bytes = 1024 * 1024;
    config.max_request_bytes = 1024 * 1024 * 1024;
    let server = Server::start_with(config).await;
    let mut clients = Vec::new();
    for client in 0..150 {
        let set: Vec<String> = (0..4096).map(|path| format!("r:{client}-{path}")).collect();
        let mut connection = server.connect("namespace=n").await;
        connection.lock(&set.join(" ")).await;
        clients.push(connection);
    }
    let page = server.get_json("/locks?namespace=n&path=elsewhere").await;
    assert_eq!((tokens(&page).len(), &page["truncated"]), (0, &json!(true)));
    let mut next = page["next"].as_str().map(str::to_owned);
    let mut calls = 1;
    while let Some(after) = next {
        let query = format!("/locks?namespace=n&path=elsewhere&after={after}");
        let page = server.get_json(&query).await;
        assert_eq!(tokens(&page).len(), 0);
        next = page["next"].as_str().map(str::to_owned);
        calls += 1;
        assert!(calls < 50, "the search comes to its end");
    }
}
