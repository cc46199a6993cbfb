//! The command `locktopus-server` as a process: its first line, flags, exit statuses and signals.

mod common;

use common::{Client, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// A running server, ended with the test.
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

    /// The exit status and what was logged.
    fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => panic!("it does not end"),
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
async fn the_first_line_tells_the_address_in_use() {
    let server = on_loopback(&[]);
    assert_ne!(server.address.port(), 0);
    let mut client = Client::connect(server.address, "namespace=n").await;
    client.lock("w:a").await;
}

#[test]
fn variables_count_where_there_is_no_flag() {
    let mut command = command(&["-H", "127.0.0.1"]);
    command
        .env("LOCKTOPUS_HOST", "no.such.host.invalid")
        .env("LOCKTOPUS_PORT", "0");
    let server = Process::start(&mut command);
    assert_eq!(server.address.ip().to_string(), "127.0.0.1");
}

#[test]
fn a_bad_value_is_a_clear_error_and_exit_status_2() {
    for (args, part) in [
        (&["--port", "x"][..], "--port"),
        (&["--port=70000"], "--port"),
        (
            &["--default-abandon-timeout=-5"],
            "--default-abandon-timeout",
        ),
        (&["--nonsense"], "--nonsense"),
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
fn an_address_in_use_is_a_clear_error() {
    let first = on_loopback(&[]);
    let port = first.address.port().to_string();
    let output = output(&["--host=127.0.0.1", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot listen on 127.0.0.1"), "{error}");
}

#[test]
fn either_signal_ends_an_idle_server_with_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = on_loopback(&[]);
        server.signal(signal);
        assert_eq!(server.end().0.code(), Some(0));
    }
}

#[tokio::test]
async fn a_signal_waits_for_locks_and_a_second_one_does_not() {
    for second in [false, true] {
        let server = on_loopback(&[]);
        let mut client = Client::connect(server.address, "namespace=n").await;
        client.lock("w:a").await;
        server.signal(Signal::TERM);
        // It has noticed when it refuses connections.
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
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
async fn both_notices_can_be_logged() {
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
