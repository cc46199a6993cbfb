//! `--timeout`: one deadline covers connecting, asking and waiting.

use super::process::{Server, errors, locktopus};
use crate::common::{Fake, Peer, soon};
use rustix::process::Signal;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// `run -t 1s` ended five seconds late when the server stalled, and once had the status of a lock that others hold.
const LATE: Duration = Duration::from_secs(5);

fn check(output: &Output, started: Instant, part: &str) {
    let took = started.elapsed();
    let errors = errors(output);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(errors.contains(part), "{errors}");
    assert!(output.stdout.is_empty(), "the command ran");
    assert!(took >= Duration::from_secs(1) && took < LATE, "{took:?}");
}

const ARGS: [&str; 9] = ["run", "-w", "a", "-t", "1s", "-E", "0", "echo", "ran"];

#[test]
fn a_server_that_does_not_accept_is_not_a_conflict() {
    let server = Server::start();
    server.process.signal(Signal::STOP);
    let started = Instant::now();
    let output = server.output(&ARGS);
    check(&output, started, "cannot connect");
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_request_is_not_a_conflict() {
    let fake = Fake::listen().await;
    let started = Instant::now();
    let mut command = Command::from(locktopus(&ARGS));
    let command = command.env("LOCKTOPUS_URL", fake.url()).kill_on_drop(true);
    let running = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let running = running.expect("starts").wait_with_output();
    let serving = async {
        let mut peer: Peer = fake.accept().await;
        peer.receive().await.expect("a request");
        // Neither reads nor answers from here on.
        std::future::pending().await
    };
    let output = tokio::select! {
        output = soon(running) => output.expect("runs"),
        never = serving => never,
    };
    check(&output, started, "not answered the request in time");
}

#[test]
fn a_server_that_stalls_during_the_wait_is_not_a_conflict() {
    let server = Server::start();
    let _holder = server.holder();
    let started = Instant::now();
    let mut args = ARGS;
    args[4] = "1500ms";
    let mut run = server.spawn(&args);
    Server::until_waiting(&mut run);
    server.process.signal(Signal::STOP);
    assert_eq!(run.status().code(), Some(69));
    let (took, errors) = (started.elapsed(), run.errors());
    assert!(errors.contains("silent"), "{errors}");
    assert!(took < LATE, "{took:?}");
    assert_eq!(run.line(), "");
}

#[test]
fn an_answering_server_with_a_held_lock_is_a_conflict() {
    let server = Server::start();
    let _holder = server.holder();
    let mut args = ARGS;
    args[4] = "1500ms";
    let output = server.output(&args);
    assert_eq!(output.status.code(), Some(0));
    assert!(errors(&output).contains("not granted within 1.5s"));
    assert!(output.stdout.is_empty());
}
