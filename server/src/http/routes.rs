//! The routes: a request is parsed into a [`Route`] once, and then answered.

use super::Site;
use super::answers::{
    Answer, JSON, Refusal, TEXT, content, json, live_page, text, varies, wants_json, wants_page,
};
use super::listing;
use super::long;
use super::pages::{self, json_bytes};
use super::query::{self, BadParameter, Clients, Filter, Part, Upgrade};
use super::revocation::revoke_all;
use crate::locks::{Client, NotJoined};
use crate::polls::measured;
use crate::shares::Party;
use crate::ws::{Connection, websocket_config};
use hyper::body::Incoming;
use hyper::{Method, Request, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// A request for a page, a revocation or an upgrade.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    /// `/healthz`
    Health,
    /// `/` and `/locks` for browsers
    LivePage,
    /// `/` for programs
    Status,
    /// `/namespaces`
    Namespaces(Part),
    /// `/stats_v1` and `/stats`
    Statistics { namespace: String },
    /// `/locks` for programs
    Locks { namespace: String, filter: Filter },
    /// `DELETE /locks/TOKEN`
    Revoke { namespace: String, token: u64 },
    /// `DELETE /locks`
    RevokeAll { namespace: String, clients: Clients },
    /// `/metrics`
    Metrics,
    /// `/v1`
    Upgrade(Upgrade),
}

impl Route {
    /// Reads path, method and parameters. If several are wrong, the first of them counts.
    fn parse<B>(request: &Request<B>) -> Result<Route, Refusal> {
        const READ: &str = "GET, HEAD";
        let query = request.uri().query();
        let deletes = request.method() == Method::DELETE;
        let (methods, route) = match request.uri().path() {
            "/locks" if deletes => ("DELETE", Route::revoke_all(query)),
            "/locks" if wants_page(request.headers()) => ("GET, HEAD, DELETE", Ok(Route::LivePage)),
            "/" if wants_page(request.headers()) => (READ, Ok(Route::LivePage)),
            "/" => (READ, Ok(Route::Status)),
            "/healthz" => (READ, Ok(Route::Health)),
            "/metrics" => (READ, Ok(Route::Metrics)),
            "/namespaces" => (READ, Part::parse(query).map(Route::Namespaces)),
            "/stats_v1" | "/stats" => {
                let namespace = query::namespace(query);
                (
                    READ,
                    namespace.map(|namespace| Route::Statistics { namespace }),
                )
            }
            "/locks" => ("GET, HEAD, DELETE", Route::locks(query)),
            "/v1" => ("GET", Upgrade::parse(query).map(Route::Upgrade)),
            path => {
                let token = path.strip_prefix("/locks/");
                let token = token.ok_or_else(Refusal::no_such_page)?;
                ("DELETE", Route::revoke(query, token))
            }
        };
        if !methods
            .split(", ")
            .any(|method| method == request.method().as_str())
        {
            return Err(Refusal::wrong_method(methods));
        }
        Ok(route?)
    }

    fn locks(query: Option<&str>) -> Result<Route, BadParameter> {
        Ok(Route::Locks {
            namespace: query::namespace(query)?,
            filter: Filter::parse(query)?,
        })
    }

    fn revoke_all(query: Option<&str>) -> Result<Route, BadParameter> {
        Ok(Route::RevokeAll {
            namespace: query::namespace(query)?,
            clients: Clients::parse(query)?,
        })
    }

    fn revoke(query: Option<&str>, token: &str) -> Result<Route, BadParameter> {
        Ok(Route::Revoke {
            namespace: query::namespace(query)?,
            token: query::token(token)?,
        })
    }
}

/// Answers one request. `cut` closes its connection.
pub(super) async fn respond(
    site: &Arc<Site>,
    peer: SocketAddr,
    cut: &CancellationToken,
    request: Request<Incoming>,
) -> Answer {
    let as_json = wants_json(request.headers());
    match answer(site, peer, cut, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            site.shared.metrics.refused.inc();
            refusal.answer(as_json)
        }
    }
}

async fn answer(
    site: &Arc<Site>,
    peer: SocketAddr,
    cut: &CancellationToken,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Site { access, shared, .. } = &**site;
    access.check_origin(&request)?;
    match Route::parse(&request)? {
        Route::Health => Ok(text("ok\n".to_owned())),
        Route::LivePage => Ok(live_page()),
        Route::Status => {
            let pass = access.pass(&request)?;
            let (party, here) = (pass.party(peer.ip()), Arc::clone(site));
            let work = move || pages::status(&here, &pass).into_bytes();
            let answer = long::answer(site, party, cut, TEXT, work).await?;
            Ok(varies(answer))
        }
        Route::Namespaces(part) => {
            let pass = access.pass(&request)?;
            let (party, here) = (pass.party(peer.ip()), Arc::clone(site));
            let work = move || json_bytes(&pages::namespaces(&here, &pass, &part));
            long::answer(site, party, cut, JSON, work).await
        }
        Route::Statistics { namespace } => {
            access.check_namespace(&request, &namespace)?;
            let namespace = pages::find(site, &namespace)?;
            Ok(json(&pages::statistics(&namespace)))
        }
        Route::Locks { namespace, filter } => {
            let pass = access.check_namespace(&request, &namespace)?;
            let namespace = pages::find(site, &namespace)?;
            let party = pass.party(peer.ip());
            let work = move || listing::locks(&namespace, &filter);
            let answer = long::answer(site, party, cut, JSON, work).await?;
            Ok(varies(answer))
        }
        Route::Revoke { namespace, token } => {
            let pass = access.check_namespace(&request, &namespace)?;
            access.check_revoke()?;
            let namespace = pages::find(site, &namespace)?;
            let by = (peer, pass.party(peer.ip()));
            Ok(json(&pages::revoke(&namespace, token, by).await?))
        }
        Route::RevokeAll { namespace, clients } => {
            let pass = access.check_namespace(&request, &namespace)?;
            access.check_revoke()?;
            let namespace = pages::find(site, &namespace)?;
            let by = (peer, pass.party(peer.ip()));
            let last = site.last_connection.load(Ordering::Relaxed);
            // A task of its own: the revocation is finished even if the operator disconnects.
            let work = revoke_all(namespace, clients, last, by);
            let done = tokio::spawn(measured(&shared.metrics, work)).await;
            Ok(json(&done.map_err(|_| Refusal::shutting_down())?))
        }
        Route::Metrics => {
            access.check_everywhere(&request)?;
            let turn = Arc::clone(&site.figures).acquire_owned().await;
            let shared = Arc::clone(shared);
            let figures = spawn_blocking(move || {
                let figures = shared.metrics.text(&shared.namespaces.totals());
                drop(turn);
                figures
            });
            let (kind, figures) = figures.await.map_err(|_| Refusal::shutting_down())?;
            Ok(content(kind, figures))
        }
        Route::Upgrade(asked) => {
            let party = access
                .check_namespace(&request, &asked.namespace)?
                .party(peer.ip());
            upgrade(site, peer, party, request, asked)
        }
    }
}

fn upgrade(
    site: &Site,
    peer: SocketAddr,
    party: Party,
    mut request: Request<Incoming>,
    asked: Upgrade,
) -> Result<Answer, Refusal> {
    let Site { shared, .. } = site;
    let config = &shared.config;
    let abandon_timeout = asked.check(config)?;
    let can_upgrade = request.version() >= Version::HTTP_11;
    if !can_upgrade || !hyper_tungstenite::is_upgrade_request(&request) {
        return Err(Refusal::not_an_upgrade());
    }
    let websocket_config = websocket_config(config.max_message_bytes);
    let (handshake, websocket) = hyper_tungstenite::upgrade(&mut request, Some(websocket_config))
        .map_err(|error| Refusal::bad_handshake(&error))?;
    let place = shared.shares.place(party);
    let place = place.map_err(|refused| Refusal::no_place(refused, "connections"))?;
    let id = site.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
    let client = Client {
        id,
        address: peer,
        party,
        name: asked.client,
        abandon_timeout,
    };
    // The connection joins before the answer is sent: a client with the answer finds its namespace at the pages.
    let place = Arc::new(place);
    let joined = shared
        .namespaces
        .join(&asked.namespace, client, Arc::clone(&place));
    let holder = joined.map_err(|error| match error {
        NotJoined::Closed => Refusal::shutting_down(),
        NotJoined::Full => Refusal::too_many("namespaces", config.max_namespaces),
    })?;
    let connection = Connection::new(Arc::clone(shared), holder, place);
    shared.spawn(connection.serve(websocket));
    Ok(handshake)
}
