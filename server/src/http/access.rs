//! Access control: the origins of web pages, and auth tokens.

use super::answers::Refusal;
use super::query::parameter;
use crate::secrets::{Pass, Secrets};
use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use std::net::{IpAddr, SocketAddr};

/// Decides which requests are allowed.
#[derive(Debug)]
pub(super) struct Access {
    secrets: Secrets,
    /// Allowed origins besides the server's own, in lower case; `*` allows all.
    origins: Vec<String>,
    /// Whether only this machine can connect.
    loopback_only: bool,
}

impl Access {
    pub(super) fn new(secrets: Secrets, origins: Vec<String>, address: SocketAddr) -> Access {
        Access {
            secrets,
            origins,
            loopback_only: address.ip().to_canonical().is_loopback(),
        }
    }

    /// Refuses requests that a web page of another origin makes a browser send.
    ///
    /// The Host header alone does not prove that a page is the server's own: the owner of a domain can point its name
    /// at this machine (DNS rebinding). A server on loopback therefore accepts only pages of loopback names as its own.
    /// This does not stop a page that reads without an Origin header.
    pub(super) fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let Some(origin) = header(request.headers(), &ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_ascii_lowercase();
        let host = header(request.headers(), &HOST).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority == host)
            && (!self.loopback_only || is_loopback_name(&host));
        let allowed = |allowed: &String| *allowed == origin || allowed == "*";
        if own || self.origins.iter().any(allowed) {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "requests of this Origin are not allowed; the server's --allow-origin names those that are",
        ))
    }

    /// The namespaces that the token of a request opens; all if the server requires no tokens.
    pub(super) fn pass<B>(&self, request: &Request<B>) -> Result<Pass, Refusal> {
        if !self.secrets.are_required() {
            return Ok(Pass::everywhere());
        }
        let header = header(request.headers(), &AUTHORIZATION);
        let bearer = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
        let token = bearer.or_else(|| parameter(request.uri().query(), "token"));
        let token = token.ok_or_else(|| {
            Refusal::unauthorized(
                "an auth token is required: the header 'Authorization: Bearer TOKEN' or the URL \
                 parameter 'token'",
            )
        })?;
        self.secrets
            .pass(&token)
            .ok_or_else(|| Refusal::unauthorized("the auth token is not known here"))
    }

    /// As [`pass`](Access::pass), for one namespace. Returns the pass.
    pub(super) fn check_namespace<B>(
        &self,
        request: &Request<B>,
        namespace: &str,
    ) -> Result<Pass, Refusal> {
        let pass = self.pass(request)?;
        if pass.is_good_for(namespace) {
            return Ok(pass);
        }
        Err(Refusal::forbidden(
            "the auth token is not good for this namespace",
        ))
    }

    /// As [`pass`](Access::pass), for a request that concerns all namespaces.
    pub(super) fn check_everywhere<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if self.pass(request)?.is_good_everywhere() {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "the auth token is good for some namespaces only, and this concerns all",
        ))
    }

    /// Whether every peer on the network may use the server: it requires no tokens and listens on more than loopback.
    pub(super) fn is_open(&self) -> bool {
        !self.loopback_only && !self.secrets.are_required()
    }

    /// Refuses to revoke locks if the server is [open](Access::is_open).
    pub(super) fn check_revoke(&self) -> Result<(), Refusal> {
        if !self.is_open() {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "locks are released by force only with an auth token (--auth-token-file), or where the \
             server listens on loopback only",
        ))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A value that is not text must not count as absent; this one equals no allowed value.
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

/// Whether a Host header is a name of this machine that another party cannot point elsewhere.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<IpAddr>();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(access: &Access, origin: Option<&str>, host: &str) -> bool {
        let mut request = Request::builder().header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        access
            .check_origin(&request.body(()).expect("valid"))
            .is_ok()
    }

    fn access(origins: &[&str], ip: [u8; 4]) -> Access {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Access::new(Secrets::default(), origins, SocketAddr::from((ip, 9009)))
    }

    #[test]
    fn the_servers_own_pages_and_programs_are_allowed() {
        for ip in [[0, 0, 0, 0], [127, 0, 0, 1]] {
            let access = access(&[], ip);
            assert!(allows(&access, None, "anything"));
            for host in ["localhost:9009", "127.0.0.1:9009", "[::1]:9009"] {
                assert!(allows(&access, Some(&format!("http://{host}")), host));
                assert!(allows(&access, Some(&format!("HTTPS://{host}")), host));
            }
        }
        assert!(allows(
            &access(&[], [0, 0, 0, 0]),
            Some("http://locks:9009"),
            "Locks:9009"
        ));
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_named() {
        let some = access(&["https://example.com"], [0, 0, 0, 0]);
        assert!(allows(&some, Some("https://example.com"), "locks"));
        for origin in [
            "http://example.com",
            "https://example.com.evil",
            "null",
            "",
            "\u{fffd}",
        ] {
            assert!(!allows(&some, Some(origin), "locks"), "{origin}");
            assert!(allows(&access(&["*"], [0, 0, 0, 0]), Some(origin), "locks"));
        }
    }

    #[test]
    fn a_foreign_name_that_points_at_loopback_is_not_the_servers_own() {
        let access = access(&[], [127, 0, 0, 1]);
        for host in [
            "evil.example:9009",
            "127.0.0.1.evil.example:9009",
            "localhost.evil:1",
        ] {
            assert!(
                !allows(&access, Some(&format!("http://{host}")), host),
                "{host}"
            );
        }
    }
}
