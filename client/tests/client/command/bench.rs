//! `locktopus bench`, against a real server and a scripted one.

use super::process::{Server, errors, locktopus};
use crate::common::{Fake, Peer, soon};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use std::process::Stdio;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

#[test]
fn every_mode_of_bench_measures_something() {
    let server = Server::start();
    for mode in ["uncontended", "contended", "handoff", "idle", "held:2001"] {
        let output = server.output(&["bench", "-c", "4", "-s", "1", "-m", mode]);
        assert!(output.status.success(), "{mode}: {}", errors(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(mode) && text.contains("p99"), "{text}");
        assert_eq!(errors(&output), "", "{mode}");
    }
}

#[test]
fn two_connections_give_figures_as_json() {
    let server = Server::start();
    for mode in ["contended", "handoff"] {
        let args = [
            "--json",
            "-c",
            "2",
            "-s",
            "1",
            "--warm-up",
            "50ms",
            "-m",
            mode,
        ];
        let output = server.output(&[&["bench"], &args[..]].concat());
        let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&figures["mode"], &figures["connections"]),
            (&mode.into(), &2.into())
        );
        let number = |value: &Value| value.as_f64().expect("a number");
        assert!(number(&figures["count"]) > 0.0 && number(&figures["per_second"]) > 0.0);
        let latency = &figures["latency_us"];
        let quantiles = ["p50", "p90", "p99", "max"].map(|name| number(&latency[name]));
        assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{figures}");
        let measured = number(&figures["measured_ms"]);
        assert!(measured >= 1000.0, "{figures}");
    }
}

/// Otherwise the server ends these connections after its ping timeout, and releases the resources.
#[tokio::test]
async fn connections_that_hold_resources_answer_pings() {
    let fake = Fake::listen().await;
    let args = ["bench", "-c", "1", "-s", "30", "-m", "held:1", "--url"];
    let mut command = Command::from(locktopus(&[&args[..], &[&fake.url()]].concat()));
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let _bench = command.kill_on_drop(true).spawn().expect("starts");
    let mut holder = fake.accept().await;
    holder.grant("1").await;
    let _worker: Peer = fake.accept().await;
    let ping = Message::Ping(b"there?".as_slice().into());
    soon(holder.0.send(ping)).await.expect("sent");
    let answer = soon(holder.0.next()).await.expect("open");
    assert_eq!(
        answer.expect("a frame"),
        Message::Pong(b"there?".as_slice().into())
    );
}
