//! The server under load, beside a bare WebSocket echo: one line for each figure, `name value unit`.
//!
//! ```sh
//! cargo bench -p locktopus-server --bench load
//! ```
//!
//! `locktopus bench` is the load generator. `LOCKTOPUS_COMMAND` names it; otherwise it is built first. Each figure is the
//! median of three runs, in two placements: server and generator on one core, and each on a core of its own. The
//! placement decides the figures on a virtual machine: waking a process on another core costs ten times as much.
//! The echo answers each message of the generator with the text that the server would send, and does nothing else.
//! So the ratio of both is the cost of the protocol and of the lock table.

#[path = "load/echo.rs"]
mod echo;
#[path = "load/process.rs"]
mod process;
#[path = "support/mod.rs"]
mod support;

use process::{Place, Server, command};
use serde_json::Value;
use std::path::Path;

const RUNS: usize = 3;
const IDLE_CONNECTIONS: usize = 5_000;
/// The connections of a burst: each leaves a message of this many bytes unfinished.
const BURST: usize = 5_000;
const BURST_BYTES: usize = 60_000;
/// Seconds after the burst at which the memory is read again.
const BURST_REST: u64 = 15;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(echo::ARGUMENT) {
        return echo::serve();
    }
    let command = command();
    idle_memory(&command);
    burst_memory();
    for place in Place::ALL {
        for connections in [1, 64] {
            beside_the_echo(&command, place, connections);
        }
        for (mode, connections) in [
            ("contended", 16),
            ("contended", 256),
            ("uncontended", 1_000),
            ("held:10000", 64),
            ("handoff", 2),
        ] {
            let server = Server::start(place, &[]);
            let runs = [(); RUNS].map(|()| Figures::of(&server, &command, mode, connections));
            let name = format!("{place}_{}_{connections}", mode.replace(':', "_"));
            Figures::median(runs).print(&name);
        }
    }
}

/// Rounds of independent connections, and the same against the echo. Runs alternate, so that both meet the same noise.
fn beside_the_echo(command: &Path, place: Place, connections: usize) {
    let [server, echo] = [Server::start(place, &[]), Server::echo(place)];
    let run = |server| Figures::of(server, command, "uncontended", connections);
    let pairs = [(); RUNS].map(|()| (run(&server), run(&echo)));
    let name = format!("{place}_uncontended_{connections}");
    let ours = Figures::median(pairs.map(|pair| pair.0));
    let bare = Figures::median(pairs.map(|pair| pair.1));
    ours.print(&name);
    bare.print(&format!("{name}_echo"));
    println!("{name}_rate_to_echo {:.2} ratio", ours.rate / bare.rate);
    println!(
        "{name}_cpu_over_echo {:.2} us_each",
        ours.cpu_micros - bare.cpu_micros
    );
}

/// The figures of one run.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    /// What the server took of its processors for each round.
    cpu_micros: f64,
}

impl Figures {
    fn of(server: &Server, command: &Path, mode: &str, connections: usize) -> Figures {
        let before = server.cpu();
        let report = server.bench(command, mode, connections);
        let cpu = server.cpu().saturating_sub(before);
        let number = |value: &Value| value.as_f64().expect("a number");
        Figures {
            rate: number(&report["per_second"]),
            p50: number(&report["latency_us"]["p50"]),
            p99: number(&report["latency_us"]["p99"]),
            cpu_micros: cpu.as_secs_f64() * 1e6 / number(&report["count"]),
        }
    }

    fn median(runs: [Figures; RUNS]) -> Figures {
        let median = |figure: fn(&Figures) -> f64| {
            let mut values = runs.each_ref().map(figure);
            values.sort_by(f64::total_cmp);
            values[RUNS / 2]
        };
        Figures {
            rate: median(|run| run.rate),
            p50: median(|run| run.p50),
            p99: median(|run| run.p99),
            cpu_micros: median(|run| run.cpu_micros),
        }
    }

    fn print(&self, name: &str) {
        println!("{name} {:.0} per_second", self.rate);
        println!("{name}_p50 {:.0} us", self.p50);
        println!("{name}_p99 {:.0} us", self.p99);
        println!("{name}_cpu {:.2} us_each", self.cpu_micros);
    }
}

/// The memory that an idle connection takes in the server.
fn idle_memory(command: &Path) {
    let server = Server::start(Place::Apart, &[]);
    // The first connections start the state that all connections share.
    server.bench(command, "idle", 100);
    let before = server.resident();
    let mut bench = server.start_bench(command, "idle", IDLE_CONNECTIONS);
    while server.connections() < IDLE_CONNECTIONS {
        let ended = bench.try_wait().expect("a child");
        assert_eq!(ended, None, "too few connections");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let each = server.resident().saturating_sub(before) / IDLE_CONNECTIONS;
    bench.wait().expect("a child");
    println!("idle_{IDLE_CONNECTIONS}_connections_memory {each} bytes_each");
}

/// How much of the memory of unfinished messages stays with the server after their connections are closed.
fn burst_memory() {
    let server = Server::start(Place::Apart, &[]);
    drop(server.unfinished_messages(100, 1));
    let before = server.resident();
    let burst = server.unfinished_messages(BURST, BURST_BYTES);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let most = server.resident();
    drop(burst);
    std::thread::sleep(std::time::Duration::from_secs(BURST_REST));
    let after = server.resident();
    println!("burst_memory {} MB", most / 1_000_000);
    let stays = after.saturating_sub(before) as f64 / most.saturating_sub(before) as f64;
    println!("burst_stays {:.0} percent", stays * 100.0);
}
