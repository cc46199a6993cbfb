//! What clients may take: the checks of [`Limits`] on what they ask for.

use crate::config::Limits;
use crate::query::Upgrade;
use locktopus_protocol::Resource;
use std::time::Duration;

impl Limits {
    /// Whether such a lock may be asked for.
    ///
    /// # Errors
    /// What is over which limit.
    pub(crate) fn check(&self, resources: &[Resource]) -> Result<(), String> {
        at_most("lock of", resources.len(), "resources", self.resources)?;
        for Resource { path, .. } in resources {
            at_most("path of", path.len(), "segments", self.path_depth)?;
            let bytes = path.iter().map(|segment| segment.len() + 1).sum();
            at_most("path of", bytes, "bytes", self.path_bytes)?;
        }
        Ok(())
    }

    /// Whether such a connection may be made; its abandon timeout.
    ///
    /// # Errors
    /// A sentence that names the parameter and the limit.
    pub(crate) fn admit(&self, upgrade: &Upgrade, default: Duration) -> Result<Duration, String> {
        let abandon_timeout = upgrade.abandon_timeout.unwrap_or(default);
        if upgrade.namespace.len() > self.namespace_bytes {
            return Err(format!(
                "URL parameter 'namespace' has {} bytes; at most {} are allowed",
                upgrade.namespace.len(),
                self.namespace_bytes
            ));
        }
        if abandon_timeout > self.abandon_timeout {
            return Err(format!(
                "URL parameter 'abandon-timeout-ms' is {}; at most {} is allowed",
                abandon_timeout.as_millis(),
                self.abandon_timeout.as_millis()
            ));
        }
        Ok(abandon_timeout)
    }
}

fn at_most(what: &str, count: usize, of: &str, limit: usize) -> Result<(), String> {
    if count > limit {
        return Err(format!("{what} {count} {of}; at most {limit} are allowed"));
    }
    Ok(())
}
