//! Faults: after each no lock and no connection is left behind, no place for a connection is lost, and other
//! connections are not disturbed.

use crate::common::{Client, HOUR, PATIENCE, Server, narrow};
use futures_util::{SinkExt, StreamExt, future::join_all};
use locktopus_server::Config;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const CLIENT_URL: &str = "LOCKTOPUS_TEST_CLIENT";

/// Notices broken connections within seconds.
fn quick() -> Config {
    let mut config = Config::default();
    config.ping_interval = Duration::from_millis(100);
    // Long enough for peers that answer, on a machine that is busy with other tests.
    config.ping_timeout = Duration::from_secs(2);
    config.default_abandon_timeout = Duration::ZERO;
    config
}

/// A client that locks and releases a path of its own all the time. The test fails if it is disturbed.
struct Bystander {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Bystander {
    async fn beside(server: &Server) -> Bystander {
        let mut client = server.connect("namespace=n").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                client.lock("w:bystander").await;
                client.release().await;
                rounds += 1;
                // Leaves the processor to the fault.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            client.close().await;
            rounds
        });
        Bystander { stop, task }
    }

    /// Stops it, and waits until the server is empty.
    async fn was_not_disturbed(self, server: &Server) {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = timeout(PATIENCE, self.task).await.expect("it stops");
        assert!(rounds.expect("undisturbed") > 0);
        server.until_empty().await;
    }
}

/// Not a test of its own: the body of a client process that a test kills.
#[tokio::test]
async fn client_process() {
    let Ok(url) = std::env::var(CLIENT_URL) else {
        return;
    };
    let (address, set) = url.split_once(' ').expect("an address and a set");
    let query = "namespace=n&abandon-timeout-ms=300";
    let mut client = Client::connect(address.parse().expect("an address"), query).await;
    client.send_lock(set).await;
    // Until the parent kills it, or the time is up.
    let _ = timeout(PATIENCE, async { while client.0.next().await.is_some() {} }).await;
}

fn client_process_of(server: &Server, set: &str) -> Child {
    let this = std::env::current_exe().expect("a path");
    Command::new(this)
        .args(["--exact", "faults::client_process"])
        .env(CLIENT_URL, format!("{} {set}", server.address))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

#[tokio::test]
async fn a_killed_holder_keeps_its_lock_for_the_abandon_timeout() {
    let server = Server::start().await;
    let bystander = Bystander::beside(&server).await;
    let mut killed = client_process_of(&server, "w:a");
    server.until_held("a").await;
    let mut waiter = server.connect("namespace=n").await;
    waiter.enqueue("w:a").await;
    let start = std::time::Instant::now();
    killed.kill().expect("running");
    killed.wait().expect("a child");
    waiter.expect("lock", "acquired").await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    waiter.release().await;
    waiter.close().await;
    bystander.was_not_disturbed(&server).await;
}

#[tokio::test]
async fn a_killed_waiter_delays_no_other_request() {
    let server = Server::start().await;
    let bystander = Bystander::beside(&server).await;
    let mut holder = server.connect("namespace=n").await;
    holder.lock("r:a").await;
    let mut killed = client_process_of(&server, "w:a");
    server
        .until(|stats| stats.is_some_and(|stats| stats["waiting"] == 1))
        .await;
    let mut reader = server.connect("namespace=n").await;
    reader.enqueue("r:a").await;
    killed.kill().expect("running");
    killed.wait().expect("a child");
    reader.expect("lock", "acquired").await;
    reader.release().await;
    reader.close().await;
    holder.release().await;
    holder.close().await;
    bystander.was_not_disturbed(&server).await;
}

/// A connection whose peer sends nothing, not even a close.
async fn silent(server: &Server, query: &str, set: &str) -> TcpStream {
    let mut client = Client::connect(server.address, query).await;
    client.send_lock(set).await;
    client.next().await;
    let Client(websocket) = client;
    websocket.into_inner()
}

#[tokio::test]
async fn a_half_open_connection_is_detected_and_its_lock_abandoned() {
    let server = Server::start_with(quick()).await;
    let bystander = Bystander::beside(&server).await;
    let holds = silent(&server, "namespace=n&abandon-timeout-ms=100", "w:a").await;
    let waits = silent(&server, &format!("namespace=n&{HOUR}"), "w:a").await;
    let mut next = server.connect("namespace=n").await;
    next.enqueue("w:a").await;
    next.expect("lock", "acquired").await;
    assert!(server.metric("locktopus_dead_peers_total").await >= 2.0);
    next.close().await;
    drop((holds, waits));
    bystander.was_not_disturbed(&server).await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays_connected() {
    let server = Server::start_with(quick()).await;
    let mut idle = server.connect("namespace=n").await;
    idle.lock("w:a").await;
    let mut pings = 0;
    while pings < 25 {
        match idle.next().await {
            // The library answers it while it reads.
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    idle.release().await;
}

#[tokio::test]
async fn without_a_ping_interval_no_pings_are_sent() {
    let mut config = quick();
    config.ping_interval = Duration::ZERO;
    let server = Server::start_with(config).await;
    let mut idle = server.connect("namespace=n").await;
    assert!(
        timeout(Duration::from_millis(500), idle.0.next())
            .await
            .is_err()
    );
    idle.lock("w:a").await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed() {
    let server = Server::start_narrow(quick()).await;
    let bystander = Bystander::beside(&server).await;
    let mut deaf = Client::connect_narrow(server.address, "namespace=n").await;
    // Until the server reads no more, because its answers are not read.
    let flood = async {
        loop {
            for message in [
                r#"{"action":"lock","resources":[{"type":"w","path":["a"]}]}"#,
                r#"{"action":"release"}"#,
            ] {
                if deaf.0.send(Message::text(message)).await.is_err() {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, flood).await.expect("it is closed");
    bystander.was_not_disturbed(&server).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_a_page_is_cut_off() {
    let mut config = quick();
    config.max_message_bytes = 1024 * 1024;
    config.ping_timeout = Duration::from_secs(1);
    let server = Server::start_narrow(config).await;
    let bystander = Bystander::beside(&server).await;
    let holders = hold_megabytes(&server, 6).await;
    let head = b"GET /locks?namespace=n HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut deaf = narrow(server.address).await;
    deaf.write_all(head).await.expect("sent");
    let cut_off = async {
        // Writing fails once the server has closed the socket.
        while deaf.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, cut_off).await.expect("it is cut off");
    for (holder, _) in holders {
        holder.abort();
    }
    bystander.was_not_disturbed(&server).await;
}

/// The list is limited in bytes, too: thousands of the largest sets would take gigabytes.
#[tokio::test]
async fn pages_of_large_sets_are_bounded_and_list_each_request_once() {
    let mut config = Config::default();
    config.max_message_bytes = 1024 * 1024;
    let server = Server::start_with(config).await;
    let holders = hold_megabytes(&server, 8).await;
    let mut tokens: Vec<&str> = holders.iter().map(|(_, token)| token.as_str()).collect();
    let mut small = server.connect("namespace=n").await;
    let last = small.lock("w:small").await;
    tokens.push(&last);
    let (mut listed, mut after) = (Vec::new(), String::new());
    for pages in 1.. {
        let (_, body) = server.get(&format!("/locks?namespace=n{after}")).await;
        assert!(body.len() < 2 * 1024 * 1024, "{}", body.len());
        let page: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let requests = page["requests"].as_array().expect("requests");
        let tokens = requests.iter().map(|request| request["token"].clone());
        listed.extend(tokens);
        let Some(next) = page["next"].as_str() else {
            assert_eq!((pages >= 8, &page["truncated"]), (true, &false.into()));
            break;
        };
        assert_eq!(page["truncated"], true);
        assert!(pages < 20, "the list comes to its end");
        after = format!("&after={next}");
    }
    assert_eq!(listed, tokens, "in the order of their paths");
}

#[tokio::test]
async fn a_set_that_is_larger_than_a_page_is_listed_alone() {
    let mut config = Config::default();
    config.max_message_bytes = 16 * 1024 * 1024;
    let server = Server::start_with(config).await;
    let set: Vec<String> = (0..320)
        .map(|path| format!("w:{path}-{}", "x".repeat(16_000)))
        .collect();
    let mut large = server.connect("namespace=n").await;
    let token = large.lock(&set.join(" ")).await;
    for (others, truncated) in [(false, false), (true, true)] {
        let mut small = server.connect("namespace=n").await;
        if others {
            small.lock("w:small").await;
        }
        let page = server.get_json("/locks?namespace=n").await;
        assert_eq!(page["truncated"], truncated);
        let listed = page["requests"].as_array().expect("requests");
        assert_eq!(
            (listed.len(), &listed[0]["token"]),
            (1, &token.clone().into())
        );
    }
}

/// Tasks that each lock paths of nearly a megabyte in all and answer pings, and their tokens.
async fn hold_megabytes(server: &Server, count: usize) -> Vec<(JoinHandle<()>, String)> {
    let mut holders = Vec::new();
    for holder in 0..count {
        let set: Vec<String> = (0..60)
            .map(|path| format!("w:{holder}-{path}-{}", "x".repeat(16_000)))
            .collect();
        let mut client = server.connect("namespace=n").await;
        let token = client.lock(&set.join(" ")).await;
        let reading = async move { while client.0.next().await.is_some() {} };
        holders.push((tokio::spawn(reading), token));
    }
    holders
}

#[tokio::test]
async fn the_lock_of_a_client_that_stops_reading_can_be_revoked() {
    let mut config = quick();
    config.ping_timeout = PATIENCE;
    let server = Server::start_narrow(config).await;
    let bystander = Bystander::beside(&server).await;
    let mut deaf = server.connect("namespace=n").await;
    let held = deaf.lock("w:a").await;
    // Pings until neither side reads any more, because the pongs are not read.
    let ping = Message::Ping(vec![0; 100].into());
    let flood = async { while deaf.0.feed(ping.clone()).await.is_ok() {} };
    assert!(
        timeout(Duration::from_secs(1), flood).await.is_err(),
        "still open"
    );
    let path = format!("/locks/{held}?namespace=n");
    assert_eq!(server.request("DELETE", &path, "").await.0, 200);
    let mut next = server.connect("namespace=n").await;
    next.lock("w:a").await;
    next.close().await;
    drop(deaf);
    bystander.was_not_disturbed(&server).await;
}

/// A client that reads nothing counts as broken even if it sends all the time: it would not notice the grant of
/// its lock.
#[tokio::test]
async fn a_client_that_sends_and_does_not_read_is_closed() {
    let mut config = quick();
    config.ping_timeout = Duration::from_millis(500);
    let server = Server::start_narrow(config).await;
    let mut talker = Client::connect_narrow(server.address, "namespace=n").await;
    talker.lock("w:a").await;
    let ping = Message::Ping(vec![0; 100].into());
    let talks = async {
        loop {
            for _ in 0..100 {
                if talker.0.feed(ping.clone()).await.is_err() {
                    return;
                }
            }
            if talker.0.flush().await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, talks).await.expect("it is closed");
    server.until_empty().await;
}

#[tokio::test]
async fn a_slow_message_keeps_the_connection_alive() {
    let mut config = quick();
    config.ping_timeout = Duration::from_secs(1);
    let server = Server::start_with(config).await;
    let client = server.connect("namespace=n").await;
    let mut stream = client.0.into_inner();
    // Masked with zeros, in one frame, for longer than the ping timeout.
    let text = br#"{"action":"lock","resources":[{"type":"w","path":["a"]}]}"#;
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend(text);
    for byte in frame {
        stream.write_all(&[byte]).await.expect("taken");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    server.until_held("a").await;
}

#[tokio::test]
async fn a_thousand_connections_that_open_and_vanish_leave_nothing_behind() {
    let mut config = quick();
    config.max_connections = 600;
    config.share = 100;
    let server = Server::start_with(config).await;
    for round in 0..2 {
        let bystander = Bystander::beside(&server).await;
        // Twice: the second round would lack the places that the first has not returned.
        let come_and_go = (0..500).map(|number| {
            let server = &server;
            async move {
                let mut client = server.connect("namespace=n").await;
                let path = if number % 2 == 0 { "w:a" } else { "w:b" };
                client.send_lock(path).await;
                if number % 3 == 0 {
                    client.next().await;
                }
            }
        });
        let all = timeout(PATIENCE, join_all(come_and_go)).await;
        assert_eq!(
            all.expect("all connections end").len(),
            500,
            "round {round}"
        );
        bystander.was_not_disturbed(&server).await;
    }
}

#[tokio::test]
async fn slow_handshakes_time_out_and_delay_no_other_connection() {
    let mut config = quick();
    config.handshake_timeout = Duration::from_millis(300);
    let server = Server::start_with(config).await;
    let bystander = Bystander::beside(&server).await;
    let mut slow = Vec::new();
    for begun in [
        "",
        "GET ",
        "GET /v1?namespace=n HTTP/1.1\r\nHost: x\r\nUpgr",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        stream.write_all(begun.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        closed.expect("closed by the server").expect("no error");
    }
    bystander.was_not_disturbed(&server).await;
}

#[tokio::test]
async fn sockets_beyond_the_limit_are_refused_at_once() {
    let mut config = quick();
    config.max_connections = 2;
    config.share = 100;
    let server = Server::start_with(config).await;
    let _idle = [
        TcpStream::connect(server.address).await.expect("connects"),
        TcpStream::connect(server.address).await.expect("connects"),
    ];
    let (status, body) = server.get("/healthz").await;
    assert_eq!((status, body.as_str()), (503, "too many connections\n"));
}

/// Locks are timed with the monotonic clock. The wall clock is read once, for the first token.
#[test]
fn the_wall_clock_is_read_once() {
    fn uses_in(folder: &Path, uses: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                uses_in(&path, uses);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let lines = text.lines().filter(|line| line.contains("SystemTime::"));
            uses.extend(lines.map(|line| line.trim().to_owned()));
        }
    }
    let mut uses = Vec::new();
    uses_in(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut uses,
    );
    assert_eq!(uses.len(), 1, "{uses:?}");
}
