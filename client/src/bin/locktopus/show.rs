//! How tables and messages show paths, times, clients and names.

use locktopus_client::protocol::pages::LockRequest;
use locktopus_client::protocol::path;
use locktopus_client::protocol::text::visible;
use locktopus_client::{Mode, Resource};
use std::fmt::Write as _;

/// All resources of a set: `w a/b, r c`. The root, which would be invisible, is shown as `''`.
pub(crate) fn set(resources: &[Resource]) -> String {
    let one = |resource: &Resource| {
        let mode = match resource.mode {
            Mode::Read => 'r',
            Mode::Write => 'w',
        };
        match path::write(&resource.path) {
            root if root.is_empty() => format!("{mode} ''"),
            path => format!("{mode} {path}"),
        }
    };
    resources.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The client of a request, and the rest of the abandon timeout if its connection has ended.
pub(crate) fn client(request: &LockRequest) -> String {
    let Some(connection) = &request.connection else {
        return "?".to_owned();
    };
    let mut text = match &connection.client {
        Some(client) => format!("{} ({})", visible(client), visible(&connection.address)),
        None => visible(&connection.address),
    };
    if !connection.connected {
        let _ = match connection.released_in_ms {
            Some(left) => write!(text, ", disconnected, kept for {}", time(left)),
            None => {
                let most = time(connection.abandon_timeout_ms);
                write!(text, ", disconnected, kept for {most} at most")
            }
        };
    }
    text
}

/// A time in milliseconds, in a short form: `17ms`, `1m05s`, `2d03h`.
pub(crate) fn time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Columns as wide as their widest cell.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
