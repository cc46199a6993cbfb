//! The contents of the pages: the status, the namespaces, their locks, and the answer to a revocation.

use super::Site;
use super::answers::Refusal;
use super::query::Filter;
use crate::locks::{self, Holder, Namespace};
use crate::secrets::Pass;
use crate::shares::Party;
use locktopus_engine::{RequestInfo, RequestState, Resource};
use locktopus_protocol::pages;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The approximate limit of a list of locks in bytes, even if its `limit` allows more requests.
const MAX_LISTED_BYTES: usize = 4 * 1024 * 1024;

/// How many namespaces the plain status shows.
const STATUS_NAMESPACES: usize = 1_000;

/// The namespaces that a pass opens, ordered by name.
fn open_to(site: &Site, pass: &Pass) -> Vec<Arc<Namespace>> {
    let mut namespaces = site.shared.namespaces.list();
    namespaces.retain(|namespace| pass.is_good_for(&namespace.name));
    namespaces
}

/// The page `/namespaces`.
pub(super) fn namespaces(site: &Site, pass: &Pass, limit: usize) -> pages::Namespaces {
    let mut namespaces = open_to(site, pass);
    let connections = namespaces
        .iter()
        .map(|namespace| count(namespace.connections()));
    let connections = connections.sum();
    let truncated = namespaces.len() > limit;
    namespaces.truncate(limit);
    pages::Namespaces {
        connections,
        namespaces: namespaces
            .iter()
            .map(|namespace| statistics(namespace))
            .collect(),
        open: site.access.is_open(),
        truncated,
        uptime_ms: millis(site.started.elapsed()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
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

/// The page `/locks`. Cost: it visits every request of the namespace, however short the list is.
pub(super) fn locks(namespace: &Namespace, filter: &Filter) -> pages::Locks {
    let last_token = namespace.locks.stats().last_token.to_string();
    let (requests, truncated) = first_requests(namespace, filter);
    // The holders are read after the requests. A holder that has joined meanwhile is ignored. A request whose holder
    // has left meanwhile has no connection in the list.
    let holders: HashMap<u64, (Instant, Arc<Holder>)> = namespace
        .holders()
        .into_iter()
        .filter_map(|holder| {
            let (token, since) = holder.current()?;
            Some((token, (since, holder)))
        })
        .collect();
    let now = Instant::now();
    let list = |request: &RequestInfo| {
        let holder = holders.get(&request.token);
        let since = holder.map(|(since, _)| now.saturating_duration_since(*since));
        request_of(request, since, holder.map(|(_, holder)| holder))
    };
    pages::Locks {
        namespace: namespace.name.to_string(),
        last_token: Some(last_token),
        truncated,
        requests: requests.values().map(list).collect(),
    }
}

/// The requests with the smallest tokens that fit on a page, and whether others are left out.
///
/// It never keeps more than one page in memory, since the largest sets of all clients take gigabytes.
fn first_requests(namespace: &Namespace, filter: &Filter) -> (BTreeMap<u64, RequestInfo>, bool) {
    let mut first = BTreeMap::new();
    let mut bytes = 0;
    let mut left_out = u64::MAX;
    for request in namespace.locks.requests() {
        if request.token >= left_out || !filter.keeps(&request) {
            continue;
        }
        bytes += size(&request);
        first.insert(request.token, request);
        while first.len() > filter.limit || (bytes > MAX_LISTED_BYTES && first.len() > 1) {
            let Some((token, last)) = first.pop_last() else {
                break;
            };
            bytes -= size(&last);
            left_out = token;
        }
    }
    (first, left_out < u64::MAX)
}

/// About the bytes of a request in JSON.
fn size(request: &RequestInfo) -> usize {
    const FRAME: usize = 26;
    let size_of = |resource: &Resource| {
        let segments = resource.path.segments();
        FRAME + segments.map(|segment| segment.len() + 3).sum::<usize>()
    };
    request.resources.iter().map(size_of).sum()
}

fn request_of(
    request: &RequestInfo,
    since: Option<Duration>,
    holder: Option<&Arc<Holder>>,
) -> pages::LockRequest {
    pages::LockRequest {
        token: request.token.to_string(),
        state: state_of(request.state),
        since_ms: since.map(millis),
        resources: request.resources.iter().map(locks::from_engine).collect(),
        waits_for: request.waits_for.map(|token| token.to_string()),
        connection: holder.map(|holder| {
            let remaining = holder.remaining();
            pages::Connection {
                id: holder.client.id,
                address: holder.client.address.to_string(),
                client: holder.client.name.clone(),
                connected: remaining.is_none(),
                abandon_timeout_ms: millis(holder.client.abandon_timeout),
                released_in_ms: remaining.map(millis),
            }
        }),
    }
}

fn state_of(state: RequestState) -> pages::RequestState {
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
        .holders()
        .iter()
        .find_map(|holder| holder.revoke(token, by));
    let (state, left) = revoked.ok_or_else(Refusal::no_such_lock)?;
    left.await;
    Ok(pages::Released {
        state: state_of(state),
        token: token.to_string(),
    })
}

/// The page `/` for programs: version, parameters, and namespaces.
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
    let namespaces = open_to(site, pass);
    line("namespaces", &namespaces.len());
    for namespace in namespaces.iter().take(STATUS_NAMESPACES) {
        let stats = namespace.locks.stats();
        let _ = writeln!(
            status,
            "\nnamespace {:?}: {} connections, {} locks acquired, {} waiting, {} resources, last token {}",
            namespace.name,
            namespace.connections(),
            stats.acquired,
            stats.waiting,
            stats.resources,
            stats.last_token,
        );
    }
    if namespaces.len() > STATUS_NAMESPACES {
        let _ = writeln!(
            status,
            "\n{} more namespaces",
            namespaces.len() - STATUS_NAMESPACES
        );
    }
    status
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
