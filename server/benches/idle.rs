//! What an idle connection takes in the server, one line a case: `name value unit`.
//!
//! ```sh
//! cargo bench -p locktopus-server --bench idle
//! ```

use rustix::process::{Resource, getrlimit};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

/// Open files of each process that are no connections.
const OTHER_FILES: u64 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = files.saturating_sub(OTHER_FILES).min(5_000);
    let mut server = Command::new(env!("CARGO_BIN_EXE_locktopus-server"))
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line
        .trim_end()
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok());
    let address: SocketAddr = address.expect("an address");

    // Whatever the first connections bring up once is not theirs.
    let warm_up = connect(address, 100).await;
    let before = resident(server.id());
    let connections = connect(address, count).await;
    let after = resident(server.id());
    match (before, after) {
        (Some(before), Some(after)) => {
            println!("idle_connections {count} count");
            println!(
                "idle_connection_memory {:.0} bytes",
                (after - before) / count as f64
            );
        }
        _ => println!("# this system does not tell the resident memory of a process"),
    }
    drop((warm_up, connections));
    server.kill().expect("running");
    server.wait().expect("a child");
}

async fn connect(address: SocketAddr, count: u64) -> Vec<impl Sized> {
    let mut connections = Vec::new();
    for i in 0..count {
        let stream = TcpStream::connect(address).await.expect("connects");
        // A hundred applications.
        let url = format!("ws://{address}/v1?namespace=app-{}", i % 100);
        connections.push(client_async(url, stream).await.expect("upgraded"));
    }
    connections
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<f64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}
