//! `locks`, `release` and `status`: the pages of the server, in tables.

use crate::args;
use crate::output::{Failure, json, print, print_line};
use crate::show;
use locktopus_client::protocol::pages::{LockRequest, Locks, Namespaces, RequestState, Statistics};
use locktopus_client::protocol::text::visible;
use locktopus_client::{Client, Filter};
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// How often `--watch` shows the list.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn locks(args: &args::Locks) -> Result<(), Failure> {
    let client = Client::new(args.options()?)?;
    let filter = Filter {
        path: args.path.clone(),
        limit: args.limit,
    };
    let clears = args.watch && io::stdout().is_terminal() && has_escapes(env::var_os("TERM"));
    loop {
        let locks = client.locks(&filter).await?;
        let shown = if args.json {
            json(&locks)
        } else {
            table_of_locks(&client.options().namespace, &locks)
        };
        // The screen is cleared and written in one piece, so that it does not flicker.
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

pub(crate) async fn release(args: &args::Release) -> Result<(), Failure> {
    let released = Client::new(args.options()?)?
        .release_by_force(&args.lock)
        .await?;
    let done = match released.state {
        RequestState::Acquired => "released",
        _ => "withdrawn",
    };
    print_line(&format!("{} is {done}", args.lock))
}

pub(crate) async fn status(args: &args::Status) -> Result<(), Failure> {
    let client = Client::new(args.options()?)?;
    let server = client.status().await?;
    print(&if args.json {
        json(&server)
    } else {
        table_of_namespaces(client.options().authority(), &server)
    })
    .map(|_| ())
}

fn table_of_namespaces(address: &str, server: &Namespaces) -> String {
    let mut page = format!(
        "Locktopus {} at {address}, up for {}, {} connections\n",
        visible(&server.version),
        show::time(server.uptime_ms),
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
        let row = |namespace: &Statistics| {
            vec![
                visible(&namespace.namespace),
                namespace.connections.to_string(),
                namespace.acquired.to_string(),
                namespace.waiting.to_string(),
                namespace.resources.to_string(),
                visible(&namespace.last_token),
            ]
        };
        page += "\n";
        page += &show::table(&head, server.namespaces.iter().map(row));
        if server.truncated {
            page += "the list is cut\n";
        }
    }
    page
}

fn table_of_locks(namespace: &str, locks: &Locks) -> String {
    let more = "the list is cut; --limit raises its length, and --path narrows it\n";
    if locks.requests.is_empty() {
        return if locks.truncated {
            more.to_owned()
        } else {
            format!("no locks in namespace {}\n", visible(namespace))
        };
    }
    let row = |request: &LockRequest| {
        vec![
            visible(&request.token),
            state(request.state).to_owned(),
            request.since_ms.map_or("?".to_owned(), show::time),
            show::set(&request.resources),
            show::client(request),
            waits_for(request, locks),
        ]
    };
    let head = ["TOKEN", "STATE", "FOR", "RESOURCES", "CLIENT", "WAITS FOR"];
    let mut page = show::table(&head, locks.requests.iter().map(row));
    if locks.truncated {
        page += more;
    }
    page
}

fn state(state: RequestState) -> &'static str {
    match state {
        RequestState::Acquired => "acquired",
        RequestState::Waiting => "waiting",
        _ => "?",
    }
}

fn waits_for(request: &LockRequest, locks: &Locks) -> String {
    let Some(token) = &request.waits_for else {
        return String::new();
    };
    match locks.requests.iter().find(|other| other.token == *token) {
        Some(other) => format!("{}: {}", visible(token), show::client(other)),
        None => visible(token),
    }
}

/// Whether a terminal of this kind supports escape codes.
fn has_escapes(kind: Option<OsString>) -> bool {
    kind.is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_gets_no_escape_codes() {
        for (kind, escapes) in [("xterm", true), ("dumb", false), ("", false)] {
            assert_eq!(has_escapes(Some(kind.into())), escapes, "{kind}");
        }
        assert!(!has_escapes(None));
    }

    #[test]
    fn the_table_shows_what_a_request_waits_for() {
        let text = r#"{"namespace":"x","last_token":"17","truncated":true,"requests":[
            {"token":"12","state":"acquired","since_ms":1234,"waits_for":null,
             "resources":[{"type":"write","path":["a","b/c"]},{"type":"read","path":[]}],
             "connection":{"id":5,"address":"127.0.0.1:4","client":"nightly\u001b","connected":false,"abandon_timeout_ms":60000}},
            {"token":"17","state":"waiting","since_ms":null,"resources":[{"type":"read","path":["a"]}],
             "waits_for":"12","connection":null}]}"#;
        let table = table_of_locks("x", &serde_json::from_str(text).expect("JSON"));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                r"TOKEN  STATE     FOR  RESOURCES       CLIENT                                                             WAITS FOR",
                r"12     acquired  1s   w a/b\/c, r ''  nightly\u{1b} (127.0.0.1:4), disconnected, kept for 1m00s at most",
                r"17     waiting   ?    r a             ?                                                                  12: nightly\u{1b} (127.0.0.1:4), disconnected, kept for 1m00s at most",
                "the list is cut; --limit raises its length, and --path narrows it",
            ]
        );
    }
}
