//! The routes: a request is parsed into a [`Route`] once, and then answered.

use super::Site;
use super::answers::{
    Answer, Refusal, content, json, live_page, text, varies, wants_json, wants_page,
};
use super::pages;
use super::query::{self, BadParameter, Filter, Upgrade};
use crate::locks::{Client, NotJoined};
use crate::shares::Party;
use crate::ws::{Connection, websocket_config};
use hyper::body::Incoming;
use hyper::{Request, Version};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    Namespaces { limit: usize },
    /// `/stats_v1` and `/stats`
    Statistics { namespace: String },
    /// `/locks` for programs
    Locks { namespace: String, filter: Filter },
    /// `DELETE /locks/TOKEN`
    Revoke { namespace: String, token: u64 },
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
        let (methods, route) = match request.uri().path() {
            "/" | "/locks" if wants_page(request.headers()) => (READ, Ok(Route::LivePage)),
            "/" => (READ, Ok(Route::Status)),
            "/healthz" => (READ, Ok(Route::Health)),
            "/metrics" => (READ, Ok(Route::Metrics)),
            "/namespaces" => {
                let limit = query::limit(query);
                (READ, limit.map(|limit| Route::Namespaces { limit }))
            }
            "/stats_v1" | "/stats" => {
                let namespace = query::namespace(query);
                (
                    READ,
                    namespace.map(|namespace| Route::Statistics { namespace }),
                )
            }
            "/locks" => (READ, Route::locks(query)),
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

    fn revoke(query: Option<&str>, token: &str) -> Result<Route, BadParameter> {
        Ok(Route::Revoke {
            namespace: query::namespace(query)?,
            token: query::token(token)?,
        })
    }
}

/// Answers one request.
pub(super) async fn respond(
    site: &Arc<Site>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let as_json = wants_json(request.headers());
    match answer(site, peer, request).await {
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
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Site { access, shared, .. } = &**site;
    access.check_origin(&request)?;
    match Route::parse(&request)? {
        Route::Health => Ok(text("ok\n".to_owned())),
        Route::LivePage => Ok(live_page()),
        Route::Status => {
            let pass = access.pass(&request)?;
            Ok(varies(text(pages::status(site, &pass))))
        }
        Route::Namespaces { limit } => {
            let pass = access.pass(&request)?;
            Ok(json(&pages::namespaces(site, &pass, limit)))
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
            let waiting = shared.shares.waiting_answers.try_take(party, 1);
            let waiting = waiting.map_err(|refused| Refusal::no_place(refused, "long answers"))?;
            // The list is bounded, but the walk is not: it visits every request of the namespace. Many walks at a time
            // would take processor time from the connections, even on threads of their own.
            let turn = shared.shares.answers.take(party, 1).await;
            drop(waiting);
            let listed = tokio::task::spawn_blocking(move || {
                let answer = json(&pages::locks(&namespace, &filter));
                drop(turn);
                answer
            });
            match listed.await {
                Ok(answer) => Ok(varies(answer)),
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                Err(_) => Err(Refusal::shutting_down()),
            }
        }
        Route::Revoke { namespace, token } => {
            let pass = access.check_namespace(&request, &namespace)?;
            access.check_revoke()?;
            let namespace = pages::find(site, &namespace)?;
            let by = (peer, pass.party(peer.ip()));
            Ok(json(&pages::revoke(&namespace, token, by).await?))
        }
        Route::Metrics => {
            access.check_everywhere(&request)?;
            let (kind, figures) = shared.metrics.text(&shared.namespaces.totals());
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
    let place = shared.shares.connections.try_take(party, 1);
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
