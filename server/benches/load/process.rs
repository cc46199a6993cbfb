//! The processes of the bench: servers, and the load generator, on chosen cores.

use super::{echo, support};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use std::env;
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SERVER: &str = env!("CARGO_BIN_EXE_locktopus-server");

/// The path of `locktopus`, of the same profile as the server.
pub(crate) fn command() -> PathBuf {
    if let Some(path) = env::var_os("LOCKTOPUS_COMMAND") {
        return path.into();
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = ["-p", "locktopus-client", "--features", "cli"];
    let build = Command::new(cargo)
        .args(["build", "--release"])
        .args(package)
        .status();
    assert!(build.expect("cargo runs").success(), "no command");
    Path::new(SERVER).with_file_name("locktopus")
}

/// The cores on which server and generator run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Both on the first core.
    OneCore,
    /// The server on the first core, and the generator on the second.
    Apart,
}

impl Place {
    pub(crate) const ALL: [Place; 2] = [Place::OneCore, Place::Apart];

    fn server(self) -> usize {
        0
    }

    fn generator(self) -> usize {
        match self {
            Place::OneCore => 0,
            Place::Apart => 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::OneCore => "one_core",
            Place::Apart => "apart",
        })
    }
}

/// Starts a process on one of the cores that this process may use. A child inherits the cores of its parent.
fn spawn_on(core: usize, command: &mut Command) -> Child {
    let before = sched_getaffinity(None).expect("the cores of this process");
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| before.is_set(cpu))
        .collect();
    let mut only = CpuSet::new();
    only.set(allowed[core % allowed.len()]);
    sched_setaffinity(None, &only).expect("an allowed core");
    let child = command.spawn();
    sched_setaffinity(None, &before).expect("the former cores");
    child.expect("starts")
}

pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    place: Place,
}

impl Server {
    /// One party has all connections here, and none of its own share.
    pub(crate) fn start(place: Place, flags: &[&str]) -> Server {
        let mut server = Command::new(SERVER);
        server
            .args(["--host", "127.0.0.1", "--port", "0", "--share", "100"])
            .args(flags);
        Server::spawn(place, server)
    }

    pub(crate) fn echo(place: Place) -> Server {
        let mut server = Command::new(env::current_exe().expect("this program"));
        server.arg(echo::ARGUMENT);
        Server::spawn(place, server)
    }

    fn spawn(place: Place, mut server: Command) -> Server {
        let server = server.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = spawn_on(place.server(), server);
        Server {
            address: support::address(&mut child),
            child,
            place,
        }
    }

    pub(crate) fn start_bench(&self, command: &Path, mode: &str, connections: usize) -> Child {
        let mut bench = Command::new(command);
        bench
            .args(["bench", "--json", "--namespace", "load"])
            .args(["--seconds", "2", "--warm-up", "0ms"])
            .args(["--url", &format!("ws://{}", self.address), "--mode", mode])
            .args(["--connections", &connections.to_string()])
            .stdout(Stdio::piped());
        spawn_on(self.place.generator(), &mut bench)
    }

    pub(crate) fn bench(&self, command: &Path, mode: &str, connections: usize) -> Value {
        let bench = self.start_bench(command, mode, connections);
        let output = bench.wait_with_output().expect("runs");
        assert!(output.status.success(), "{mode}: {}", output.status);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Connections that have sent a part of a message each.
    pub(crate) fn unfinished_messages(&self, connections: usize, bytes: usize) -> Vec<TcpStream> {
        const UPGRADE: &[u8] = b"GET /v1?namespace=load HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // A text frame of 64 KiB with the masking key 0.
        const HEADER: &[u8] = &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let part = [HEADER, &vec![b'['; bytes]].concat();
        let open = || {
            let mut stream = TcpStream::connect(self.address).expect("connects");
            stream.write_all(UPGRADE).expect("sent");
            let mut answer = [0; 1024];
            let read = stream.read(&mut answer).expect("an answer");
            assert!(answer[..read].starts_with(b"HTTP/1.1 101"), "an upgrade");
            stream.write_all(&part).expect("sent");
            stream
        };
        (0..connections).map(|_| open()).collect()
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
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

    /// The resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        const PAGE: usize = 4096;
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("Linux");
        let pages = statm.split_whitespace().nth(1).expect("a field");
        pages.parse::<usize>().expect("a number") * PAGE
    }

    /// The time that its threads have run.
    pub(crate) fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("Linux");
        let nanos = threads.map(|thread| {
            let stat = thread.expect("a thread").path().join("schedstat");
            let stat = fs::read_to_string(stat).unwrap_or_default();
            let running = stat.split_whitespace().next();
            running.map_or(0, |nanos| nanos.parse().expect("a number"))
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
