//! The contents of the pages: the status, the namespaces, and the answer to a revocation.

use super::Site;
use super::answers::Refusal;
use super::listing::json_len;
use super::long::PAGE_BYTES;
use super::query::Part;
use crate::locks::Namespace;
use crate::secrets::Pass;
use crate::shares::Party;
use locktopus_engine::RequestState;
use locktopus_protocol::pages;
use serde::Serialize;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How many namespaces the plain status shows.
const STATUS_NAMESPACES: usize = 1_000;

/// The namespaces that a pass opens, ordered by name.
fn open_to<'a>(site: &'a Site, pass: &'a Pass) -> impl Iterator<Item = Arc<Namespace>> + 'a {
    let namespaces = site.shared.namespaces.in_order();
    namespaces.filter(|namespace| pass.is_good_for(&namespace.name))
}

/// The page `/namespaces`, of about [`PAGE_BYTES`] at most.
///
/// Cost: it visits all namespaces, since it counts their connections.
pub(super) fn namespaces(site: &Site, pass: &Pass, part: &Part) -> pages::Namespaces {
    /// The bytes of an entry besides its name.
    const FRAME: usize = 150;
    let (mut connections, mut bytes) = (0, 0);
    let mut namespaces: Vec<pages::Statistics> = Vec::new();
    let mut truncated = false;
    for namespace in open_to(site, pass) {
        connections += count(namespace.connections());
        if truncated || *namespace.name <= *part.after {
            continue;
        }
        bytes += FRAME + json_len(&namespace.name);
        if namespaces.len() >= part.limit || bytes > PAGE_BYTES {
            truncated = true;
        } else {
            namespaces.push(statistics(&namespace));
        }
    }
    let last = namespaces
        .last()
        .map_or(&part.after, |last| &last.namespace);
    pages::Namespaces {
        connections,
        open: site.access.is_open(),
        truncated,
        next: truncated.then(|| last.clone()),
        uptime_ms: millis(site.started.elapsed()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        namespaces,
    }
}

/// The page `/stats_v1`.
pub(super) fn statistics(namespace: &Namespace) -> pages::Statistics {
    let stats = namespace.locks.stats();
    pages::Statistics {
        acquired: count(stats.acquired),
        connections: count(namespace.connections()),
        last_token: stats.last_token.to_string(),
        namespace: namespace.name.to_string(),
        resources: count(stats.resources),
        waiting: count(stats.waiting),
    }
}

/// The namespace of this name, if it exists.
pub(super) fn find(site: &Site, name: &str) -> Result<Arc<Namespace>, Refusal> {
    let namespace = site.shared.namespaces.get(name);
    namespace.ok_or_else(Refusal::no_such_namespace)
}

pub(super) fn state_of(state: RequestState) -> pages::RequestState {
    match state {
        RequestState::Acquired => pages::RequestState::Acquired,
        RequestState::Waiting => pages::RequestState::Waiting,
        _ => pages::RequestState::Other,
    }
}

/// Revokes a lock on the order of an operator of this address and party, and makes the answer once it has ended.
pub(super) async fn revoke(
    namespace: &Namespace,
    token: u64,
    by: (SocketAddr, Party),
) -> Result<pages::Released, Refusal> {
    let revoked = namespace
        .each_holder()
        .find_map(|holder| holder.revoke(token, by));
    let (state, left) = revoked.ok_or_else(Refusal::no_such_lock)?;
    left.await;
    Ok(pages::Released {
        state: state_of(state),
        token: token.to_string(),
    })
}

/// The page `/` for programs: version, parameters, and namespaces; about [`PAGE_BYTES`] at most.
///
/// Cost: it visits all namespaces, since it counts them.
pub(super) fn status(site: &Site, pass: &Pass) -> String {
    let config = &site.shared.config;
    let mut status = format!("Locktopus {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &dyn Display| {
        let _ = writeln!(status, "{name:<25}{value}");
    };
    let seconds = |duration: Duration| format!("{} s", duration.as_secs_f64());
    let seconds_or_none = |duration: Duration| match duration {
        Duration::ZERO => "no limit".to_owned(),
        limit => seconds(limit),
    };
    let milliseconds = |duration: Duration| format!("{} ms", duration.as_millis());
    let uptime = Duration::from_secs(site.started.elapsed().as_secs());
    line("listening on", &site.address);
    line("up for", &seconds(uptime));
    line("TLS", &site.secrets.acceptor().is_some());
    line("auth tokens", &site.secrets.are_required());
    line(
        "default abandon timeout",
        &milliseconds(config.default_abandon_timeout),
    );
    line(
        "longest abandon timeout",
        &milliseconds(config.max_abandon_timeout),
    );
    line("longest wait", &seconds_or_none(config.max_wait));
    line("ping interval", &seconds(config.ping_interval));
    line("ping timeout", &seconds(config.ping_timeout));
    line("handshake timeout", &seconds(config.handshake_timeout));
    line("threads that serve", &config.workers);
    line("connections, at most", &config.max_connections);
    line("share", &format!("{} %", config.share));
    line("request bytes, at most", &config.max_request_bytes);
    line("namespaces, at most", &config.max_namespaces);
    line("bytes of a name, at most", &config.max_namespace_bytes);
    line("message bytes, at most", &config.max_message_bytes);
    line("resources, at most", &config.max_resources);
    line("segments, at most", &config.max_segments);
    line("path depth, at most", &config.max_path_depth);
    line("path bytes, at most", &config.max_path_bytes);
    line("log clients", &config.log_clients);
    line("log locks", &config.log_locks);
    line("statistics interval", &seconds(config.stats_interval));
    let (mut total, mut shown) = (0, 0);
    let mut list = String::new();
    for namespace in open_to(site, pass) {
        total += 1;
        if shown == STATUS_NAMESPACES || list.len() > PAGE_BYTES {
            continue;
        }
        shown += 1;
        let stats = namespace.locks.stats();
        let _ = writeln!(
            list,
            "\nnamespace {:?}: {} connections, {} locks acquired, {} waiting, {} resources, last token {}",
            namespace.name,
            namespace.connections(),
            stats.acquired,
            stats.waiting,
            stats.resources,
            stats.last_token,
        );
    }
    line("namespaces", &total);
    status += &list;
    if shown < total {
        let _ = writeln!(status, "\n{} more namespaces", total - shown);
    }
    status
}

pub(super) fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers always serialize")
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
