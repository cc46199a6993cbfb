//! The command `locktopus-server` as a process: its first line, flags, exit statuses and signals.

use crate::common::{Client, PATIENCE, http, until_shutting_down};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locktopus-server"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOCKTOPUS_") {
            command.env_remove(name);
        }
    }
    command
}

fn output(args: &[&str]) -> Output {
    command(args).output().expect("runs")
}

/// A running server, killed at the end of the test.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(command: &mut Command) -> Process {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line
            .trim_end()
            .strip_prefix("listening on ")
            .expect("the address");
        let address = address.parse().expect("an address");
        Process { child, address }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("running");
    }

    /// The exit status and the log.
    fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => panic!("the server does not exit"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut log = String::new();
        let stderr = self.child.stderr.as_mut().expect("piped");
        stderr.read_to_string(&mut log).expect("text");
        (status, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_loopback(more: &[&str]) -> Process {
    let args = [&["--host", "127.0.0.1", "--port=0"], more].concat();
    Process::start(&mut command(&args))
}

#[tokio::test]
async fn the_first_line_names_the_address() {
    let server = on_loopback(&[]);
    assert_ne!(server.address.port(), 0);
    let mut client = Client::connect(server.address, "namespace=n").await;
    client.lock("w:a").await;
}

#[test]
fn a_variable_is_used_where_its_flag_is_not_given() {
    let mut command = command(&["-H", "127.0.0.1"]);
    command
        .env("LOCKTOPUS_HOST", "no.such.host.invalid")
        .env("LOCKTOPUS_PORT", "0");
    let server = Process::start(&mut command);
    assert_eq!(server.address.ip().to_string(), "127.0.0.1");
}

#[test]
fn a_bad_value_is_named_and_gives_exit_status_2() {
    for (args, part) in [
        (&["--port", "x"][..], "--port"),
        (&["--port=70000"], "--port"),
        (
            &["--default-abandon-timeout=-5"],
            "--default-abandon-timeout",
        ),
        (&["--nonsense"], "--nonsense"),
        (&["--port=1", "--port=2"], "--port"),
        (&["--tls-cert", "/c"], "--tls-key"),
        (
            &["--auth-token-file", "/no/such/file"],
            "/no/such/file: No such file",
        ),
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(part), "{error}");
        assert!(output.stdout.is_empty());
    }
    let mut command = command(&[]);
    let output = command
        .env("LOCKTOPUS_LOG_LOCKS", "perhaps")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("LOCKTOPUS_LOG_LOCKS"));
}

#[test]
fn help_and_version_go_to_stdout() {
    for flag in ["--help", "-h"] {
        let output = output(&[flag]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("--default-abandon-timeout"));
    }
    let output = output(&["--version"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_error_for_an_address_in_use_names_the_address() {
    let first = on_loopback(&[]);
    let port = first.address.port().to_string();
    let output = output(&["--host=127.0.0.1", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot listen on 127.0.0.1"), "{error}");
}

#[test]
fn either_signal_stops_an_idle_server_with_status_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = on_loopback(&[]);
        server.signal(signal);
        assert_eq!(server.end().0.code(), Some(0));
    }
}

#[tokio::test]
async fn the_first_signal_waits_for_locks_and_the_second_does_not() {
    for second in [false, true] {
        let server = on_loopback(&[]);
        let mut client = Client::connect(server.address, "namespace=n").await;
        client.lock("w:a").await;
        server.signal(Signal::TERM);
        until_shutting_down(server.address).await;
        if second {
            server.signal(Signal::INT);
        } else {
            client.release().await;
        }
        let ended = tokio::task::spawn_blocking(|| server.end())
            .await
            .expect("no panic");
        assert_eq!(ended.0.code(), Some(0));
    }
}

#[tokio::test]
async fn connections_and_locks_are_logged_only_with_their_flags() {
    for logged in [false, true] {
        let flags: &[&str] = if logged {
            &["--log-clients", "--log-locks"]
        } else {
            &[]
        };
        let server = on_loopback(flags);
        let mut holder = Client::connect(server.address, "namespace=n&abandon-timeout-ms=1").await;
        let mut waiter = Client::connect(server.address, "namespace=n").await;
        holder.lock("w:secret/path").await;
        waiter.enqueue("r:secret").await;
        drop(holder);
        waiter.expect("lock", "acquired").await;
        waiter.release().await;
        waiter.close().await;
        server.signal(Signal::TERM);
        let ended = tokio::task::spawn_blocking(|| server.end())
            .await
            .expect("no panic");
        for notice in [
            "client connected",
            "client disconnected",
            "lock acquired",
            "lock enqueued",
            "lock released",
            "lock abandoned",
            "lock released after the abandon timeout",
            "secret",
        ] {
            assert_eq!(ended.1.contains(notice), logged, "{notice} in {}", ended.1);
        }
    }
}

#[tokio::test]
async fn statistics_are_logged_at_the_interval() {
    let mut command = command(&["-H", "127.0.0.1", "-p", "0", "--stats-interval", "1"]);
    let mut server = Process::start(&mut command);
    let mut client = Client::connect(server.address, "namespace=my-app").await;
    client.lock("w:a").await;
    let mut log = BufReader::new(server.child.stderr.take().expect("piped"));
    let logged = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains("connections=1 namespaces=1 acquired=1 waiting=0") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("text"), 0, "the log ended");
        }
    });
    tokio::time::timeout(PATIENCE, logged)
        .await
        .expect("logged")
        .expect("no panic");
}

#[test]
fn the_start_is_logged_with_a_warning_if_every_peer_can_enter() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "secret\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    for (host, flags, tokens, warned) in [
        ("127.0.0.1", &[][..], false, false),
        ("0.0.0.0", &[], false, true),
        ("0.0.0.0", &["--auth-token-file", file], true, false),
    ] {
        let args = [&["--host", host, "--port=0", "--max-segments=77"], flags].concat();
        let server = Process::start(&mut command(&args));
        let address = server.address;
        server.signal(Signal::TERM);
        let (status, log) = server.end();
        assert!(status.success(), "{log}");
        let version = env!("CARGO_PKG_VERSION");
        let started = format!(
            "started version=\"{version}\" address={address} tls=false auth_tokens={tokens}"
        );
        for part in [&started, "segments=77"] {
            assert!(log.contains(part), "{part} in {log}");
        }
        assert_eq!(log.contains("WARN"), warned, "{log}");
        assert_eq!(log.contains("every peer on the network"), warned, "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

#[tokio::test]
async fn dropped_lines_of_the_log_are_counted() {
    let server = on_loopback(&["--log-locks"]);
    let mut client = Client::connect(server.address, "namespace=n").await;
    // More than fit into the pipe and the queue of lines, which nothing reads.
    for _ in 0..80 {
        for _ in 0..100 {
            client.send_lock("w:a").await;
            client.send_release().await;
        }
        for _ in 0..100 {
            client.expect("lock", "acquired").await;
            client.expect("release", "ready").await;
        }
    }
    let head = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (_, metrics) = http(server.address, head).await;
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("locktopus_log_lines_dropped_total "));
    let dropped: u64 = dropped
        .and_then(|count| count.parse().ok())
        .expect("a count");
    assert!(dropped > 0, "{metrics}");
}

#[tokio::test]
async fn a_server_without_file_descriptors_recovers() {
    let server = on_loopback(&[]);
    let mut first = Client::connect(server.address, "namespace=n").await;
    let pid = Pid::from_raw(server.child.id().cast_signed());
    let few = Rlimit {
        current: Some(30),
        maximum: Some(30),
    };
    prlimit(pid, Resource::Nofile, few).expect("allowed");
    let connect = || tokio::net::TcpStream::connect(server.address);
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(connect().await.expect("in the backlog"));
    }
    for _ in 0..100 {
        first.lock("w:a").await;
        first.release().await;
    }
    drop(crowd);
    let mut next = Client::connect(server.address, "namespace=n").await;
    next.lock("w:a").await;
}

#[tokio::test]
async fn after_a_signal_under_load_the_server_stops_with_the_last_lock() {
    let server = on_loopback(&[]);
    let address = server.address;
    let clients: Vec<_> = (0..8)
        .map(|number| {
            tokio::spawn(async move {
                let mut client = Client::connect(address, "namespace=n").await;
                let path = ["a", "b"][number % 2];
                let lock = json!({"action": "lock", "resources": [{"type": "w", "path": [path]}]});
                let mut rounds = 0;
                loop {
                    client.send_json(lock.clone()).await;
                    // Until it is granted, refused, or the connection is closed.
                    loop {
                        let Message::Text(text) = client.next_data().await else {
                            return rounds;
                        };
                        if text.contains("\"error\"") {
                            return rounds;
                        }
                        if text.contains("\"acquired\"") {
                            break;
                        }
                    }
                    client.release().await;
                    rounds += 1;
                }
            })
        })
        .collect();
    let mut watcher = Client::connect(address, "namespace=n").await;
    for _ in 0..50 {
        watcher.send_lock("r:a r:b").await;
        while watcher.next_json().await["state"] != "acquired" {}
        watcher.release().await;
    }
    server.signal(Signal::TERM);
    for client in clients {
        let rounds = tokio::time::timeout(PATIENCE, client).await;
        assert!(rounds.expect("it ends").expect("no panic") > 0);
    }
    let ended = tokio::task::spawn_blocking(|| server.end()).await;
    assert_eq!(ended.expect("no panic").0.code(), Some(0));
}

#[tokio::test]
async fn sighup_reloads_the_tokens_and_changes_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "old").expect("written");
    let path = file.to_str().expect("text");
    let mut server = on_loopback(&["--auth-token-file", path, "--log-format", "json"]);
    let mut client = Client::connect(server.address, "namespace=n&token=old").await;
    client.lock("w:a").await;
    std::fs::write(&file, "new").expect("written");
    server.signal(Signal::HUP);
    let mut log = BufReader::new(server.child.stderr.take().expect("piped"));
    let logged = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        // The first two lines are about the start.
        for _ in 0..3 {
            line.clear();
            log.read_line(&mut line).expect("text");
        }
        (line, log)
    });
    let (line, _log) = tokio::time::timeout(PATIENCE, logged)
        .await
        .expect("logged")
        .expect("no panic");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert!(
        line["message"].as_str().expect("text").contains("SIGHUP"),
        "{line}"
    );
    let mut other = Client::connect(server.address, "namespace=n&token=new").await;
    other.enqueue("w:a").await;
    client.release().await;
    other.expect("lock", "acquired").await;
}

#[tokio::test]
async fn invisible_characters_of_names_are_escaped_in_the_log() {
    // The first name is a\u{202e}\u{e0041}b, and the namespace is n\u{200b}.
    let query = "namespace=n%E2%80%8B&client=a%E2%80%AE%F3%A0%81%81b";
    for (format, shown) in [
        ("json", [r#""a\u202e\udb40\udc41b""#, r#""n\u200b""#]),
        ("text", [r#""a\u{202e}\u{e0041}b""#, r#""n\u{200b}""#]),
    ] {
        let mut server = on_loopback(&["--log-clients", "--log-format", format]);
        let client = Client::connect(server.address, query).await;
        let log = BufReader::new(server.child.stderr.take().expect("piped"));
        let logged = tokio::task::spawn_blocking(move || {
            let mut lines = log.lines().map(|line| line.expect("text"));
            lines.find(|line| line.contains("client ")).expect("logged")
        });
        let line = tokio::time::timeout(PATIENCE, logged).await;
        let line = line.expect("logged").expect("no panic");
        assert!(shown.iter().all(|name| line.contains(name)), "{line}");
        drop(client);
    }
}

#[tokio::test]
async fn a_revocation_is_logged_even_if_the_operator_disconnects() {
    let server = on_loopback(&[]);
    let address = server.address;
    let mut holder = Client::connect(address, "namespace=n").await;
    let mut waiter = Client::connect(address, "namespace=n").await;
    let held = holder.lock("w:a").await;
    waiter.enqueue("w:a").await;
    let head = format!("DELETE /locks/{held}?namespace=n HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let request_and_close = async {
        loop {
            let mut stream = tokio::net::TcpStream::connect(address)
                .await
                .expect("connects");
            stream.write_all(head.as_bytes()).await.expect("sent");
            drop(stream);
            // The server may have noticed the close before it read the request.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        id = waiter.expect("lock", "acquired") => assert_ne!(id, held),
        () = request_and_close => {}
    }
    waiter.release().await;
    server.signal(Signal::TERM);
    let ended = tokio::task::spawn_blocking(|| server.end()).await;
    let (_, log) = ended.expect("no panic");
    assert!(
        log.contains("lock released by force") && log.contains(&held),
        "{log}"
    );
}
