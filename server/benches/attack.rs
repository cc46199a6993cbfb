//! Attacks on the server, and a canary in another namespace: one line for each figure, `name value unit`.
//!
//! ```sh
//! cargo bench -p locktopus-server --bench attack                 # all attacks, some minutes
//! cargo bench -p locktopus-server --bench attack -- defaults     # the attacks whose names contain "defaults"
//! ```
//!
//! Each attack has a server process of its own. Attackers, canary and a poller of `/healthz` are threads of this process
//! and share the cores with the server. `taskset` can pin all of them: the server inherits the cores. Attackers have one
//! auth token, and the canary has another.
//!
//! - `release`: many connections wait with the most expensive sets behind one lock, which is released.
//! - `loop`: 100 connections lock the most expensive set and release it, over and over.
//!
//! Every path of these sets has siblings at each depth, so each walk searches at each depth. A round of the canary is a
//! lock and its release. It is compared with the same canary beside as many idle connections. The limits of the polls are
//! measured inside the server, and include the time for which the kernel runs other threads instead.

#[path = "support/mod.rs"]
mod support;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = env!("CARGO_BIN_EXE_locktopus-server");
/// The auth tokens of the two sides.
const ATTACKER: &str = "attacker";
const CANARY: &str = "canary";
/// The shortest time for which the canary is measured.
const SHORTEST: Duration = Duration::from_secs(3);
const LOOPING: usize = 100;

/// What the largest message consists of.
struct Shape {
    name: &'static str,
    flags: &'static [&'static str],
    paths: usize,
    depth: usize,
}

/// The segments of a path are one byte long, except the first and the last one.
const SHAPES: [Shape; 2] = [
    Shape {
        name: "defaults",
        flags: &[],
        paths: 63,
        depth: 63,
    },
    Shape {
        name: "maxima",
        flags: &[
            "--max-path-depth=1024",
            "--max-segments=65536",
            "--max-message-bytes=1048576",
        ],
        paths: 15,
        depth: 1_000,
    },
];

fn main() {
    let filter = env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter));
    for shape in &SHAPES {
        for waiting in [100, 500] {
            let name = format!("release_{}_{waiting}", shape.name);
            if wanted(&name) {
                release(&name, shape, waiting);
            }
        }
        let name = format!("loop_{}_{LOOPING}", shape.name);
        if wanted(&name) {
            endless(&name, shape);
        }
    }
}

/// A lock is released behind which many deep requests wait.
fn release(name: &str, shape: &Shape, waiting: usize) {
    let server = Server::start(shape.flags);
    let _siblings = shape.lock_siblings(&server);
    let mut holder = server.connect(ATTACKER);
    holder.send(&lock("w", &[shape.trunk(0, shape.depth)]));
    holder.expect("acquired");
    let mut waiters: Vec<Socket> = (0..waiting).map(|_| server.connect(ATTACKER)).collect();
    let entering = server.beside(|| {
        for (number, waiter) in waiters.iter_mut().enumerate() {
            waiter.send(&shape.set(number));
        }
        for waiter in &mut waiters {
            waiter.expect("enqueued");
        }
    });
    entering.print(&format!("{name}_entering"));
    let mut answered = Duration::ZERO;
    let released = server.beside(|| {
        let start = Instant::now();
        holder.send(r#"{"action":"release"}"#);
        holder.expect("ready");
        answered = start.elapsed();
        for waiter in &mut waiters {
            waiter.expect("acquired");
        }
    });
    released.print(name);
    println!("{name}_release_answered {:.2} ms", millis(answered));
    drop(waiters);
    server.print(name, waiting);
}

/// Many connections of one client lock and release in a loop.
fn endless(name: &str, shape: &Shape) {
    let server = Server::start(shape.flags);
    let _siblings = shape.lock_siblings(&server);
    let mut sockets: Vec<Socket> = (0..LOOPING).map(|_| server.connect(ATTACKER)).collect();
    let figures = server.beside(|| {
        let end = Instant::now() + 2 * SHORTEST;
        thread::scope(|scope| {
            for (number, socket) in sockets.iter_mut().enumerate() {
                let set = shape.set(number);
                scope.spawn(move || {
                    while Instant::now() < end {
                        socket.send(&set);
                        socket.expect("acquired");
                        socket.send(r#"{"action":"release"}"#);
                        socket.expect("ready");
                    }
                });
            }
        });
    });
    figures.print(name);
    server.print(name, LOOPING);
}

impl Shape {
    /// The first segments of a path. Paths have only the root in common.
    fn trunk(&self, number: usize, depth: usize) -> Vec<String> {
        let mut path = vec!["m".to_owned(); depth];
        path[0] = format!("{number:02}");
        path
    }

    /// The most expensive set of one message. Sets with different numbers do not conflict.
    fn set(&self, number: usize) -> String {
        let path = |of: usize| {
            let mut path = self.trunk(of, self.depth);
            path.push(number.to_string());
            path
        };
        lock("w", &(0..self.paths).map(path).collect::<Vec<_>>())
    }

    /// Locks two siblings at each depth of each path, for read and for write.
    fn lock_siblings(&self, server: &Server) -> Vec<Socket> {
        // As many segments as the defaults allow, or as fit into the larger messages.
        let most = if self.depth < 64 { 4_000 } else { 60_000 };
        let mut sockets = Vec::new();
        for mode in ["w", "r"] {
            let mut paths = Vec::new();
            let mut segments = 0;
            let mut lock_all = |paths: &mut Vec<Vec<String>>| {
                let mut socket = server.connect(ATTACKER);
                socket.send(&lock(mode, paths));
                socket.expect("acquired");
                sockets.push(socket);
                paths.clear();
            };
            for number in 0..self.paths {
                for depth in 1..self.depth {
                    let mut path = self.trunk(number, depth);
                    path.push(format!("a{mode}"));
                    if segments + path.len() > most {
                        lock_all(&mut paths);
                        segments = 0;
                    }
                    segments += path.len();
                    paths.push(path);
                }
            }
            lock_all(&mut paths);
        }
        sockets
    }
}

/// The message that locks these paths.
fn lock(mode: &str, paths: &[Vec<String>]) -> String {
    let resource =
        |path: &Vec<String>| format!(r#"{{"type":"{mode}","path":["{}"]}}"#, path.join("\",\""));
    let resources: Vec<String> = paths.iter().map(resource).collect();
    format!(
        r#"{{"action":"lock","resources":[{}]}}"#,
        resources.join(",")
    )
}

/// A WebSocket of protocol v1, without masking.
struct Socket(BufReader<TcpStream>);

impl Socket {
    fn send(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            len @ 0..126 => frame.push(0x80 | u8::try_from(len).expect("small")),
            len @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(len).expect("small").to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        // The masking key 0 changes nothing.
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.get_mut().write_all(&frame).expect("sent");
    }

    /// Reads a message, which must contain this state.
    fn expect(&mut self, state: &str) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).expect("a frame");
        let mut text = vec![0; usize::from(header[1])];
        self.0.read_exact(&mut text).expect("a short frame");
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(state), "{text}");
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
    _tokens: tempfile::NamedTempFile,
}

impl Server {
    fn start(flags: &[&str]) -> Server {
        let mut tokens = tempfile::NamedTempFile::new().expect("a file");
        write!(tokens, "{ATTACKER}\n{CANARY}\n").expect("written");
        let mut child = Command::new(SERVER)
            .args(["--host", "127.0.0.1", "--port", "0", "--share", "100"])
            .args(["--ping-interval", "0", "--auth-token-file"])
            .arg(tokens.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        Server {
            address: support::address(&mut child),
            child,
            _tokens: tokens,
        }
    }

    /// Connects to a namespace of the name of the token.
    fn connect(&self, token: &str) -> Socket {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        let mut socket = Socket(BufReader::new(stream));
        let head = format!(
            "GET /v1?namespace={token}&token={token}&abandon-timeout-ms=0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.0.get_mut().write_all(head.as_bytes()).expect("sent");
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            socket.0.read_line(&mut line).expect("a head");
        }
        socket
    }

    fn get(&self, page: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        let head = format!(
            "GET {page} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CANARY}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    fn metric(&self, name: &str) -> f64 {
        let figures = self.get("/metrics");
        let mut lines = figures.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .expect("a figure")
    }

    /// Measures the canary and the pages while the attack goes on, and for a while at least.
    fn beside(&self, attack: impl FnOnce()) -> Figures {
        let stop = AtomicBool::new(false);
        let mut took = Duration::ZERO;
        let (rounds, pages) = thread::scope(|scope| {
            let canary = scope.spawn(|| self.canary(&stop));
            let pages = scope.spawn(|| self.worst_page(&stop));
            let start = Instant::now();
            attack();
            took = start.elapsed();
            thread::sleep(SHORTEST.saturating_sub(took));
            stop.store(true, Ordering::Relaxed);
            (
                canary.join().expect("no panic"),
                pages.join().expect("no panic"),
            )
        });
        Figures {
            rounds,
            worst_page: pages,
            took,
        }
    }

    fn canary(&self, stop: &AtomicBool) -> Vec<Duration> {
        let mut socket = self.connect(CANARY);
        let mut rounds = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            socket.send(&lock("w", &[vec!["a".to_owned(), "b".to_owned()]]));
            socket.expect("acquired");
            socket.send(r#"{"action":"release"}"#);
            socket.expect("ready");
            rounds.push(start.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        rounds.sort_unstable();
        rounds
    }

    fn worst_page(&self, stop: &AtomicBool) -> Duration {
        let mut worst = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            assert!(self.get("/healthz").contains("200"));
            worst = worst.max(start.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        worst
    }

    /// Prints the polls of the server under attack, and the canary beside idle connections on a fresh server.
    fn print(self, name: &str, connections: usize) {
        for kind in ["poll", "busy_poll"] {
            let longest = self.metric(&format!("locktopus_longest_{kind}_seconds")) * 1e3;
            println!("{name}_longest_{kind} {longest:.2} ms");
            for limit in ["1ms", "5ms"] {
                let polls = self.metric(&format!("locktopus_{kind}s_over_{limit}_total"));
                println!("{name}_{kind}s_over_{limit} {polls} polls");
            }
        }
        drop(self);
        let idle = Server::start(&[]);
        let _sockets: Vec<Socket> = (0..connections).map(|_| idle.connect(ATTACKER)).collect();
        idle.beside(|| {}).print(&format!("{name}_idle"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other clients see.
struct Figures {
    /// In ascending order.
    rounds: Vec<Duration>,
    worst_page: Duration,
    took: Duration,
}

impl Figures {
    fn print(&self, name: &str) {
        let last = self.rounds.len() - 1;
        for (percent, quantile) in [(50, "p50"), (99, "p99"), (100, "worst")] {
            let round = millis(self.rounds[last * percent / 100]);
            println!("{name}_canary_{quantile} {round:.2} ms");
        }
        println!("{name}_healthz_worst {:.2} ms", millis(self.worst_page));
        println!("{name}_took {:.0} ms", millis(self.took));
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
