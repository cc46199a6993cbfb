//! The server under load: one line for each figure, `name value unit`.
//!
//! ```sh
//! cargo bench -p locktopus-server --bench load
//! ```
//!
//! It starts servers, and runs `locktopus bench` against them as a process on the same machine: both share its cores.
//! `LOCKTOPUS_COMMAND` names the command; otherwise it is built first.

use serde_json::Value;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const SERVER: &str = env!("CARGO_BIN_EXE_locktopus-server");
const CONNECTIONS: [usize; 5] = [1, 16, 64, 256, 1_000];
const IDLE_CONNECTIONS: usize = 5_000;

fn main() {
    let command = command();
    idle_memory(&command);
    let server = Server::start();
    for mode in ["uncontended", "contended", "held:10000"] {
        for connections in CONNECTIONS {
            report(&server.bench(&command, mode, connections));
        }
    }
    report(&server.bench(&command, "handoff", 2));
}

/// The path of `locktopus`, of the same profile as the server.
fn command() -> PathBuf {
    if let Some(path) = env::var_os("LOCKTOPUS_COMMAND") {
        return path.into();
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = Command::new(cargo)
        .args([
            "build",
            "--release",
            "-p",
            "locktopus-client",
            "--features",
            "cli",
        ])
        .status();
    assert!(build.expect("cargo runs").success(), "no command");
    Path::new(SERVER).with_file_name("locktopus")
}

/// Prints the figures of `locktopus bench --json`.
fn report(figures: &Value) {
    let (mode, connections) = (&figures["mode"], &figures["connections"]);
    let mode = mode.as_str().expect("text").replace(':', "_");
    let name = format!("{mode}_{connections}_connections");
    let rate = figures["per_second"].as_f64().expect("a number");
    println!("{name} {rate:.0} per_second");
    for quantile in ["p50", "p99"] {
        println!("{name}_{quantile} {} us", figures["latency_us"][quantile]);
    }
}

/// The memory that an idle connection takes in the server.
fn idle_memory(command: &Path) {
    let server = Server::start();
    // The first connections start the state that all connections share.
    server.bench(command, "idle", 100);
    let before = server.resident();
    let mut bench = server.bench_command(command, "idle", IDLE_CONNECTIONS);
    let mut bench = bench.stdout(Stdio::null()).spawn().expect("starts");
    while server.connections() < IDLE_CONNECTIONS {
        assert_eq!(
            bench.try_wait().expect("a child"),
            None,
            "too few connections"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let after = server.resident();
    bench.wait().expect("a child");
    match (before, after) {
        (Some(before), Some(after)) => {
            let each = after.saturating_sub(before) / IDLE_CONNECTIONS;
            println!("idle_{IDLE_CONNECTIONS}_connections_memory {each} bytes_each");
        }
        _ => println!("# this system does not show the resident memory of a process"),
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(SERVER)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim_end().rsplit(' ').next();
        let address = address.and_then(|text| text.parse().ok());
        Server {
            child,
            address: address.expect("an address"),
        }
    }

    fn bench_command(&self, command: &Path, mode: &str, connections: usize) -> Command {
        let mut bench = Command::new(command);
        bench
            .args([
                "bench",
                "--json",
                "--namespace",
                "load",
                "--seconds",
                "2",
                "--warm-up",
                "500ms",
            ])
            .args(["--url", &format!("ws://{}", self.address), "--mode", mode])
            .args(["--connections", &connections.to_string()]);
        bench
    }

    fn bench(&self, command: &Path, mode: &str, connections: usize) -> Value {
        let mut bench = self.bench_command(command, mode, connections);
        let output = bench.stderr(Stdio::inherit()).output().expect("runs");
        assert!(output.status.success(), "{mode}: {}", output.status);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// How many connections are open.
    fn connections(&self) -> usize {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        let head = "GET /namespaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let page: Value = serde_json::from_str(body).expect("JSON");
        let connections = page["connections"].as_u64().expect("a number");
        usize::try_from(connections).expect("few")
    }

    /// Resident memory, in bytes; `None` where the system does not show it.
    fn resident(&self) -> Option<usize> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).ok()?;
        let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * 4096)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
