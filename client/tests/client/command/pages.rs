//! The command against scripted pages: the requests that it sends, and its treatment of unusual answers.

use super::process::locktopus as command;
use crate::common::{Fake, PATIENCE, Peer, soon};
use serde_json::Value;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_async;

const LOCKS: &str = r#"{"namespace":"x","last_token":"1790000000000017","truncated":false,"requests":[
{"token":"1790000000000012","state":"acquired","since_ms":1234,"waits_for":null,
 "resources":[{"type":"write","path":["a","b"]},{"type":"read","path":[]}],
 "connection":{"id":5,"address":"127.0.0.1:40000","client":"nightly-job","connected":true,"abandon_timeout_ms":60000,"released_in_ms":null}},
{"token":"17","state":"waiting","since_ms":9,"waits_for":"1790000000000012",
 "resources":[{"type":"write","path":["a"]}],
 "connection":{"id":6,"address":"127.0.0.1:40001","client":null,"connected":true,"abandon_timeout_ms":60000,"released_in_ms":null}}]}"#;

const LOCKS_OF_OTHERS: &str =
    r#"{"requests":[{"token":"9","state":"waiting","waits_for":"3"}],"truncated":true}"#;

const NAMESPACES: &str = r#"{"version":"0.1.0","open":false,"truncated":false,"uptime_ms":61234,"connections":3,"namespaces":[
{"namespace":"x","connections":3,"acquired":1,"waiting":2,"resources":3,"last_token":"1790000000000017"}]}"#;

/// A server that gives the same answer to every request.
struct Pages {
    url: String,
    /// Returns the heads of the received requests.
    task: JoinHandle<Vec<String>>,
}

impl Pages {
    /// Answers this number of requests with this status and body.
    async fn answer(requests: usize, status: &'static str, body: &'static str) -> Pages {
        Pages::answers(&vec![body; requests], status).await
    }

    /// Answers with these bodies, one after the other.
    async fn answers(bodies: &[&'static str], status: &'static str) -> Pages {
        let fake = Fake::listen().await;
        let url = fake.url().replace("ws://", "http://");
        let bodies = bodies.to_vec();
        let task = tokio::spawn(async move {
            let mut heads = vec![];
            for body in bodies {
                heads.push(answer(fake.accept_stream().await, status, body).await);
            }
            heads
        });
        Pages { url, task }
    }

    /// The output of the command, and the heads of its requests.
    async fn ask(self, args: &[&str]) -> (Output, String) {
        let output = soon(locktopus(&self.url, args).output())
            .await
            .expect("runs");
        let heads = soon(self.task).await.expect("no panic");
        (output, heads.concat())
    }
}

async fn answer(mut stream: TcpStream, status: &str, body: &str) -> String {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a head"));
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.expect("sent");
    String::from_utf8(head).expect("text")
}

fn locktopus(url: &str, args: &[&str]) -> Command {
    let mut command = Command::from(command(args));
    command.env("LOCKTOPUS_URL", url).kill_on_drop(true);
    command.env("LOCKTOPUS_AUTH_TOKEN", "geheim");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_table_shows_what_a_request_waits_for() {
    let pages = Pages::answer(1, "200 OK", LOCKS).await;
    let (output, head) = pages
        .ask(&["locks", "-n", "x y", "-p", r"a\/b/c", "--limit", "9"])
        .await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        head.starts_with("GET /locks?namespace=x+y&path=a%5C%2Fb%2Fc&limit=9 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: Bearer geheim\r\n"), "{head}");
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[1].contains("w a/b, r ''") && lines[1].contains("nightly-job (127.0.0.1:40000)"));
    assert!(
        lines[2].ends_with("1790000000000012: nightly-job (127.0.0.1:40000)"),
        "{shown}"
    );
}

#[tokio::test]
async fn pages_are_shown_up_to_the_limit_or_all() {
    // An empty page between two others is legal.
    const PAGES: [&str; 3] = [
        r#"{"requests":[{"token":"5","state":"acquired"}],"truncated":true,"next":"one"}"#,
        r#"{"requests":[],"truncated":true,"next":"two"}"#,
        r#"{"requests":[{"token":"3","state":"acquired"},{"token":"4","state":"acquired"}],"truncated":false}"#,
    ];
    for (args, requests, tokens, cut) in [
        (&["locks", "--all"][..], 3, &["5", "3", "4"][..], false),
        (&["locks"], 3, &["5", "3", "4"], false),
        (&["locks", "--limit", "3"], 3, &["5", "3", "4"], false),
        (&["locks", "--limit", "1"], 1, &["5"], true),
    ] {
        let pages = Pages::answers(&PAGES[..requests], "200 OK").await;
        let (output, heads) = pages.ask(args).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        let mut lines = shown.lines().map(|line| line.split(' ').next());
        assert_eq!(lines.next(), Some(Some("TOKEN")), "{shown}");
        for token in tokens {
            assert_eq!(lines.next(), Some(Some(*token)), "{shown}");
        }
        assert_eq!(lines.next().is_some(), cut, "{shown}");
        assert_eq!(shown.contains("the list is cut; --limit"), cut);
        assert_eq!(heads.contains("&after=two "), requests == 3, "{heads}");
    }
    let (output, _) = Pages::answers(&PAGES, "200 OK")
        .await
        .ask(&["locks", "--all", "--json"])
        .await;
    assert_eq!(
        text(&output.stdout).lines().count(),
        3,
        "a line for each page"
    );
}

#[tokio::test]
async fn a_server_that_repeats_a_page_gets_no_endless_loop() {
    let same = r#"{"requests":[],"truncated":true,"next":"same"}"#;
    let pages = Pages::answers(&[same, same], "200 OK").await;
    let (output, _) = pages.ask(&["locks", "--all"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("begins where this one does"));
}

#[tokio::test]
async fn json_is_the_page_of_the_server() {
    for (args, body) in [
        (&["locks", "--json"][..], LOCKS),
        (&["status", "--json"], NAMESPACES),
    ] {
        let (output, _) = Pages::answer(1, "200 OK", body).await.ask(args).await;
        let json = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
        assert_eq!(json(&output.stdout), json(body.as_bytes()));
        assert_eq!(text(&output.stdout).lines().count(), 1);
    }
}

#[tokio::test]
async fn an_unused_namespace_has_no_locks() {
    let pages = Pages::answer(
        1,
        "404 Not Found",
        r#"{"error":"not now","code":"namespace_not_found"}"#,
    )
    .await;
    let (output, _) = pages.ask(&["locks"]).await;
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "no locks in namespace default\n");
}

/// Only the code of a refusal means that a namespace is not in use. Older servers and other programs refuse in plain
/// text.
#[tokio::test]
async fn a_plain_404_is_not_an_empty_listing() {
    for body in [
        "namespace not found; it exists while clients are connected to it\n",
        r#"{"error":"namespace not found","code":"not_found"}"#,
        r#"{"error":"namespace not found"}"#,
    ] {
        let pages = Pages::answer(1, "404 Not Found", body).await;
        let (output, _) = pages.ask(&["locks"]).await;
        assert_eq!(output.status.code(), Some(1), "{body}");
        let error = text(&output.stderr);
        assert!(
            error.contains("namespace not found") && error.contains("404"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn watch_repeats_until_the_server_ends() {
    let pages = Pages::answer(2, "200 OK", LOCKS).await;
    let (output, heads) = pages.ask(&["locks", "--watch"]).await;
    assert_eq!(heads.matches("GET /locks").count(), 2);
    assert_eq!(text(&output.stdout).matches("TOKEN").count(), 2);
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_release_by_force_names_token_and_namespace() {
    let pages = Pages::answer(1, "200 OK", r#"{"token":"17","state":"acquired"}"#).await;
    let (output, head) = pages.ask(&["release", "-n", "x", "17"]).await;
    assert_eq!(text(&output.stdout), "17 is released\n");
    assert!(
        head.starts_with("DELETE /locks/17?namespace=x HTTP/1.1\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_refusal_is_shown_with_the_text_of_the_server() {
    for (args, status) in [
        (&["release", "17"][..], "401 Unauthorized"),
        (&["release", "17"], "404 Not Found"),
        (&["locks"], "403 Forbidden"),
        (&["status"], "503 Service Unavailable"),
    ] {
        let (output, _) = Pages::answer(1, status, "not now\u{1b}[2J\n")
            .await
            .ask(args)
            .await;
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let error = text(&output.stderr);
        assert!(
            error.contains("not now [2J") && error.contains(&status[..3]),
            "{error}"
        );
        assert!(!error.contains("geheim"));
        let again = error.contains("cannot connect");
        assert_eq!(
            again,
            status.starts_with('5'),
            "a retry may succeed: {error}"
        );
    }
}

#[tokio::test]
async fn an_unexpected_page_is_an_error() {
    for body in [
        "",
        "{}",
        "[]",
        "hello",
        r#"{"requests":[{}]}"#,
        r#"{"requests":7}"#,
    ] {
        for args in [&["locks"][..], &["status"], &["release", "17"]] {
            let (output, _) = Pages::answer(1, "200 OK", body).await.ask(args).await;
            assert_eq!(output.status.code(), Some(1), "{args:?} {body:?}");
        }
    }
}

#[tokio::test]
async fn status_shows_namespaces() {
    let (output, head) = Pages::answer(1, "200 OK", NAMESPACES)
        .await
        .ask(&["status"])
        .await;
    assert!(head.starts_with("GET /namespaces HTTP/1.1\r\n"), "{head}");
    let shown = text(&output.stdout);
    assert!(
        shown.contains("Locktopus 0.1.0") && shown.contains("up for 1m01s"),
        "{shown}"
    );
    assert!(!shown.contains("the list is cut"), "{shown}");
    assert!(
        shown.contains("LAST TOKEN") && shown.contains("1790000000000017"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_table_says_that_a_list_of_namespaces_is_cut() {
    let page = r#"{"namespaces":[{"namespace":"x"}],"truncated":true}"#;
    let (output, _) = Pages::answer(1, "200 OK", page)
        .await
        .ask(&["status"])
        .await;
    assert!(text(&output.stdout).ends_with("the list is cut\n"));
}

/// The Go server has no pages, and a listing may be cut before our request.
#[tokio::test]
async fn a_wait_without_a_known_holder_goes_on() {
    for (status, body) in [
        ("404 Not Found", "404 page not found\n"),
        ("200 OK", r#"{"requests":[],"truncated":true}"#),
        ("200 OK", LOCKS_OF_OTHERS),
        (
            "503 Service Unavailable",
            r#"{"error":"later","code":"unavailable"}"#,
        ),
    ] {
        let line = wait_line(status, body).await;
        assert_eq!(line, "locktopus: waiting for w a", "{body}");
    }
}

#[tokio::test]
async fn the_wait_shows_the_holder() {
    let line = wait_line("200 OK", LOCKS).await;
    let held = "held by nightly-job (127.0.0.1:40000) for 1s";
    assert_eq!(line, format!("locktopus: waiting for w a: {held}"));
}

/// The first line of a `run` that waits while `body` is the page of the locks. The lock is then granted.
async fn wait_line(status: &str, body: &str) -> String {
    let fake = Fake::listen().await;
    let mut command = locktopus(&fake.url(), &["run", "-w", "a", "--", "echo", "ran"]);
    let mut run = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let stream = fake.accept_stream().await;
    let mut peer = Peer(soon(accept_async(stream)).await.expect("an upgrade"));
    peer.receive().await.expect("a request");
    peer.send_state("17", "lock", "enqueued").await;
    answer(fake.accept_stream().await, status, body).await;
    let stderr = run.stderr.take().expect("piped");
    let line = soon(BufReader::new(stderr).lines().next_line())
        .await
        .expect("text");
    peer.send_state("17", "lock", "acquired").await;
    assert_eq!(
        peer.receive().await.as_deref(),
        Some(r#"{"action":"release"}"#)
    );
    peer.send_state("17", "release", "ready").await;
    let output = tokio::time::timeout(PATIENCE, run.wait_with_output())
        .await
        .expect("ends");
    assert_eq!(text(&output.expect("runs").stdout), "ran\n");
    line.expect("a line")
}

#[tokio::test]
async fn an_endless_page_is_cut() {
    /// More than the longest page and the buffers of two sockets.
    const ENDLESS_BYTES: usize = 128 * 1024 * 1024;
    let fake = Fake::listen().await;
    let mut command = locktopus(&fake.url().replace("ws://", "http://"), &["locks"]);
    let serving = async {
        let mut stream = fake.accept_stream().await;
        let piece = vec![b' '; 64 * 1024];
        let mut sent = 0;
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok();
        while open && sent < ENDLESS_BYTES {
            open = stream.write_all(&piece).await.is_ok();
            sent += piece.len();
        }
        sent
    };
    let (output, sent) = soon(async { tokio::join!(command.output(), serving) }).await;
    let output = output.expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(sent < ENDLESS_BYTES, "{}", text(&output.stderr));
    assert!(output.stderr.len() < 400, "{}", text(&output.stderr));
}
