//! How the tables and messages show paths and resources.

use locktopus_client::protocol::path;
use locktopus_client::{Mode, Resource};

/// The path in the notation of paths, but `''` for the root, which would be invisible.
pub(crate) fn show(path: &[String]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    path::write(path)
}

/// `w a/b` or `r a/b`.
pub(crate) fn show_resource(resource: &Resource) -> String {
    let mode = match resource.mode {
        Mode::Read => 'r',
        Mode::Write => 'w',
    };
    format!("{mode} {}", show(&resource.path))
}

/// All resources of a set.
pub(crate) fn show_set(resources: &[Resource]) -> String {
    let shown: Vec<String> = resources.iter().map(show_resource).collect();
    shown.join(", ")
}
