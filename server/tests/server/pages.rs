//! The other pages: the status, the namespaces, statistics, metrics, and the live page for browsers.

use crate::common::{HOUR, Server};
use locktopus_server::Config;
use std::time::Duration;

#[tokio::test]
async fn the_status_has_version_parameters_and_namespaces() {
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
async fn statistics_are_json_at_both_routes() {
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

#[tokio::test]
async fn metrics_count_events() {
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
async fn browsers_get_the_live_page_and_programs_the_plain_status() {
    let server = Server::start().await;
    for path in ["/", "/locks?namespace=unknown"] {
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

#[tokio::test]
async fn namespaces_are_ordered_by_name_and_cut_at_the_limit() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for name in ["b", "c", "a"] {
        clients.push(server.connect(&format!("namespace={name}")).await);
    }
    for (limit, names) in [
        ("", "abc"),
        ("?limit=3", "abc"),
        ("?limit=2", "ab"),
        ("?limit=0", ""),
        ("?after=a", "bc"),
        ("?after=a&limit=1", "b"),
        ("?after=aa", "bc"),
        ("?after=c", ""),
    ] {
        let page = server.get_json(&format!("/namespaces{limit}")).await;
        let listed = page["namespaces"].as_array().expect("namespaces");
        let listed: String = listed
            .iter()
            .filter_map(|namespace| namespace["namespace"].as_str())
            .collect();
        assert_eq!(listed, names, "{limit}");
        let is_last = names.ends_with('c') || limit == "?after=c";
        assert_eq!(page["truncated"], !is_last);
        let next = (!is_last).then(|| names.chars().last().map(String::from).unwrap_or_default());
        assert_eq!(page["next"].as_str().map(str::to_owned), next, "{limit}");
        assert_eq!(page["connections"], 3, "of all namespaces");
    }
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let server = Server::start().await;
    let _client = server.connect("namespace=n").await;
    for path in [
        "/",
        "/healthz",
        "/metrics",
        "/namespaces",
        "/stats?namespace=n",
        "/locks?namespace=n",
    ] {
        let (status, body) = server.request("HEAD", path, "").await;
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
    }
}
