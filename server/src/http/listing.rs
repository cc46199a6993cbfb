//! The page `/locks`: the requests of a namespace, a page at a time.

use super::long::PAGE_BYTES;
use super::pages::{json_bytes, millis, state_of};
use super::query::{self, Filter};
use crate::locks::{self, Holder, Namespace};
use locktopus_engine::{Place, RequestInfo};
use locktopus_protocol::{Resource, pages};
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How much work the search for the requests of a page is, in about microseconds. A filter that keeps few requests
/// would otherwise visit all requests of the namespace in one call.
const SEARCH: usize = 25_000;

/// About the bytes of a request besides its resources and the name of its client.
const FRAME: usize = 350;

/// The JSON of the page, of about [`PAGE_BYTES`] unless the first request is larger.
///
/// It never has more than one page in memory. Cost: [`SEARCH`], and one look at each holder of the namespace.
pub(super) fn locks(namespace: &Namespace, filter: &Filter) -> Vec<u8> {
    let last_token = namespace.locks.stats().last_token.to_string();
    let page = find(namespace, filter);
    let listed = Listed {
        // The holders are read after the requests. A holder that has joined meanwhile is ignored. A request whose
        // holder has left meanwhile has no connection in the list.
        holders: holders_of(namespace, &page.requests),
        requests: page.requests,
        now: Instant::now(),
    };
    let page = pages::Locks {
        namespace: namespace.name.to_string(),
        last_token: Some(last_token),
        truncated: page.next.is_some(),
        next: page.next.map(|place| query::write_place(&place)),
        requests: listed,
    };
    json_bytes(&page)
}

struct Page {
    requests: Vec<RequestInfo>,
    /// Where the next page begins, unless there is none.
    next: Option<Place>,
}

/// The first requests from a place on that fit on a page.
fn find(namespace: &Namespace, filter: &Filter) -> Page {
    let from = filter.after.as_ref().unwrap_or(&Place::START);
    let mut listing = namespace.locks.requests_from(from).within(SEARCH);
    let mut requests = Vec::new();
    let mut bytes = 0;
    loop {
        let before = listing.place();
        let Some(request) = listing.next() else {
            let next = listing.place();
            return Page { requests, next };
        };
        if !filter.keeps(&request) {
            continue;
        }
        bytes += size(&request);
        if requests.len() >= filter.limit || (bytes > PAGE_BYTES && !requests.is_empty()) {
            let next = before;
            return Page { requests, next };
        }
        requests.push(request);
    }
}

/// About the bytes of a request in JSON.
fn size(request: &RequestInfo) -> usize {
    const RESOURCE: usize = 26;
    let size_of = |resource: &locktopus_engine::Resource| {
        let segments = resource.path.segments();
        RESOURCE
            + segments
                .map(|segment| json_len(&segment) + 1)
                .sum::<usize>()
    };
    FRAME + request.resources.iter().map(size_of).sum::<usize>()
}

/// The bytes of a text in JSON, with its quotation marks.
pub(super) fn json_len(text: &str) -> usize {
    let byte_len = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(byte_len).sum::<usize>()
}

type Found = HashMap<u64, (Instant, Arc<Holder>)>;

/// The holders of these requests, by their tokens.
fn holders_of(namespace: &Namespace, requests: &[RequestInfo]) -> Found {
    let mut found: HashMap<u64, Option<(Instant, Arc<Holder>)>> = requests
        .iter()
        .map(|request| (request.token, None))
        .collect();
    if !found.is_empty() {
        for holder in namespace.each_holder() {
            if let Some((token, since)) = holder.current()
                && let Some(slot) = found.get_mut(&token)
            {
                *slot = Some((since, holder));
            }
        }
    }
    let found = found.into_iter();
    found
        .filter_map(|(token, holder)| Some((token, holder?)))
        .collect()
}

/// The requests of a page, of which each is converted while it is written.
struct Listed {
    requests: Vec<RequestInfo>,
    holders: Found,
    now: Instant,
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.requests.iter().map(|request| {
            let holder = self.holders.get(&request.token);
            let since = holder.map(|(since, _)| self.now.saturating_duration_since(*since));
            request_of(request, since, holder.map(|(_, holder)| holder))
        }))
    }
}

fn request_of(
    request: &RequestInfo,
    since: Option<Duration>,
    holder: Option<&Arc<Holder>>,
) -> pages::LockRequest {
    let resources: Vec<Resource> = request.resources.iter().map(locks::from_engine).collect();
    pages::LockRequest {
        token: request.token.to_string(),
        state: state_of(request.state),
        since_ms: since.map(millis),
        resources,
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
