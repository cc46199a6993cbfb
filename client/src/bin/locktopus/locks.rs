//! `locks`, `release` and `status`: what the server's pages say, in tables.

use crate::http::{self, Locks, Waiter};
use crate::paths;
use crate::{Failure, args, print, print_line};
use hyper::{Method, StatusCode};
use locktopus_client::protocol::path;
use locktopus_client::{Error, Options};
use serde::Deserialize;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn locks(args: args::Locks, options: &Options) -> Result<(), Failure> {
    let mut parameters = vec![];
    if let Some(path) = &args.path {
        parameters.push(("path", path::write(path)));
    }
    if let Some(limit) = args.limit {
        parameters.push(("limit", limit.to_string()));
    }
    let clears = args.watch && io::stdout().is_terminal() && obeys_escapes(env::var_os("TERM"));
    loop {
        let text = http::locks_text(options, &parameters).await?;
        let shown = if args.json {
            text.trim_end().to_owned() + "\n"
        } else {
            table_of_locks(&options.namespace, &http::decode(&text)?)
        };
        // The screen is cleared and written at once, so that it does not flicker.
        let shown = if clears {
            format!("\x1b[H\x1b[2J{shown}")
        } else {
            shown
        };
        if !print(&shown)? || !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

pub(crate) async fn release(lock: &str, options: &Options) -> Result<(), Failure> {
    if lock.is_empty() || !lock.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Options(format!(
            "{lock:?} is no token; `locktopus locks` shows them"
        ))
        .into());
    }
    let path = format!("/locks/{lock}?{}", http::query(options).finish());
    match http::ask(options, Method::DELETE, &path).await? {
        (StatusCode::OK, text) => {
            #[derive(Deserialize)]
            struct Released {
                state: String,
            }
            let Released { state } = http::decode(&text)?;
            let done = if state == "acquired" {
                "released"
            } else {
                "withdrawn"
            };
            print_line(&format!("{lock} is {done}"))
        }
        (status, text) => Err(http::refusal(status, &text).into()),
    }
}

pub(crate) async fn status(json: bool, options: &Options) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Server {
        version: String,
        uptime_ms: u64,
        connections: u64,
        namespaces: Vec<Namespace>,
    }
    #[derive(Deserialize)]
    struct Namespace {
        namespace: String,
        connections: u64,
        acquired: u64,
        waiting: u64,
        resources: u64,
        last_token: String,
    }

    let text = http::get(options, "/namespaces").await?;
    if json {
        return print_line(text.trim_end());
    }
    let server: Server = http::decode(&text)?;
    let mut page = format!(
        "Locktopus {} at {}, up for {}, {} connections\n",
        server.version,
        options.authority(),
        span(server.uptime_ms),
        server.connections
    );
    if !server.namespaces.is_empty() {
        let head = [
            "NAMESPACE",
            "CONNECTIONS",
            "ACQUIRED",
            "WAITING",
            "RESOURCES",
            "LAST TOKEN",
        ];
        let rows = server.namespaces.iter().map(|namespace| {
            vec![
                printable(&namespace.namespace),
                namespace.connections.to_string(),
                namespace.acquired.to_string(),
                namespace.waiting.to_string(),
                namespace.resources.to_string(),
                printable(&namespace.last_token),
            ]
        });
        page += "\n";
        page += &table(&head, rows);
    }
    print(&page).map(|_| ())
}

fn table_of_locks(namespace: &str, locks: &Locks) -> String {
    if locks.requests.is_empty() {
        return format!("no locks in namespace {}\n", printable(namespace));
    }
    let rows = locks.requests.iter().map(|request| {
        vec![
            printable(&request.token),
            printable(&request.state),
            request.since_ms.map_or("?".to_owned(), span),
            paths::show_set(&request.resources),
            whose(request),
            why(request, locks),
        ]
    });
    let head = ["TOKEN", "STATE", "FOR", "RESOURCES", "CLIENT", "WAITS FOR"];
    let mut page = table(&head, rows);
    if locks.truncated {
        page += "there are more; --limit and --path choose\n";
    }
    page
}

/// Who a request belongs to.
pub(crate) fn whose(request: &Waiter) -> String {
    let Some(connection) = &request.connection else {
        return "?".to_owned();
    };
    let mut text = match &connection.client {
        Some(client) => format!("{} ({})", printable(client), printable(&connection.address)),
        None => printable(&connection.address),
    };
    if !connection.connected {
        let _ = match connection.released_in_ms {
            Some(left) => write!(text, ", gone, kept for {}", span(left)),
            None => {
                let most = span(connection.abandon_timeout_ms);
                write!(text, ", gone, kept for {most} at most")
            }
        };
    }
    text
}

fn why(request: &Waiter, locks: &Locks) -> String {
    let Some(token) = &request.waits_for else {
        return String::new();
    };
    match locks.requests.iter().find(|other| other.token == *token) {
        Some(other) => format!("{}: {}", printable(token), whose(other)),
        None => printable(token),
    }
}

/// Columns as wide as what is in them.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
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

/// Whether a terminal of this kind does more than to print.
fn obeys_escapes(kind: Option<OsString>) -> bool {
    kind.is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

/// A time in milliseconds, as short as people say it.
pub(crate) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Names come from others: they do not move the cursor, nor break a table.
fn printable(text: &str) -> String {
    let escape = |char: char| -> String {
        if char.is_control() {
            char.escape_default().collect()
        } else {
            char.to_string()
        }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_gets_no_escape_codes() {
        for (kind, obeys) in [("xterm", true), ("dumb", false), ("", false)] {
            assert_eq!(obeys_escapes(Some(kind.into())), obeys, "{kind}");
        }
        assert!(!obeys_escapes(None));
    }

    #[test]
    fn the_table_says_who_waits_for_whom() {
        let text = r#"{"namespace":"x","last_token":"17","truncated":true,"requests":[
            {"token":"12","state":"acquired","since_ms":1234,"waits_for":null,
             "resources":[{"type":"write","path":["a","b/c"]},{"type":"read","path":[]}],
             "connection":{"id":5,"address":"127.0.0.1:4","client":"nightly\u001b","connected":false,"abandon_timeout_ms":60000}},
            {"token":"17","state":"waiting","since_ms":null,"resources":[{"type":"read","path":["a"]}],
             "waits_for":"12","connection":null}]}"#;
        let table = table_of_locks("x", &http::decode(text).expect("JSON"));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                r"TOKEN  STATE     FOR  RESOURCES       CLIENT                                                     WAITS FOR",
                r"12     acquired  1s   w a/b\/c, r ''  nightly\u{1b} (127.0.0.1:4), gone, kept for 1m00s at most",
                r"17     waiting   ?    r a             ?                                                          12: nightly\u{1b} (127.0.0.1:4), gone, kept for 1m00s at most",
                "there are more; --limit and --path choose",
            ]
        );
    }
}
