//! Locks that an operator revokes: `DELETE /locks/TOKEN`.

use crate::common::{HOUR, Server};
use locktopus_protocol::v1;
use serde_json::{Value, json};

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
    assert_eq!(v1::Refusal::of(&error), v1::Refusal::Revoked);
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
