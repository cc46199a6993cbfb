//! Hostile clients, all at once, each from an address of its own. Each goes on until the server has refused it something:
//! then it has reached its limit. Meanwhile a canary in another namespace does its rounds.

use crate::common::{Client, PATIENCE, Server};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use locktopus_server::Config;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The last byte of the address of each client.
const SILENT: u8 = 2;
const UNFINISHED: u8 = 3;
const LISTING: u8 = 4;
const OVERSIZED: u8 = 5;
const FLOOD: u8 = 6;
const CANARY: u8 = 9;

/// More attempts than any attack needs.
const ATTEMPTS: usize = 5_000;

fn lock(paths: impl Iterator<Item = Vec<String>>) -> Value {
    let resources: Vec<Value> = paths
        .map(|path| json!({"type": "w", "path": path}))
        .collect();
    json!({"action": "lock", "resources": resources})
}

fn wide(resources: usize) -> Value {
    lock((0..resources).map(|number| vec![format!("w{number}")]))
}

async fn over_share(server: &Server, kind: &str) -> bool {
    let name = format!("locktopus_over_share_total{{kind=\"{kind}\"}}");
    server.metric(&name).await >= 1.0
}

/// Connections that never speak, until the server has no place for another one.
async fn silent_connections(server: &Server) -> Vec<Client> {
    let mut silent = Vec::new();
    for _ in 0..ATTEMPTS {
        let url = format!("ws://{}/v1?namespace=silent", server.address);
        match client_async(url, server.socket_from(SILENT).await).await {
            Ok((websocket, _)) => silent.push(Client(websocket)),
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 503);
                return silent;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("all of {} connections have a place", silent.len());
}

/// Messages that are not complete, until one is refused.
async fn unfinished_messages(server: &Server, bytes: usize) -> Vec<Client> {
    let mut unfinished = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut client = server
            .connect_from(UNFINISHED, "namespace=unfinished")
            .await;
        let beginning = Frame::message(vec![b' '; bytes], OpCode::Data(Data::Text), false);
        client.send(Message::Frame(beginning)).await;
        // The answer shows that the frame before it was read. Instead, the server may have closed the connection.
        let _ = client.0.send(Message::Ping(Vec::new().into())).await;
        match timeout(PATIENCE, client.0.next()).await.expect("in time") {
            Some(Ok(Message::Pong(_))) => unfinished.push(client),
            _refused => return unfinished,
        }
    }
    panic!("all of {} messages are kept", unfinished.len());
}

/// A client that sends pings and never reads the answers, until it is closed.
async fn slow_reader(server: &Server) {
    let mut client = Client::connect_narrow(server.address, "namespace=slow").await;
    let ping = Message::Ping(vec![0; 100].into());
    let talks = async { while client.0.feed(ping.clone()).await.is_ok() {} };
    timeout(PATIENCE, talks).await.expect("it is closed");
}

/// Listings that are hung up at once, and listings that the client does not read, until the server makes no more of them.
async fn unread_listings(server: &Server) -> Vec<tokio::net::TcpStream> {
    const HEAD: &[u8] = b"GET /locks?namespace=listed HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut listings = Vec::new();
    for attempt in 0..ATTEMPTS {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        socket
            .bind(([127, 0, 0, LISTING], 0).into())
            .expect("loopback");
        let mut stream = socket.connect(server.address).await.expect("connects");
        if stream.write_all(HEAD).await.is_err() {
            continue;
        }
        if attempt % 3 > 0 {
            listings.push(stream);
        }
        if attempt % 20 == 19 && over_share(server, "answers").await {
            return listings;
        }
    }
    panic!("all listings are made");
}

/// Sets over each limit.
async fn oversized_sets(server: &Server, limits: &[(Value, &str)]) {
    for _ in 0..5 {
        for (set, limit) in limits {
            let mut client = server.connect_from(OVERSIZED, "namespace=oversized").await;
            client.send_json(set.clone()).await;
            let error = client.expect_error().await;
            assert!(error.contains(limit), "{error}");
        }
    }
}

/// Requests that wait behind a lock and are withdrawn, and large sets that are locked and released.
async fn flood(server: &Server, set: &Value) {
    let mut holder = server.connect_from(FLOOD, "namespace=flood").await;
    holder.lock("w:x").await;
    let mut heavy = server.connect_from(FLOOD, "namespace=flood").await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(server.connect_from(FLOOD, "namespace=flood").await);
    }
    for _ in 0..10 {
        heavy.send_json(set.clone()).await;
        for client in &mut waiting {
            client.enqueue("w:x").await;
        }
        heavy.expect("lock", "acquired").await;
        for client in &mut waiting {
            client.release().await;
        }
        heavy.release().await;
        answer_pings(&mut holder);
    }
    let withdrawals = server.metric("locktopus_withdrawals_total").await;
    assert!(withdrawals >= 100.0, "{withdrawals}");
}

/// Answers the pings that have arrived.
fn answer_pings(client: &mut Client) {
    while let Some(next) = client.0.next().now_or_never() {
        assert!(matches!(next, Some(Ok(Message::Ping(_)))), "{next:?}");
    }
}

/// Rounds of a client that does no harm, until the attacks are over. It holds another lock throughout.
async fn canary(server: &Server, over: &Cell<bool>, mut listed: Option<&mut Client>) -> u32 {
    let mut holder = server.connect_from(CANARY, "namespace=canary").await;
    let held = holder.lock("w:held").await;
    let mut client = server.connect_from(CANARY, "namespace=canary").await;
    let mut rounds = 0;
    while !over.get() || rounds < 20 {
        let token = client.lock("w:a").await;
        assert_eq!(client.release().await, token);
        rounds += 1;
        answer_pings(&mut holder);
        if let Some(listed) = &mut listed {
            answer_pings(listed);
        }
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(holder.release().await, held);
    rounds
}

/// Places for this many connections, as far as the limit on open files allows: each connection has two ends here.
fn places(wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    wanted.min(files / 4).max(100)
}

fn hostile_config() -> Config {
    let mut config = Config::default();
    config.max_connections = places(2_000);
    config.default_abandon_timeout = Duration::ZERO;
    config.ping_interval = Duration::from_secs(2);
    config.ping_timeout = Duration::from_secs(6);
    config
}

#[tokio::test]
async fn a_canary_goes_on_while_each_attack_reaches_its_limit() {
    let mut config = hostile_config();
    config.max_request_bytes = 8 * 1024 * 1024;
    config.max_resources = 2_000;
    let server = Server::start_narrow(config).await;
    let mut listed = server.connect_from(OVERSIZED, "namespace=listed").await;
    listed.send_json(wide(1_000)).await;
    listed.expect("lock", "acquired").await;
    let limits = [
        (wide(2_001), "resources"),
        (lock([vec!["d".to_owned(); 65]].into_iter()), "segments"),
        (lock((0..69).map(|n| vec![n.to_string(); 60])), "segments"),
    ];
    let (over, set) = (Cell::new(false), wide(2_000));
    let attacks = async {
        let left = tokio::join!(
            silent_connections(&server),
            unfinished_messages(&server, 60_000),
            slow_reader(&server),
            unread_listings(&server),
            oversized_sets(&server, &limits),
            flood(&server, &set),
        );
        over.set(true);
        left
    };
    let (left, rounds) = tokio::join!(attacks, canary(&server, &over, Some(&mut listed)));
    assert!(rounds >= 20);
    assert!(over_share(&server, "connections").await && over_share(&server, "memory").await);
    assert!(server.metric("locktopus_turns_total").await >= 20.0);
    drop((left, listed));
    server.until_empty().await;
    assert_eq!(server.metric("locktopus_jobs").await, 0.0);
}

#[tokio::test]
async fn a_canary_goes_on_under_attack_with_the_smallest_limits() {
    let mut config = hostile_config();
    config.max_connections = 40;
    config.max_namespaces = 7;
    config.max_message_bytes = 1024;
    config.max_request_bytes = 65_536;
    (config.max_resources, config.max_segments) = (1, 1);
    config.max_path_depth = 1;
    config.max_path_bytes = 5;
    let server = Server::start_narrow(config).await;
    let limits = [
        (wide(2), "resources"),
        (lock([vec!["d".to_owned(); 2]].into_iter()), "segments"),
        (lock([vec!["d".repeat(5)]].into_iter()), "bytes"),
        (wide(100), "1024 are allowed"),
    ];
    let over = Cell::new(false);
    let attacks = async {
        // One after the other: there are few places.
        flood(&server, &wide(1)).await;
        let left = tokio::join!(
            silent_connections(&server),
            unfinished_messages(&server, 2_000),
            slow_reader(&server),
            oversized_sets(&server, &limits),
        );
        over.set(true);
        left
    };
    let (left, _) = tokio::join!(attacks, canary(&server, &over, None));
    assert!(server.metric("locktopus_protocol_errors_total").await >= 21.0);
    drop(left);
    server.until_empty().await;
}
