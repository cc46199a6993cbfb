//! What is read from files, at the start and again when asked to: auth tokens, certificate and key.

use crate::error::ConfigError;
use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// The secrets of a server; clones share them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    token_file: Option<PathBuf>,
    cert_and_key: Option<(PathBuf, PathBuf)>,
    loaded: ArcSwap<Loaded>,
}

#[derive(Default)]
struct Loaded {
    tokens: Option<Tokens>,
    acceptor: Option<TlsAcceptor>,
}

impl Secrets {
    /// Reads the files that are named. A certificate and a key go together.
    ///
    /// # Errors
    /// [`ConfigError`] that names the file and what is wrong with it.
    pub fn load(
        token_file: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Secrets, ConfigError> {
        let cert_and_key = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                let what = "--tls-cert and --tls-key are only allowed together";
                return Err(ConfigError::new(what.to_owned()));
            }
        };
        let inner = Inner {
            token_file,
            cert_and_key,
            loaded: ArcSwap::default(),
        };
        let secrets = Secrets(Arc::new(inner));
        secrets.reload()?;
        Ok(secrets)
    }

    /// Reads the same files again, for new connections; those that exist go on.
    ///
    /// # Errors
    /// As [`load`](Secrets::load); what was read before stays in use then.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let Inner {
            token_file,
            cert_and_key,
            loaded,
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

    /// Whether tokens are asked for.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.0.loaded.load().tokens.is_some()
    }

    /// What this token is good for: `None` if nothing.
    pub(crate) fn pass(&self, token: &str) -> Option<Pass> {
        self.0.loaded.load().tokens.as_ref()?.pass(token)
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

/// Into which namespaces somebody may look and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Those that begin with one of these; an empty prefix is all.
    prefixes: Vec<String>,
}

impl Pass {
    pub(crate) fn everywhere() -> Pass {
        Pass {
            prefixes: vec![String::new()],
        }
    }

    pub(crate) fn is_good_for(&self, namespace: &str) -> bool {
        self.prefixes
            .iter()
            .any(|prefix| namespace.starts_with(prefix))
    }

    pub(crate) fn is_good_everywhere(&self) -> bool {
        self.prefixes.iter().any(String::is_empty)
    }
}

/// Auth tokens, each with the prefix of the namespaces that it is good for.
struct Tokens(Vec<(String, String)>);

impl Tokens {
    fn read(file: &Path) -> Result<Tokens, ConfigError> {
        let text =
            fs::read_to_string(file).map_err(|error| bad_file("auth token", file, &error))?;
        Tokens::parse(&text).map_err(|what| bad_file("auth token", file, &what))
    }

    /// Empty lines and those that begin with `#` are skipped. No error shows a token.
    fn parse(text: &str) -> Result<Tokens, String> {
        let mut tokens = Vec::new();
        // Some editors begin a file with a mark that is no part of its text.
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

    /// Compares with every token, each in a time that does not depend on where they differ. How
    /// long the tokens are may show, which does not help to guess them.
    fn pass(&self, given: &str) -> Option<Pass> {
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
        (!prefixes.is_empty()).then_some(Pass { prefixes })
    }
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, ConfigError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| bad_file("certificate", cert, &error))?;
    if chain.is_empty() {
        return Err(bad_file("certificate", cert, &"it has no certificate"));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| bad_file("key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| bad_file("certificate", cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn bad_file(kind: &str, file: &Path, what: &dyn fmt::Display) -> ConfigError {
    ConfigError::new(format!(
        "cannot use the {kind} file {}: {what}",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_namespaces() {
        let tokens = Tokens::parse("# ours\nall\n\nsome app-\nsome web-\n").expect("good");
        let pass = |token| tokens.pass(token);
        assert!(pass("all").expect("known").is_good_everywhere());
        let some = pass("some").expect("known");
        assert!(some.is_good_for("app-1") && some.is_good_for("web-") && !some.is_good_for("app"));
        assert!(!some.is_good_everywhere());
        for unknown in ["", "al", "alll", "ALL", "#"] {
            assert_eq!(pass(unknown), None, "{unknown:?}");
        }
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
