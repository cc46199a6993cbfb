//! Who may enter: origins of web pages, and auth tokens.

use crate::answers::Refusal;
use crate::query::parameter;
use crate::secrets::{Pass, Secrets};
use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use std::net::{IpAddr, SocketAddr};

/// Who may enter.
#[derive(Debug)]
pub(crate) struct Access {
    secrets: Secrets,
    origins: Vec<String>,
    /// Nobody but this machine can connect.
    loopback_only: bool,
}

impl Access {
    pub(crate) fn new(secrets: Secrets, origins: Vec<String>, address: SocketAddr) -> Access {
        Access {
            secrets,
            origins,
            loopback_only: address.ip().to_canonical().is_loopback(),
        }
    }

    /// Refuses what a web page of another origin makes a browser send.
    ///
    /// A page may be the server's own by name only: of a name that leads to this machine since its
    /// owner says so (DNS rebinding). So on loopback only pages of a name of loopback count as own.
    /// What a browser sends without an Origin, to read a page, is not held back by this.
    pub(crate) fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
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

    /// What the token of a request is good for; everything if the server asks for none.
    pub(crate) fn pass<B>(&self, request: &Request<B>) -> Result<Pass, Refusal> {
        if !self.secrets.are_asked_for() {
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

    /// As [`pass`](Access::pass), for this namespace.
    pub(crate) fn check_namespace<B>(
        &self,
        request: &Request<B>,
        namespace: &str,
    ) -> Result<(), Refusal> {
        if self.pass(request)?.is_good_for(namespace) {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "the auth token is not good for this namespace",
        ))
    }

    /// As [`pass`](Access::pass), for what concerns all namespaces.
    pub(crate) fn check_everywhere<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if self.pass(request)?.is_good_everywhere() {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "the auth token is good for some namespaces only, and this concerns all",
        ))
    }

    /// Whether somebody without a token may take locks away, if the server asks for no tokens.
    pub(crate) fn check_force(&self) -> Result<(), Refusal> {
        if self.loopback_only || self.secrets.are_asked_for() {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "locks are released by force only with an auth token (--auth-token-file), or where the \
             server listens on loopback only",
        ))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // What is not text equals nothing that is allowed.
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

/// Whether a Host header names this machine, in a way that nobody else can point here.
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
    fn pages_of_the_server_itself_and_programs_may_enter() {
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
    fn pages_of_others_may_not_unless_they_are_named() {
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
    fn a_name_that_was_pointed_at_loopback_is_not_the_servers_own() {
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
