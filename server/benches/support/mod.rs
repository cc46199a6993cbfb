//! What the benches share.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Child;

/// Waits until a server, whose standard output is piped, prints its address.
pub(crate) fn address(server: &mut Child) -> SocketAddr {
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim_end().rsplit(' ').next();
    let address = address.and_then(|text| text.parse().ok());
    address.expect("an address")
}
