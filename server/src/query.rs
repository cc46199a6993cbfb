//! The parameters of a URL. Those that are not known are ignored; of several with one name the first
//! counts.

use crate::flags::whole_number;
use std::time::Duration;

const NAMESPACE: &str = "namespace";
const ABANDON_TIMEOUT: &str = "abandon-timeout-ms";
const CLIENT: &str = "client";

/// The most that is kept of a client's name, in characters.
const MAX_CLIENT: usize = 100;

/// What an upgrade asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The namespace; not empty.
    pub namespace: String,
    /// How long a lock stays locked after the connection is gone, if the client says.
    pub abandon_timeout: Option<Duration>,
    /// What the client calls itself, shortened.
    pub client: Option<String>,
}

impl Upgrade {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// A sentence that names the parameter which is missing or bad, and what is allowed.
    pub fn parse(query: Option<&str>) -> Result<Upgrade, &'static str> {
        let abandon_timeout = match parameter(query, ABANDON_TIMEOUT) {
            None => None,
            Some(text) => Some(whole_number(&text).map(Duration::from_millis).ok_or(
                "URL parameter 'abandon-timeout-ms' must be a whole number of milliseconds, 0 or more",
            )?),
        };
        Ok(Upgrade {
            namespace: namespace(query)?,
            abandon_timeout,
            client: parameter(query, CLIENT).map(|name| name.chars().take(MAX_CLIENT).collect()),
        })
    }
}

/// The namespace that the query of a URL names.
///
/// # Errors
/// A sentence if it is missing or empty.
pub fn namespace(query: Option<&str>) -> Result<String, &'static str> {
    parameter(query, NAMESPACE)
        .filter(|name| !name.is_empty())
        .ok_or("URL parameter 'namespace' is required and must not be empty")
}

/// The first parameter of this name, decoded.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
