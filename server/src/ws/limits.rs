//! Reading a message, and the limits on the resources of a lock.

use crate::config::Config;
use locktopus_protocol::Resource;
use locktopus_protocol::v1::Request;

/// Reads a message.
///
/// # Errors
/// The error text of v1 if it is malformed, or over a limit.
pub(super) fn read(config: &Config, message: &[u8]) -> Result<Request, String> {
    let request = Request::decode(message).map_err(|error| error.to_string())?;
    if let Request::Lock(resources) = &request {
        check(config, resources)?;
    }
    Ok(request)
}

/// Whether the limits of the server allow this set.
///
/// # Errors
/// The error text of v1, which names the limit.
fn check(config: &Config, resources: &[Resource]) -> Result<(), String> {
    at_most(
        "lock of",
        resources.len(),
        "resources",
        config.max_resources,
    )?;
    let segments = resources.iter().map(|resource| resource.path.len());
    at_most("lock of", segments.sum(), "segments", config.max_segments)?;
    for Resource { path, .. } in resources {
        at_most("path of", path.len(), "segments", config.max_path_depth)?;
        let bytes = path.iter().map(|segment| segment.len() + 1).sum();
        at_most("path of", bytes, "bytes", config.max_path_bytes)?;
    }
    Ok(())
}

fn at_most(what: &str, count: usize, unit: &str, limit: usize) -> Result<(), String> {
    if count > limit {
        return Err(format!(
            "{what} {count} {unit}; at most {limit} are allowed"
        ));
    }
    Ok(())
}
