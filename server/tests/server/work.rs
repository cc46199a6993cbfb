//! Long work: releases and requests that take many turns, while other connections go on.

use crate::common::{Client, HOUR, Server};
use locktopus_server::Config;
use serde_json::{Value, json};

/// Limits that allow the deep and the wide locks of these tests.
pub(crate) fn large_limits() -> Config {
    let mut config = Config::default();
    config.max_path_depth = 1024;
    config.max_segments = 65_536;
    config.max_message_bytes = 1024 * 1024;
    config
}

const TRUNKS: usize = 500;
const DEPTH: usize = 16;

/// The first segments of one of the trunks, which have only the root in common.
fn trunk(number: usize, depth: usize) -> Vec<String> {
    let mut path = vec!["m".to_owned(); depth];
    path[0] = format!("{number:03}");
    path
}

fn lock(mode: &str, paths: impl Iterator<Item = Vec<String>>) -> Value {
    let resources: Vec<Value> = paths
        .map(|path| json!({"type": mode, "path": path}))
        .collect();
    json!({"action": "lock", "resources": resources})
}

/// A lock of a path below each trunk. Locks with different numbers do not conflict.
pub(crate) fn deep(number: usize) -> Value {
    let path = |of: usize| {
        let mut path = trunk(of, DEPTH);
        path.push(number.to_string());
        path
    };
    lock("w", (0..TRUNKS).map(path))
}

/// Connections that lock siblings at every depth of every trunk, for read and for write: they make the walk of each deep
/// request search at every depth of each path, which takes milliseconds.
pub(crate) async fn lock_siblings(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    for half in [0..TRUNKS / 2, TRUNKS / 2..TRUNKS] {
        for mode in ["r", "w"] {
            let siblings = half.clone().flat_map(|of| {
                (1..DEPTH).map(move |depth| {
                    let mut path = trunk(of, depth);
                    path.push(format!("a{mode}"));
                    path
                })
            });
            let mut client = server.connect("namespace=n").await;
            client.send_json(lock(mode, siblings)).await;
            client.expect("lock", "acquired").await;
            clients.push(client);
        }
    }
    clients
}

/// A lock of 4,000 paths, which enters and leaves in several turns.
pub(crate) fn wide() -> Value {
    let path = |number: usize| vec!["wide".to_owned(), number.to_string()];
    lock("w", (0..4000).map(path))
}

async fn jobs(server: &Server) -> f64 {
    server.metric("locktopus_jobs").await
}

async fn turns(server: &Server) -> f64 {
    server.metric("locktopus_turns_total").await
}

/// A release of the first client lets all others move on. They wait with deep locks.
struct Attack {
    holder: Client,
    waiters: Vec<Client>,
    siblings: Vec<Client>,
}

impl Attack {
    async fn prepare(server: &Server, waiting: usize) -> Attack {
        let siblings = lock_siblings(server).await;
        let mut holder = server.connect("namespace=n").await;
        holder
            .send_json(lock("w", std::iter::once(trunk(0, DEPTH))))
            .await;
        holder.expect("lock", "acquired").await;
        let mut waiters = Vec::new();
        for number in 0..waiting {
            let mut waiter = server.connect("namespace=n").await;
            waiter.send_json(deep(number)).await;
            waiter.expect("lock", "enqueued").await;
            waiters.push(waiter);
        }
        Attack {
            holder,
            waiters,
            siblings,
        }
    }
}

#[tokio::test]
async fn a_release_with_deep_requests_behind_it_does_not_stop_other_connections() {
    let server = Server::start_with(large_limits()).await;
    let mut attack = Attack::prepare(&server, 40).await;
    let mut canary = server.connect("namespace=canary").await;
    let before = turns(&server).await;
    attack.holder.release().await;
    for _ in 0..3 {
        canary.lock("w:a/b").await;
        canary.release().await;
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    for waiter in &mut attack.waiters {
        waiter.expect("lock", "acquired").await;
    }
    let turns = turns(&server).await - before;
    assert!(turns >= 3.0, "{turns} turns for the work of the release");
    drop(attack);
    let without_waiting = |stats: Option<&Value>| stats.is_none_or(|stats| stats["waiting"] == 0);
    server.until(without_waiting).await;
}

#[tokio::test]
async fn deep_requests_that_enter_do_not_stop_other_connections() {
    let server = Server::start_with(large_limits()).await;
    let _siblings = lock_siblings(&server).await;
    let mut attackers = Vec::new();
    for number in 0..20 {
        let mut attacker = server.connect("namespace=n").await;
        attacker.send_json(deep(number)).await;
        attackers.push(attacker);
    }
    let mut canary = server.connect("namespace=canary").await;
    canary.lock("w:a/b").await;
    canary.release().await;
    assert!(jobs(&server).await >= 1.0, "the work still goes on");
    for attacker in &mut attackers {
        attacker.expect("lock", "acquired").await;
        attacker.release().await;
    }
}

#[tokio::test]
async fn a_request_whose_connection_ends_while_it_enters_is_withdrawn() {
    let server = Server::start_with(large_limits()).await;
    let mut holder = server.connect("namespace=n").await;
    holder.lock("w:wide/3999").await;
    for _ in 0..3 {
        let mut client = server.connect(&format!("namespace=n&{HOUR}")).await;
        client.send_json(wide()).await;
        drop(client);
    }
    let only_the_holder = |stats: Option<&Value>| {
        stats.is_some_and(|stats| {
            stats["connections"] == 1 && stats["waiting"] == 0 && stats["resources"] == 1
        })
    };
    server.until(only_the_holder).await;
    assert_eq!(jobs(&server).await, 0.0);
    let mut next = server.connect("namespace=n").await;
    next.enqueue("w:wide").await;
    holder.release().await;
    next.expect("lock", "acquired").await;
}

#[tokio::test]
async fn a_wide_lock_is_released_when_its_revocation_is_answered() {
    let server = Server::start_with(large_limits()).await;
    let mut holder = server.connect("namespace=n").await;
    let mut waiter = server.connect("namespace=n").await;
    holder.send_json(wide()).await;
    let token = holder.expect("lock", "acquired").await;
    waiter.enqueue("w:wide").await;
    let path = format!("/locks/{token}?namespace=n");
    let (status, answer) = server.request("DELETE", &path, "").await;
    assert_eq!(status, 200, "{answer}");
    let stats = server.stats("n").await.expect("it has connections");
    assert!(stats["resources"] == 1, "{stats}");
    waiter.expect("lock", "acquired").await;
    assert!(holder.expect_error().await.contains("released by force"));
}

#[tokio::test]
async fn a_server_that_shuts_down_finishes_the_work() {
    let mut server = Server::start_with(large_limits()).await;
    let mut attack = Attack::prepare(&server, 20).await;
    attack.holder.release().await;
    assert!(jobs(&server).await >= 1.0, "the work still goes on");
    server.shut_down();
    for waiter in &mut attack.waiters {
        waiter.expect("lock", "acquired").await;
        waiter.release().await;
    }
    for sibling in &mut attack.siblings {
        sibling.release().await;
    }
    attack.holder.expect_close().await;
    server.stopped().await;
}

#[tokio::test]
async fn the_release_of_the_last_wide_lock_is_answered_before_the_server_closes() {
    let mut server = Server::start_with(large_limits()).await;
    let mut holder = server.connect("namespace=n").await;
    holder.send_json(wide()).await;
    holder.expect("lock", "acquired").await;
    server.shut_down();
    crate::common::until_shutting_down(server.address).await;
    holder.release().await;
    let close = holder.expect_close().await.expect("a reason");
    assert_eq!(u16::from(close.code), 1001);
    server.stopped().await;
}

#[tokio::test]
async fn messages_of_all_weights_have_the_same_meaning() {
    let mut config = Config::default();
    config.max_message_bytes = 1024 * 1024;
    let server = Server::start_with(config).await;
    let mut client = server.connect("namespace=n").await;
    for bytes in [0, 1_000, 10_000, 100_000, 1_000_000] {
        let rest = "x".repeat(bytes);
        let lock =
            json!({"resources": [{"type": "w", "path": ["a"]}], "rest": rest, "action": "lock"});
        client.send_json(lock).await;
        client.expect("lock", "acquired").await;
        client
            .send_json(json!({"rest": rest, "action": "release"}))
            .await;
        client.expect("release", "ready").await;
    }
    for bytes in [0, 10_000, 100_000] {
        let mut client = server.connect("namespace=n").await;
        client
            .send_json(json!({"rest": "x".repeat(bytes), "action": "unlock"}))
            .await;
        assert!(client.expect_error().await.contains("unlock"));
    }
    for segments in [65, 5_000, 50_000] {
        let mut client = server.connect("namespace=n").await;
        let path = vec!["a"; segments];
        client
            .send_json(json!({"action": "lock", "resources": [{"type": "w", "path": path}]}))
            .await;
        assert!(client.expect_error().await.contains("segments"));
    }
}

#[tokio::test]
async fn a_message_that_is_read_in_a_turn_does_not_delay_a_revocation() {
    let server = Server::start_with(large_limits()).await;
    let mut holder = server.connect("namespace=n").await;
    let token = holder.lock("w:a").await;
    // Not allowed while it holds a lock, but the revocation may come first.
    holder.send_json(deep(0)).await;
    let path = format!("/locks/{token}?namespace=n");
    let (status, answer) = server.request("DELETE", &path, "").await;
    assert!(status == 200 || status == 404, "{answer}");
    let error = holder.expect_error().await;
    assert!(
        error.contains("released by force") || error.contains("not allowed"),
        "{error}"
    );
}
