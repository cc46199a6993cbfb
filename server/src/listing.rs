//! Who holds what, who waits, and why: `/namespaces`, `/locks`, and taking a lock away.

use crate::Server;
use crate::answers::{Answer, Refusal, json};
use crate::clients::Client;
use crate::namespaces::Namespace;
use crate::query::parameter;
use crate::secrets::Pass;
use locktopus_engine::{Mode, Path, RequestInfo, RequestState, Resource};
use locktopus_protocol::path;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::info;

/// The tasks of connections hear of a doom at once: longer means that something is very wrong.
const DOOM_TIMEOUT: Duration = Duration::from_secs(10);

/// The namespaces into which somebody may look.
pub(crate) fn namespaces(server: &Server, pass: &Pass) -> Answer {
    let mut all = server.namespaces.list();
    all.retain(|namespace| pass.is_good_for(&namespace.name));
    let connections: usize = all.iter().map(|namespace| namespace.connections()).sum();
    json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": millis(server.started.elapsed()),
        "connections": connections,
        "namespaces": all.iter().map(|namespace| statistics(namespace)).collect::<Vec<_>>(),
    }))
}

/// The figures of a namespace.
pub(crate) fn statistics(namespace: &Namespace) -> Value {
    let stats = namespace.locks.stats();
    json!({
        "namespace": namespace.name,
        "connections": namespace.connections(),
        "acquired": stats.acquired,
        "waiting": stats.waiting,
        "resources": stats.resources,
        "last_token": stats.last_token.to_string(),
    })
}

/// The namespace that a query names.
pub(crate) fn named(server: &Server, name: &str) -> Result<Arc<Namespace>, Refusal> {
    server.namespaces.get(name).ok_or_else(|| {
        Refusal::not_found(
            "namespace not found; it exists while clients are connected to it or hold locks in it",
        )
    })
}

/// What of the locks is asked for.
pub(crate) struct Filter {
    path: Option<Path>,
    limit: usize,
}

impl Filter {
    pub(crate) fn parse(query: Option<&str>) -> Result<Filter, Refusal> {
        let path = match parameter(query, "path") {
            None => None,
            Some(text) => Some(Path::from(path::parse(&text).map_err(|error| {
                Refusal::bad_request(format!("URL parameter 'path' is not a path: {error}"))
            })?)),
        };
        let limit = match parameter(query, "limit") {
            None => usize::MAX,
            Some(text) => crate::flags::whole_number(&text).ok_or_else(|| {
                Refusal::bad_request("URL parameter 'limit' must be a whole number, 0 or more")
            })?,
        };
        Ok(Filter { path, limit })
    }

    /// Whether one of its resources is above, at or below the path.
    fn keeps(&self, request: &RequestInfo) -> bool {
        self.path.as_ref().is_none_or(|path| {
            let mut resources = request.resources.iter();
            resources.any(|one| one.path.contains(path) || path.contains(&one.path))
        })
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    namespace: &'a str,
    last_token: String,
    truncated: bool,
    requests: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    token: String,
    state: RequestState,
    /// For how long it has been in this state; `None` in the moment in which it enters.
    since_ms: Option<u64>,
    resources: Vec<ListedResource>,
    waits_for: Option<String>,
    connection: Option<ListedConnection>,
}

#[derive(Serialize)]
struct ListedResource {
    #[serde(rename = "type")]
    mode: Mode,
    path: Vec<String>,
}

#[derive(Serialize)]
struct ListedConnection {
    id: u64,
    address: String,
    client: Option<String>,
    connected: bool,
    abandon_timeout_ms: u64,
    /// When it is gone: for how long it still keeps its lock.
    released_in_ms: Option<u64>,
}

/// The requests of a namespace, by token. Takes its time, if they are many.
pub(crate) fn locks(namespace: &Namespace, filter: &Filter) -> Answer {
    let last_token = namespace.locks.stats().last_token.to_string();
    let mut requests: Vec<_> = namespace.locks.requests().collect();
    requests.retain(|request| filter.keeps(request));
    requests.sort_unstable_by_key(|request| request.token);
    let truncated = requests.len() > filter.limit;
    requests.truncate(filter.limit);
    // After the requests: what came meanwhile does no harm, and what went is known to be gone.
    let owners: HashMap<u64, (Instant, Arc<Client>)> = namespace
        .clients()
        .into_iter()
        .filter_map(|client| {
            let current = client.current()?;
            Some((current.token, (current.since, client)))
        })
        .collect();
    let now = Instant::now();
    let list = |request: RequestInfo| {
        let owner = owners.get(&request.token);
        Listed {
            token: request.token.to_string(),
            state: request.state,
            since_ms: owner.map(|(since, _)| millis(now.saturating_duration_since(*since))),
            resources: request.resources.iter().map(list_resource).collect(),
            waits_for: request.waits_for.map(|token| token.to_string()),
            connection: owner.map(|(_, client)| list_connection(client)),
        }
    };
    json(&Listing {
        namespace: &namespace.name,
        last_token,
        truncated,
        requests: requests.into_iter().map(list).collect(),
    })
}

fn list_resource(resource: &Resource) -> ListedResource {
    ListedResource {
        mode: resource.mode,
        path: resource
            .path
            .segments()
            .map(|segment| segment.into_owned())
            .collect(),
    }
}

fn list_connection(client: &Client) -> ListedConnection {
    let remaining = client.remaining();
    ListedConnection {
        id: client.id,
        address: client.address.to_string(),
        client: client.name.clone(),
        connected: remaining.is_none(),
        released_in_ms: remaining.map(millis),
        abandon_timeout_ms: millis(client.abandon_timeout),
    }
}

/// Takes a lock away: releases it, or withdraws the request, and closes the connection.
pub(crate) async fn release(
    server: &Server,
    address: SocketAddr,
    token: &str,
    name: &str,
) -> Result<Answer, Refusal> {
    let token: u64 = crate::flags::whole_number(token)
        .ok_or_else(|| Refusal::bad_request("the token of a lock is a whole number"))?;
    let namespace = named(server, name)?;
    let not_found =
        || Refusal::not_found("no such lock in this namespace; it may have been released just now");
    let clients = namespace.clients();
    let owner = clients
        .iter()
        .find(|client| {
            client
                .current()
                .is_some_and(|current| current.token == token)
        })
        .ok_or_else(not_found)?;
    info!(namespace = name, token, by = %address, "a lock is to be released by force");
    let doomed = timeout(DOOM_TIMEOUT, owner.doom(token))
        .await
        .map_err(|_| Refusal::unavailable("the connection of this lock does not react"))?
        .ok_or_else(not_found)?;
    let state = if doomed.acquired {
        RequestState::Acquired
    } else {
        RequestState::Waiting
    };
    Ok(json(&json!({ "token": token.to_string(), "state": state })))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
