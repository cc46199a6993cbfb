//! The v1 protocol over real sockets: what is allowed.

use crate::common::{Client, HOUR, Server};
use locktopus_protocol::v1::waited_too_long;
use locktopus_server::Config;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_lock_is_acquired_enqueued_and_released() {
    let server = Server::start().await;
    let mut first = server.connect("namespace=n").await;
    let mut second = server.connect("namespace=n").await;
    let first_id = first.lock("w:a/b r:c").await;
    let second_id = second.enqueue("r:a").await;
    let token = |id: &str| id.parse::<u64>().expect("a decimal token");
    assert!(token(&second_id) > token(&first_id));
    assert_eq!(first.release().await, first_id);
    assert_eq!(second.expect("lock", "acquired").await, second_id);
    assert_eq!(second.release().await, second_id);
}

#[tokio::test]
async fn binary_frames_are_read_as_text_frames_are() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let message = json!({"action": "lock", "resources": [{"type": "write", "path": ["a"]}]});
    client.send(Message::binary(message.to_string())).await;
    client.expect("lock", "acquired").await;
}

#[tokio::test]
async fn types_in_any_case_null_paths_and_unknown_members_are_read() {
    let server = Server::start().await;
    let mut other = server.connect("namespace=n").await;
    for resource in [
        json!({"type": "WRITE", "path": ["a"]}),
        json!({"type": "W"}),
        json!({"type": "Read", "path": null}),
        json!({"type": "r", "path": [], "comment": "all"}),
    ] {
        let mut client = server.connect("namespace=n&abandon-timeout-ms=0").await;
        let action = json!({"action": "lock", "resources": [resource], "version": 2});
        client.send_json(action).await;
        client.expect("lock", "acquired").await;
        other.enqueue("w:a").await;
        other.release().await;
        client.release().await;
    }
}

#[tokio::test]
async fn release_while_enqueued_withdraws_at_once() {
    let server = Server::start().await;
    let mut reader = server.connect("namespace=n").await;
    let mut writer = server.connect("namespace=n").await;
    let mut late = server.connect("namespace=n").await;
    reader.lock("r:a").await;
    let id = writer.enqueue("w:a").await;
    late.enqueue("r:a").await;
    assert_eq!(writer.release().await, id);
    late.expect("lock", "acquired").await;
    writer.lock("w:b").await;
}

#[tokio::test]
async fn a_lock_right_after_ready_is_acquired_at_once() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let mut last: u64 = 0;
    for _ in 0..500 {
        let token = client.lock("w:a").await.parse().expect("a token");
        assert!(token > last);
        last = token;
        client.release().await;
    }
}

#[tokio::test]
async fn requests_can_be_pipelined() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    for _ in 0..100 {
        client.send_lock("w:a").await;
        client.send_release().await;
    }
    for _ in 0..100 {
        let id = client.expect("lock", "acquired").await;
        assert_eq!(client.expect("release", "ready").await, id);
    }
    let mut holder = server.connect("namespace=n").await;
    holder.lock("w:a").await;
    client.send_lock("w:a").await;
    client.send_release().await;
    client.send_lock("w:b").await;
    let id = client.expect("lock", "enqueued").await;
    assert_eq!(client.expect("release", "ready").await, id);
    client.expect("lock", "acquired").await;
}

#[tokio::test]
async fn the_server_sends_only_answers_and_pongs() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    client.lock("w:a").await;
    client.send(Message::Ping("ping".into())).await;
    assert_eq!(client.next().await, Message::Pong("ping".into()));
    client.release().await;
    client.lock("w:a").await;
}

#[tokio::test]
async fn a_release_followed_at_once_by_a_close_is_not_lost() {
    let server = Server::start().await;
    let mut other = server.connect("namespace=n").await;
    for round in 0..100 {
        let mut client = server.connect(&format!("namespace=n&{HOUR}")).await;
        client.lock("w:a").await;
        other.enqueue("w:a").await;
        client.send_release().await;
        if round % 2 == 0 {
            client.close().await;
        } else {
            drop(client);
        }
        other.expect("lock", "acquired").await;
        other.release().await;
    }
}

#[tokio::test]
async fn a_release_followed_by_a_reset_is_not_lost() {
    let server = Server::start().await;
    let mut other = server.connect("namespace=n").await;
    for _ in 0..50 {
        let mut client = server.connect(&format!("namespace=n&{HOUR}")).await;
        client.lock("w:a").await;
        other.enqueue("w:a").await;
        // The client never reads the answers that are under way, pongs among them.
        for _ in 0..20 {
            client.send(Message::Ping("?".into())).await;
            client.send_release().await;
            client.send_lock("w:x").await;
        }
        client.send_release().await;
        drop(client);
        other.expect("lock", "acquired").await;
        other.release().await;
    }
    server
        .until(|stats| stats.is_some_and(|stats| stats["acquired"] == 0))
        .await;
}

#[tokio::test]
async fn paths_up_to_the_depth_limit_are_accepted() {
    let mut config = Config::default();
    config.max_path_depth = 1024;
    let server = Server::start_with(config).await;
    for depth in [9, 10, 11, 64, 100, 1024] {
        let deep = vec!["x"; depth].join("/");
        let mut client = server.connect("namespace=n").await;
        client.lock(&format!("w:{deep}")).await;
        let mut other = server.connect("namespace=n").await;
        other.enqueue("w:x").await;
        client.release().await;
        other.expect("lock", "acquired").await;
        other.release().await;
    }
}

#[tokio::test]
async fn a_message_of_the_allowed_size_is_accepted() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    let mut message =
        json!({"action": "lock", "resources": [{"type": "w", "path": ["a"]}]}).to_string();
    message.push_str(&" ".repeat(64 * 1024 - message.len()));
    client.send(message).await;
    client.expect("lock", "acquired").await;
}

#[tokio::test]
async fn namespaces_have_separate_locks() {
    let server = Server::start().await;
    let mut first = server.connect("namespace=n").await;
    let mut second = server.connect("namespace=m").await;
    let mut third = server.connect("namespace=a%2Fb%20c").await;
    for client in [&mut first, &mut second, &mut third] {
        client.lock("w:").await;
    }
    let stats = server.stats("a/b+c").await.expect("the same name");
    assert_eq!(stats["namespace"], "a/b c");
}

#[tokio::test]
async fn unknown_parameters_are_ignored() {
    let server = Server::start().await;
    let mut client = server
        .connect("x=1&namespace=n&&abandon-timeout-ms=5&y&namespace=m")
        .await;
    client.lock("w:a").await;
    assert_eq!(
        server.stats("n").await.expect("the first counts")["acquired"],
        1
    );
}

#[tokio::test]
async fn a_namespace_exists_from_the_answer_to_the_upgrade_to_the_end_of_its_last_connection() {
    let server = Server::start().await;
    assert_eq!(server.stats("n").await, None);
    for _ in 0..50 {
        let client = server.connect("namespace=n").await;
        let stats = server.stats("n").await.expect("at once");
        assert_eq!(
            (&stats["connections"], &stats["acquired"]),
            (&json!(1), &json!(0))
        );
        client.close().await;
        server.until(|stats| stats.is_none()).await;
    }
}

#[tokio::test]
async fn a_namespace_stays_while_an_abandoned_lock_is_held() {
    let server = Server::start().await;
    let mut client = server.connect(&format!("namespace=n&{HOUR}")).await;
    client.lock("w:a").await;
    drop(client);
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 0))
        .await;
    let stats = server.stats("n").await.expect("still locked");
    assert_eq!(
        (&stats["acquired"], &stats["resources"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn tokens_rise_even_if_their_namespace_is_dropped() {
    let server = Server::start().await;
    let mut last = 0;
    for _ in 0..5 {
        let mut client = server.connect("namespace=n").await;
        let token: u64 = client.lock("w:a").await.parse().expect("a token");
        assert!(token > last);
        last = token;
        client.release().await;
        client.close().await;
        server.until(|stats| stats.is_none()).await;
    }
}

#[tokio::test]
async fn a_waiting_request_is_withdrawn_when_its_connection_ends() {
    let server = Server::start().await;
    let mut reader = server.connect("namespace=n").await;
    reader.lock("r:a").await;
    for graceful in [true, false] {
        let mut writer = server.connect(&format!("namespace=n&{HOUR}")).await;
        let mut late = server.connect("namespace=n").await;
        writer.enqueue("w:a").await;
        late.enqueue("r:a").await;
        if graceful {
            writer.close().await;
        } else {
            drop(writer);
        }
        late.expect("lock", "acquired").await;
        late.release().await;
    }
}

#[tokio::test]
async fn an_acquired_lock_outlives_its_connection_for_the_abandon_timeout() {
    let server = Server::start().await;
    for (ms, graceful) in [(0, true), (0, false), (100, true), (100, false)] {
        let mut holder = server
            .connect(&format!("namespace=n&abandon-timeout-ms={ms}"))
            .await;
        let mut other = server.connect("namespace=n").await;
        holder.lock("w:a").await;
        other.enqueue("w:a").await;
        let start = Instant::now();
        if graceful {
            holder.close().await;
        } else {
            drop(holder);
        }
        other.expect("lock", "acquired").await;
        assert!(start.elapsed() >= Duration::from_millis(ms));
        other.release().await;
    }
}

#[tokio::test]
async fn the_longest_abandon_timeout_does_not_overflow() {
    let mut config = Config::default();
    config.max_abandon_timeout = Duration::MAX;
    let server = Server::start_with(config).await;
    let mut client = server
        .connect(&format!("namespace=n&abandon-timeout-ms={}", u64::MAX))
        .await;
    client.lock("w:a").await;
    drop(client);
    server
        .until(|stats| stats.is_some_and(|stats| stats["connections"] == 0))
        .await;
    assert_eq!(
        server.stats("n").await.expect("still locked")["acquired"],
        1
    );
}

#[tokio::test]
async fn the_default_abandon_timeout_applies_if_the_client_gives_no_other() {
    let mut config = Config::default();
    config.default_abandon_timeout = Duration::ZERO;
    let server = Server::start_with(config).await;
    let mut holder = server.connect("namespace=n").await;
    let mut other = server.connect("namespace=n").await;
    holder.lock("w:a").await;
    other.enqueue("w:a").await;
    drop(holder);
    other.expect("lock", "acquired").await;
}

#[tokio::test]
async fn a_close_is_answered_with_a_close() {
    let server = Server::start().await;
    let mut client = server.connect("namespace=n").await;
    client.0.close(None).await.expect("sent");
    client.expect_close().await;
}

#[tokio::test]
async fn many_clients_take_turns() {
    let server = Server::start().await;
    let address = server.address;
    let clients = (0..50).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::connect(address, "namespace=n").await;
            for _ in 0..10 {
                client.send_lock("w:a").await;
                let first = client.next_json().await;
                if first["state"] == "enqueued" {
                    assert_eq!(client.expect("lock", "acquired").await, first["id"]);
                }
                client.release().await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_request_that_waits_longer_than_the_server_allows_is_withdrawn() {
    let mut config = Config::default();
    config.max_wait = Duration::from_millis(50);
    let server = Server::start_with(config).await;
    let mut holder = server.connect("namespace=n").await;
    holder.lock("w:a").await;
    let mut waiter = server.connect("namespace=n").await;
    waiter.enqueue("w:a").await;
    let error = waiter.expect_error().await;
    assert_eq!(error, waited_too_long(Duration::from_millis(50)));
    server
        .until(|stats| stats.is_some_and(|stats| stats["waiting"] == 0))
        .await;
    assert_eq!(server.metric("locktopus_waited_too_long_total").await, 1.0);
    // The holder is not a waiting request, however long it holds its lock.
    holder.release().await;
}
