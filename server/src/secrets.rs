//! Auth tokens, certificate and key: read from files at the start, and again at a reload.

use crate::config::Config;
use crate::error::ConfigError;
use crate::shares::Party;
use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

type BoxError = Box<dyn Error + Send + Sync>;

/// The secrets of a server; clones share them. By default there are no tokens and no certificate.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    token_file: Option<PathBuf>,
    cert_and_key: Option<(PathBuf, PathBuf)>,
    loaded: ArcSwap<Loaded>,
    /// The key of the digests that stand for tokens; it stays the same at a reload.
    digests: RandomState,
}

#[derive(Default)]
struct Loaded {
    tokens: Option<Tokens>,
    acceptor: Option<TlsAcceptor>,
}

impl Secrets {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be used, and for a certificate without a key or a key without a
    /// certificate.
    pub fn load(config: &Config) -> Result<Secrets, ConfigError> {
        let cert_and_key = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => {
                let problem = "--tls-cert and --tls-key are only allowed together";
                return Err(ConfigError::Combination(problem.to_owned()));
            }
        };
        let secrets = Secrets(Arc::new(Inner {
            token_file: config.auth_token_file.clone(),
            cert_and_key,
            loaded: ArcSwap::default(),
            digests: RandomState::new(),
        }));
        secrets.reload()?;
        Ok(secrets)
    }

    /// Reads the same files again. The new content applies to new connections; open connections continue.
    ///
    /// # Errors
    /// [`ConfigError::File`] for a file that cannot be used. The former content stays in use then.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let Inner {
            token_file,
            cert_and_key,
            loaded,
            ..
        } = &*self.0;
        let tokens = token_file.as_deref().map(Tokens::read).transpose()?;
        let acceptor = match cert_and_key {
            Some((cert, key)) => Some(acceptor(cert, key)?),
            None => None,
        };
        loaded.store(Arc::new(Loaded { tokens, acceptor }));
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.0.loaded.load().acceptor.clone()
    }

    /// Whether requests need a token.
    pub(crate) fn are_required(&self) -> bool {
        self.0.loaded.load().tokens.is_some()
    }

    /// The namespaces that this token opens, and its party; `None` for an unknown token.
    pub(crate) fn pass(&self, token: &str) -> Option<Pass> {
        let prefixes = self.0.loaded.load().tokens.as_ref()?.prefixes(token)?;
        let party = Party::of_token(self.0.digests.hash_one(token));
        Some(Pass {
            prefixes,
            party: Some(party),
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("token_file", &self.0.token_file)
            .field("cert_and_key", &self.0.cert_and_key)
            .finish_non_exhaustive()
    }
}

/// The namespaces that a request may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// A namespace must begin with one of these; the empty prefix allows all.
    prefixes: Vec<String>,
    /// The party of the token; `None` if the server requires no tokens.
    party: Option<Party>,
}

impl Pass {
    pub(crate) fn everywhere() -> Pass {
        Pass {
            prefixes: vec![String::new()],
            party: None,
        }
    }

    pub(crate) fn is_good_for(&self, namespace: &str) -> bool {
        self.prefixes
            .iter()
            .any(|prefix| namespace.starts_with(prefix))
    }

    /// The party of a request from this address.
    pub(crate) fn party(&self, address: IpAddr) -> Party {
        self.party.unwrap_or_else(|| Party::of_address(address))
    }

    pub(crate) fn is_good_everywhere(&self) -> bool {
        self.prefixes.iter().any(String::is_empty)
    }
}

/// Auth tokens, each with the prefix of its namespaces.
struct Tokens(Vec<(String, String)>);

impl Tokens {
    fn read(file: &Path) -> Result<Tokens, ConfigError> {
        let bad_file = |source: BoxError| ConfigError::file("auth token", file, source);
        let text = fs::read_to_string(file).map_err(|error| bad_file(error.into()))?;
        Tokens::parse(&text).map_err(|problem| bad_file(problem.into()))
    }

    /// Skips empty lines and lines that begin with `#`. No error shows a token.
    fn parse(text: &str) -> Result<Tokens, String> {
        let mut tokens = Vec::new();
        // Some editors begin a file with a byte order mark, which is not a part of the text.
        let text = text.trim_start_matches('\u{feff}');
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let Some(token) = words.next().filter(|token| !token.starts_with('#')) else {
                continue;
            };
            let prefix = words.next().unwrap_or_default();
            if words.next().is_some() {
                return Err(format!(
                    "line {} has more than a token and a prefix of namespaces",
                    index + 1
                ));
            }
            tokens.push((token.to_owned(), prefix.to_owned()));
        }
        if tokens.is_empty() {
            return Err("it has no token".to_owned());
        }
        Ok(Tokens(tokens))
    }

    /// Compares with every token, each in a time that does not depend on where the two differ. The time may reveal
    /// the lengths of the tokens, which do not help to guess them.
    fn prefixes(&self, given: &str) -> Option<Vec<String>> {
        let given = given.as_bytes();
        let matches: Vec<(Choice, &String)> = self
            .0
            .iter()
            .map(|(token, prefix)| (token.as_bytes().ct_eq(given), prefix))
            .collect();
        let prefixes: Vec<String> = matches
            .into_iter()
            .filter(|(equal, _)| bool::from(*equal))
            .map(|(_, prefix)| prefix.clone())
            .collect();
        (!prefixes.is_empty()).then_some(prefixes)
    }
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, ConfigError> {
    let bad_cert = |source: BoxError| ConfigError::file("certificate", cert, source);
    let bad_key = |source: BoxError| ConfigError::file("key", key, source);
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| bad_cert(error.into()))?;
    if chain.is_empty() {
        return Err(bad_cert("it has no certificate".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad_key(error.into()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| bad_cert(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_namespaces() {
        let tokens = Tokens::parse("# ours\nall\n\nsome app-\nsome web-\n").expect("good");
        let pass = |token| {
            let prefixes = tokens.prefixes(token)?;
            Some(Pass {
                prefixes,
                party: None,
            })
        };
        assert!(pass("all").expect("known").is_good_everywhere());
        let some = pass("some").expect("known");
        assert!(some.is_good_for("app-1") && some.is_good_for("web-") && !some.is_good_for("app"));
        assert!(!some.is_good_everywhere());
        for unknown in ["", "al", "alll", "ALL", "#"] {
            assert_eq!(pass(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn the_party_of_a_token_does_not_depend_on_the_address() {
        let tokens = Tokens::parse("one a-\ntwo\none b-\n").expect("good");
        let inner = Inner {
            loaded: ArcSwap::from_pointee(Loaded {
                tokens: Some(tokens),
                acceptor: None,
            }),
            ..Inner::default()
        };
        let secrets = Secrets(Arc::new(inner));
        let [here, there] = [[127, 0, 0, 1], [192, 0, 2, 1]].map(IpAddr::from);
        let party = |token, address| secrets.pass(token).expect("known").party(address);
        assert_eq!(party("one", here), party("one", there));
        assert_ne!(party("one", here), party("two", here));
        let everywhere = Pass::everywhere();
        assert_ne!(everywhere.party(here), everywhere.party(there));
    }

    #[test]
    fn a_bad_token_file_is_described_without_its_tokens() {
        for (text, part) in [
            ("", "no token"),
            ("# x", "no token"),
            ("a\nsecret b c", "line 2"),
        ] {
            let error = Tokens::parse(text).err().expect("bad");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
