//! The library against scripted servers, which send wrong messages or stay silent.

use crate::common::{Fake, soon};
use futures_util::StreamExt as _;
use locktopus_client::{Client, Error, Options, Resource};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

fn a() -> [Resource; 1] {
    [Resource::write(["a"])]
}

#[tokio::test]
async fn every_frame_is_an_answer_or_an_error() {
    let state = |id: &str, action: &str, state: &str| {
        Message::text(format!(
            r#"{{"id":{id},"action":"{action}","state":"{state}"}}"#
        ))
    };
    let long = format!("\"{}\"", "x".repeat(5000));
    let frames = [
        Message::text(""),
        Message::text("{"),
        Message::text("[]"),
        Message::text("null"),
        Message::text("{}"),
        Message::text("\u{0}\u{1b}[2J"),
        Message::text("é".repeat(30_000)),
        Message::text("x".repeat(100_000)),
        Message::text("[".repeat(60_000)),
        Message::binary(vec![0xff, 0xfe]),
        Message::binary(vec![]),
        state("\"1\"", "lock", "ready"),
        state("\"1\"", "release", "acquired"),
        state("\"1\"", "release", "ready"),
        state("null", "lock", "acquired"),
        state("[1]", "lock", "acquired"),
        state(&long, "lock", "acquired"),
        state("\"\\u0000\"", "lock", "acquired"),
        Message::Close(None),
    ];
    for frame in frames {
        let fake = Fake::listen().await;
        let (client, mut peer) = fake
            .connected(Options::new(&fake.url()).expect("a URL"))
            .await;
        let shown = format!("{frame:.60?}");
        let serving = async {
            peer.receive().await.expect("a request");
            peer.send(frame).await;
            // Reads to the end, so that the connection is not reset.
            while peer.receive().await.is_some() {}
        };
        let (locked, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
        let error = locked.expect_err(&shown);
        assert!(
            matches!(
                error,
                Error::Refused { .. } | Error::Protocol(_) | Error::Closed(_)
            ),
            "{shown}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.len() < 300 && !text.chars().any(char::is_control),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_plain_text_error_of_the_go_server_is_a_refusal() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake
        .connected(Options::new(&fake.url()).expect("a URL"))
        .await;
    let serving = async {
        peer.receive().await.expect("a request");
        peer.send("communication error: invalid lock type").await;
    };
    let (locked, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
    let error = locked.expect_err("refused");
    let told = matches!(&error, Error::Refused { text, .. } if text == "communication error: invalid lock type");
    assert!(told, "{error}");
}

#[tokio::test]
async fn an_id_is_any_text_but_a_token_is_a_number() {
    for (id, token) in [
        ("\"1\"", Some(1)),
        ("7", Some(7)),
        ("\"18446744073709551615\"", Some(u64::MAX)),
        ("\"18446744073709551616\"", None),
        ("\"+7\"", None),
        ("\"3f2a-b\"", None),
        ("\"\"", None),
        ("1.5", None),
    ] {
        let fake = Fake::listen().await;
        let (client, mut peer) = fake
            .connected(Options::new(&fake.url()).expect("a URL"))
            .await;
        let serving = async {
            peer.receive().await.expect("a request");
            for state in ["enqueued", "acquired"] {
                let message = format!(r#"{{"id":{id},"action":"lock","state":"{state}"}}"#);
                peer.send(Message::binary(message)).await;
            }
        };
        let (guard, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
        let guard = guard.expect("granted");
        assert_eq!(guard.token(), token, "{id}");
        assert_eq!(guard.id(), id.trim_matches('"'));
    }
}

#[tokio::test]
async fn a_silent_server_is_noticed_with_time_left_to_stop() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake.connected(fake.impatient()).await;
    let before = Instant::now();
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
    let guard = guard.expect("granted");
    // From here on the peer neither reads nor answers.
    let lost = soon(guard.lost()).await;
    assert!(
        matches!(lost.reason(), Error::Closed(detail) if detail.to_string().contains("silent")),
        "{lost:?}"
    );
    assert!(lost.deadline() >= before + guard.abandon_timeout());
    assert!(lost.deadline() <= Instant::now() + guard.abandon_timeout());
    assert!(lost.time_left() > Duration::from_secs(20));
    assert_eq!(guard.deadline(), lost.deadline());
    assert!(guard.release().await.is_err());
    drop(peer);
}

#[tokio::test]
async fn a_pong_moves_the_deadline_on() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake.connected(fake.impatient()).await;
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
    let guard = guard.expect("granted");
    let first = guard.deadline();
    let moved = async {
        while guard.deadline() <= first + Duration::from_millis(100) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = soon(moved) => {}
        received = peer.receive() => panic!("{received:?}"),
    }
}

#[tokio::test]
async fn a_revoked_lock_is_lost_at_once() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake
        .connected(Options::new(&fake.url()).expect("a URL"))
        .await;
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("17")) }).await;
    let guard = guard.expect("granted");
    peer.send(r#"{"error":"lock 17 was released by force"}"#)
        .await;
    let lost = soon(guard.lost()).await;
    let reason = "lock 17 was released by force";
    assert!(
        matches!(lost.reason(), Error::Revoked(text) if text == reason),
        "{lost:?}"
    );
    assert_eq!(lost.time_left(), Duration::ZERO);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake
        .connected(Options::new(&fake.url()).expect("a URL"))
        .await;
    let serving = async {
        peer.receive().await.expect("a request");
        // The lock may have been granted, which the client cannot know.
        drop(peer);
    };
    let (locked, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
    assert!(matches!(locked, Err(Error::Closed(_))), "{locked:?}");
    // A new request is served on a new connection.
    let next = async {
        let mut peer = fake.accept().await;
        peer.grant("2").await;
        peer
    };
    let (locked, _peer) = soon(async { tokio::join!(client.lock(a()), next) }).await;
    assert_eq!(locked.expect("granted").token(), Some(2));
}

#[tokio::test]
async fn a_grant_that_crosses_the_withdrawal_is_released() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake
        .connected(Options::new(&fake.url()).expect("a URL"))
        .await;
    let mut locking = Box::pin(client.lock(a()));
    assert!(futures_util::poll!(&mut locking).is_pending());
    let request = peer.receive().await.expect("a request");
    assert!(request.contains("lock"));
    drop(locking);
    peer.send_state("1", "lock", "enqueued").await;
    peer.send_state("1", "lock", "acquired").await;
    assert_eq!(
        peer.receive().await.as_deref(),
        Some(r#"{"action":"release"}"#)
    );
    peer.send_state("1", "release", "ready").await;
    // The connection serves the next lock.
    soon(async {
        while client.idle_connections() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("2")) }).await;
    assert_eq!(guard.expect("granted").token(), Some(2));
}

#[tokio::test]
async fn the_error_of_a_refused_upgrade_has_the_text_of_the_server() {
    let fake = Fake::listen().await;
    let serving = async {
        let mut stream = fake.accept_stream().await;
        let mut head = [0; 4096];
        let read = stream.read(&mut head).await.expect("a request");
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 15\r\n\r\ntoken required\n";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        String::from_utf8_lossy(&head[..read]).to_lowercase()
    };
    let mut options = Options::new(&fake.url()).expect("a URL");
    options.auth_token = Some("geheim".to_owned());
    options.client_name = Some("job 1".to_owned());
    let (client, head) = soon(async { tokio::join!(Client::connect(options), serving) }).await;
    let error = client.expect_err("refused");
    let told = matches!(&error, Error::Refused { text, .. } if text.contains("401") && text.contains("token required"));
    assert!(told, "{error}");
    assert!(head.contains("authorization: bearer geheim"), "{head}");
    assert!(
        head.contains("client=job+1") && !head.contains("token=geheim"),
        "{head}"
    );
}

#[tokio::test]
async fn an_overloaded_server_is_a_connect_error() {
    for status in [
        "429 Too Many Requests",
        "502 Bad Gateway",
        "503 Unavailable",
    ] {
        let fake = Fake::listen().await;
        let serving = async {
            let mut stream = fake.accept_stream().await;
            let _ = stream.read(&mut [0; 4096]).await.expect("a request");
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nlater");
            stream.write_all(answer.as_bytes()).await.expect("sent");
        };
        let connecting = Client::connect(fake.url());
        let (client, ()) = soon(async { tokio::join!(connecting, serving) }).await;
        let error = client.expect_err("not now");
        let told = matches!(&error, Error::Connect(detail) if detail.to_string().contains("later"));
        assert!(told, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_is_a_connect_error() {
    let fake = Fake::listen().await;
    let options = Options::new(&fake.url()).expect("a URL");
    let (client, mut peer) = fake.connected(options).await;
    let serving = async {
        peer.receive().await.expect("a request");
        peer.send(
            r#"{"error":"the server is shutting down; no new locks, only releases are allowed"}"#,
        )
        .await;
    };
    let (locked, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
    let error = locked.expect_err("not now");
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

#[tokio::test]
async fn a_silent_upgrade_ends_with_the_connect_timeout() {
    let fake = Fake::listen().await;
    let mut options = Options::new(&fake.url()).expect("a URL");
    options.connect_timeout = Duration::from_millis(50);
    let error = soon(Client::connect(options)).await.expect_err("no answer");
    assert!(
        matches!(&error, Error::Connect(detail) if detail.to_string().contains("50ms")),
        "{error}"
    );
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let fake = Fake::listen().await;
    let (client, mut peer) = fake
        .connected(Options::new(&fake.url()).expect("a URL"))
        .await;
    drop(client);
    assert!(matches!(
        soon(peer.0.next()).await,
        Some(Ok(Message::Close(_)))
    ));
}

/// A request whose grant comes later than the abandon timeout after the last message.
async fn granted_late(fake: &Fake) -> (Client, locktopus_client::Pending, crate::common::Peer) {
    let mut options = Options::new(&fake.url()).expect("a URL");
    options.abandon_timeout = Duration::from_millis(50);
    let (client, mut peer) = fake.connected(options).await;
    let serving = async {
        peer.receive().await.expect("a request");
        peer.send_state("1", "lock", "enqueued").await;
    };
    let (pending, ()) = soon(async { tokio::join!(client.enqueue(a()), serving) }).await;
    // Blocks the thread of all tasks, as a stop of the process does, for longer than the abandon timeout.
    std::thread::sleep(Duration::from_millis(60));
    peer.send_state("1", "lock", "acquired").await;
    (client, pending.expect("in line"), peer)
}

#[tokio::test]
async fn a_grant_read_after_its_deadline_is_confirmed_first() {
    let fake = Fake::listen().await;
    let (_client, pending, mut peer) = granted_late(&fake).await;
    let serving = async {
        let next = soon(peer.0.next()).await.expect("a message");
        assert!(next.expect("a message").is_ping());
        // A peer that reads also answers pings.
        peer.receive().await;
    };
    let guard = tokio::select! {
        guard = soon(pending.acquired()) => guard,
        () = serving => panic!("no more messages"),
    };
    assert!(guard.expect("granted").abandon_timeout() > Duration::ZERO);
}

#[tokio::test]
async fn a_grant_read_after_its_deadline_on_a_closed_connection_is_an_error() {
    let fake = Fake::listen().await;
    let (_client, pending, peer) = granted_late(&fake).await;
    drop(peer);
    let error = soon(pending.acquired()).await.expect_err("closed");
    assert!(matches!(error, Error::Closed(_)), "{error}");
}

#[tokio::test]
async fn an_answering_server_confirms_the_lock() {
    let server = crate::common::Server::start().await;
    let client = server.client().await;
    let guard = soon(client.lock(a())).await.expect("granted");
    let asked = Instant::now();
    soon(guard.confirm()).await.expect("confirmed");
    assert!(guard.deadline() >= asked + guard.abandon_timeout());
}

#[tokio::test]
async fn no_lock_is_granted_after_close_returns() {
    let fake = Fake::listen().await;
    let options = Options::new(&fake.url()).expect("a URL");
    let (client, mut peer) = fake.connected(options).await;
    let (first, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.lock(a()).await }
    });
    // The connection is not upgraded yet, so `close` does not wait for it.
    let stream = fake.accept_stream().await;
    drop(first.expect("granted"));
    let serving = async {
        assert!(peer.receive().await.expect("a release").contains("release"));
        peer.send_state("1", "release", "ready").await;
        while peer.receive().await.is_some() {}
    };
    soon(async { tokio::join!(client.close(), serving) }).await;
    let accepting = tokio_tungstenite::accept_async(stream);
    let mut peer = crate::common::Peer(soon(accepting).await.expect("an upgrade"));
    assert_eq!(peer.receive().await, None);
    let error = soon(second).await.expect("no panic").expect_err("closed");
    assert!(matches!(error, Error::Closed(_)), "{error}");
}

/// It once got the status of a lock that other clients hold.
#[tokio::test]
async fn a_server_that_never_answers_is_no_timeout_of_the_lock() {
    let time = Duration::from_millis(50);
    // Before the upgrade, and after the request.
    let fake = Fake::listen().await;
    let client = Client::new(fake.url()).expect("a URL");
    let error = soon(client.lock_timeout(a(), time)).await;
    let error = error.expect_err("no answer");
    assert!(matches!(error, Error::Connect(_)), "{error}");

    let fake = Fake::listen().await;
    let options = Options::new(&fake.url()).expect("a URL");
    let (client, mut peer) = fake.connected(options).await;
    let locking = client.lock_timeout(a(), time);
    let (locked, request) = soon(async { tokio::join!(locking, peer.receive()) }).await;
    assert!(request.is_some());
    let error = locked.expect_err("no answer");
    assert!(
        matches!(&error, Error::Closed(detail) if detail.to_string().contains("not answered the request")),
        "{error}"
    );
    // The request is withdrawn, so a late grant does no harm.
    peer.send_state("1", "lock", "acquired").await;
    let withdrawal = peer.receive().await;
    assert_eq!(withdrawal.as_deref(), Some(r#"{"action":"release"}"#));
}

#[tokio::test]
async fn a_server_that_stalls_while_the_request_waits_is_no_timeout_of_the_lock() {
    for answers in [true, false] {
        let fake = Fake::listen().await;
        let options = Options::new(&fake.url()).expect("a URL");
        let (client, mut peer) = fake.connected(options).await;
        let deadline = Instant::now() + Duration::from_millis(1_300);
        let enqueueing = client.enqueue_by(a(), deadline);
        let serving = async {
            peer.receive().await.expect("a request");
            peer.send_state("1", "lock", "enqueued").await;
        };
        let (pending, ()) = soon(async { tokio::join!(enqueueing, serving) }).await;
        let acquiring = pending.expect("in line").acquired_by(deadline);
        // A peer that reads also answers pings.
        let reading = async {
            if answers {
                peer.receive().await;
            }
            std::future::pending().await
        };
        let error = tokio::select! {
            acquired = soon(acquiring) => acquired.expect_err("not granted"),
            never = reading => never,
        };
        assert_eq!(matches!(error, Error::Timeout(_)), answers, "{error}");
        assert_eq!(matches!(error, Error::Closed(_)), !answers, "{error}");
        assert!(Instant::now() >= deadline);
    }
}

/// The client once stored the answers to all pings of a server that never reads: 1.8 GB in 9 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_to_pings_of_a_server_that_does_not_read_fill_no_memory() {
    /// More than the buffers of two sockets hold, in both directions.
    const FLOOD_BYTES: usize = 32 * 1024 * 1024;
    let fake = Fake::listen().await;
    let mut options = fake.impatient();
    // Longer than the client would take to read it all. A ping of its own would wait for the server to read.
    options.silence_limit = Duration::from_secs(5);
    options.ping_interval = options.silence_limit;
    let (client, mut peer) = fake.connected(options).await;
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
    let guard = guard.expect("granted");
    let mut frames = vec![];
    for _ in 0..1024 {
        frames.extend([0x89, 125]);
        frames.extend([0; 125]);
    }
    let flood = async {
        let mut sent = 0;
        while sent < FLOOD_BYTES && peer.0.get_mut().write_all(&frames).await.is_ok() {
            sent += frames.len();
        }
        sent
    };
    let sent = soon(flood).await;
    assert!(sent < FLOOD_BYTES, "the client has read it all");
    let lost = soon(guard.lost()).await;
    assert!(matches!(lost.reason(), Error::Closed(_)), "{lost:?}");
}

/// Commands and pings once waited until a server stopped sending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_messages_delays_no_release_and_hides_no_silence() {
    for answers in [true, false] {
        let fake = Fake::listen().await;
        let (client, mut peer) = fake.connected(fake.impatient()).await;
        let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
        let guard = guard.expect("granted");
        let (mut reader, mut writer) = peer.0.into_inner().into_split();
        let flood = tokio::spawn(async move {
            // Pongs that answer no ping: the client has nothing to write.
            let frames = [0x8a, 0].repeat(4096);
            while writer.write_all(&frames).await.is_ok() {}
        });
        if answers {
            drop(guard);
            let mut received = vec![];
            let released = async {
                // The masked frame of a release has its length in the second byte.
                let release = [0x81, 0x80 | 20];
                while !received.windows(2).any(|bytes| bytes == release) {
                    reader.read_buf(&mut received).await.expect("open");
                }
            };
            soon(released).await;
        } else {
            let lost = soon(guard.lost()).await;
            assert!(lost.reason().to_string().contains("silent"), "{lost:?}");
        }
        flood.abort();
    }
}

#[tokio::test]
async fn an_endless_answer_to_the_upgrade_is_cut() {
    for head in [
        "HTTP/1.1 101 Switching Protocols\r\n",
        "HTTP/1.1 401 Unauthorized\r\n\r\n",
        "",
    ] {
        let fake = Fake::listen().await;
        let serving = async {
            let mut stream = fake.accept_stream().await;
            let mut sent = head.len();
            let line = format!("x: {}\r\n", "y".repeat(4000));
            let mut open = stream.write_all(head.as_bytes()).await.is_ok();
            while open && sent < 64 * 1024 * 1024 {
                open = stream.write_all(line.as_bytes()).await.is_ok();
                sent += line.len();
            }
            sent
        };
        let (client, sent) =
            soon(async { tokio::join!(Client::connect(fake.url()), serving) }).await;
        let error = client.expect_err("no upgrade").to_string();
        assert!(error.len() < 400, "{error}");
        assert!(sent < 64 * 1024 * 1024, "{head}: {sent} bytes were read");
    }
}

#[tokio::test]
async fn a_request_beyond_the_write_buffer_is_refused_before_it_is_sent() {
    let fake = Fake::listen().await;
    let client = Client::new(fake.url()).expect("a URL");
    let long = "x".repeat(16 * 1024 * 1024);
    let error = soon(client.lock([Resource::write([long])])).await;
    let error = error.expect_err("too long").to_string();
    assert!(error.contains("at most 16777216 are allowed"), "{error}");
}

#[tokio::test]
async fn a_client_over_its_share_is_told_to_try_later() {
    let again = || {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        Message::Close(Some(CloseFrame {
            code: 1013.into(),
            reason: "over the share of this client".into(),
        }))
    };
    // A waiting request is withdrawn; a lock stays for the abandon timeout.
    let fake = Fake::listen().await;
    let (client, mut peer) = fake.connected(fake.impatient()).await;
    let serving = async {
        peer.receive().await.expect("a request");
        peer.send(again()).await;
    };
    let (locked, ()) = soon(async { tokio::join!(client.lock(a()), serving) }).await;
    let error = locked.expect_err("refused");
    assert!(
        matches!(&error, Error::Connect(detail) if detail.to_string().contains("share")),
        "{error}"
    );

    let options = Options::new(&fake.url()).expect("a URL");
    let (client, mut peer) = fake.connected(options).await;
    let (guard, ()) = soon(async { tokio::join!(client.lock(a()), peer.grant("1")) }).await;
    let guard = guard.expect("granted");
    peer.send(again()).await;
    let lost = soon(guard.lost()).await;
    assert!(matches!(lost.reason(), Error::Closed(_)), "{lost:?}");
    assert!(lost.time_left() > Duration::from_secs(20));
}
