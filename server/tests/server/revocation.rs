//! Locks that an operator revokes: `DELETE /locks/TOKEN`.

use crate::common::{HOUR, Server};
use locktopus_protocol::v1;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn a_revoked_lock_goes_to_the_next_request_at_once() {
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
    assert_eq!(v1::ErrorKind::of(&error), v1::ErrorKind::Revoked);
    waiter.expect("lock", "acquired").await;
    assert_eq!(
        server.request("DELETE", &path, "").await.0,
        404,
        "it has ended"
    );
    let listing = server.get_json("/locks?namespace=n&path=a").await;
    let requests = listing["requests"].as_array().expect("requests");
    assert_eq!((requests.len(), &requests[0]["token"]), (1, &json!(waits)));
    bystander.release().await;
    assert_eq!(server.metric("locktopus_forced_total").await, 1.0);
}

#[tokio::test]
async fn a_waiting_request_and_an_abandoned_lock_can_be_revoked() {
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
async fn force_release_of_an_unknown_token_is_404() {
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

/// A revocation races with the grant of a lock, its release, the end of its connection and the abandon timeout. The
/// lock ends exactly once: each grant has one end, and no lock is left behind.
#[tokio::test]
async fn revocations_that_race_with_every_other_event_end_each_lock_once() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 60;
    let server = Server::start().await;
    let clients = (0..CLIENTS).map(|number| {
        let server = &server;
        async move {
            let mut revoked = 0;
            for round in 0..ROUNDS {
                let query = format!("namespace=n&abandon-timeout-ms={}", round % 3);
                let mut client = server.connect(&query).await;
                client.send_lock("w:a").await;
                // Some clients leave at once, some after the grant, some after the release.
                let steps = (number + round) % 4;
                let mut message = json!({"state": "enqueued"});
                while steps > 0 && message["state"] == "enqueued" {
                    message = client.next_json().await;
                }
                if steps > 1 && message["state"] == "acquired" {
                    let hold = Duration::from_millis(steps as u64);
                    if let Ok(revocation) = timeout(hold, client.next_json()).await {
                        message = revocation;
                    } else {
                        client.send_release().await;
                        message = client.next_json().await;
                    }
                }
                if steps > 2 && message["state"] == "ready" {
                    client.close().await;
                }
                revoked += usize::from(message["error"].is_string());
            }
            revoked
        }
    });
    let operator = async {
        loop {
            let (status, body) = server.get("/locks?namespace=n").await;
            let listing: Value = match status {
                200 => serde_json::from_str(&body).expect("JSON"),
                // The namespace may not exist at the moment.
                404 => json!({"requests": []}),
                other => panic!("{other}: {body}"),
            };
            for request in listing["requests"].as_array().expect("requests") {
                let token = request["token"].as_str().expect("a token");
                let path = format!("/locks/{token}?namespace=n");
                let (status, answer) = server.request("DELETE", &path, "").await;
                assert!(status == 200 || status == 404, "{status}: {answer}");
            }
        }
    };
    let told: usize = tokio::select! {
        told = futures_util::future::join_all(clients) => told.into_iter().sum(),
        () = operator => unreachable!("the operator never stops"),
    };
    server.until_empty().await;
    let revoked = server.metric("locktopus_forced_total").await;
    assert!(told > 0 && revoked >= told as f64, "{told} of {revoked}");
    let grants = server.metric("locktopus_grants_total").await;
    assert_eq!(server.metric("locktopus_hold_seconds_count").await, grants);
    assert_eq!(server.metric("locktopus_wait_seconds_count").await, grants);
    let withdrawn = server.metric("locktopus_withdrawals_total").await;
    assert!(grants + withdrawn <= (CLIENTS * ROUNDS) as f64);
}

#[tokio::test]
async fn all_locks_of_a_client_or_an_address_are_revoked_in_one_call() {
    let server = Server::start().await;
    let greedy = format!("namespace=n&client=greedy&{HOUR}");
    let mut leaving = server.connect(&greedy).await;
    leaving.lock("w:a").await;
    leaving.close().await;
    let mut holder = server.connect(&greedy).await;
    holder.lock("w:b").await;
    let mut waiting = server.connect(&greedy).await;
    waiting.enqueue("w:b").await;
    let _idle = server.connect(&greedy).await;
    let mut other = server.connect_from(2, "namespace=n&client=other").await;
    other.enqueue("w:a").await;
    let mut elsewhere = server.connect("namespace=m&client=greedy").await;
    elsewhere.lock("w:a").await;

    let (status, body) = server
        .request("DELETE", "/locks?namespace=n&client=greedy", "")
        .await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"released":2,"withdrawn":1}"#)
    );
    other.expect("lock", "acquired").await;
    for mut client in [holder, waiting] {
        assert!(client.expect_error().await.contains("released by force"));
    }
    elsewhere.release().await;

    let (status, body) = server
        .request("DELETE", "/locks?namespace=n&address=127.0.0.2", "")
        .await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"released":1,"withdrawn":0}"#)
    );
    other.expect_error().await;
    assert_eq!(server.metric("locktopus_forced_total").await, 4.0);
}

#[tokio::test]
async fn a_revocation_of_all_locks_of_a_client_needs_one_client() {
    let server = Server::start().await;
    let _client = server.connect("namespace=n&client=a").await;
    for (query, status, part) in [
        ("namespace=n", 400, "either"),
        ("namespace=n&client=", 400, "either"),
        ("namespace=n&client=a&address=127.0.0.1", 400, "either"),
        ("namespace=n&address=localhost", 400, "an IP address"),
        ("namespace=n&address=127.0.0.1:80", 400, "an IP address"),
        ("client=a", 400, "namespace"),
        ("namespace=m&client=a", 404, "namespace not found"),
    ] {
        let answer = server
            .request("DELETE", &format!("/locks?{query}"), "")
            .await;
        assert!(
            answer.0 == status && answer.1.contains(part),
            "{query}: {answer:?}"
        );
    }
    // A name that no client has ends nothing.
    let answer = server
        .request("DELETE", "/locks?namespace=n&client=b", "")
        .await;
    assert_eq!(answer, (200, r#"{"released":0,"withdrawn":0}"#.to_owned()));
}
