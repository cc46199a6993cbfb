//! `locks`, `release` and `status`: the pages of the server, in tables.

use crate::args;
use crate::output::{Failure, json, print, print_line};
use crate::show;
use locktopus_client::protocol::pages::{
    LockRequest, Locks, Namespaces, ReleasedAll, RequestState, Statistics,
};
use locktopus_client::protocol::text::visible;
use locktopus_client::{Client, Clients, Filter};
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// How often `--watch` shows the list.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How many requests are shown if neither `--limit` nor `--all` is given.
const DEFAULT_LIMIT: u64 = 1000;

const CUT: &str =
    "the list is cut; --limit raises its length, --all shows all, and --path narrows it\n";

pub(crate) async fn locks(args: &args::Locks) -> Result<(), Failure> {
    if args.all && args.limit.is_some() {
        let text = "--limit and --all cannot be used together";
        return Err(Failure::Usage(text.to_owned()));
    }
    let client = Client::new(args.options()?)?;
    let clears = args.watch && io::stdout().is_terminal() && has_escapes(env::var_os("TERM"));
    loop {
        let before = if clears { "\x1b[H\x1b[2J" } else { "" };
        if !show_locks(&client, args, before).await? || !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Shows the list once, a page at a time: the whole list may be larger than the memory. Returns false if the reader of
/// the output has gone.
async fn show_locks(client: &Client, args: &args::Locks, before: &str) -> Result<bool, Failure> {
    let namespace = &client.options().namespace;
    let mut left = match args.limit {
        Some(limit) => limit,
        None if args.all => u64::MAX,
        None => DEFAULT_LIMIT,
    };
    let mut pages = client.lock_pages(Filter {
        path: args.path.clone(),
        limit: args.limit,
        after: None,
    });
    // It is written in one piece with the first page, so that the screen does not flicker.
    let mut text = before.to_owned();
    let (mut any, mut cut) = (false, false);
    while let Some(page) = pages.next_page().await? {
        left = left.saturating_sub(page.requests.len() as u64);
        cut = page.truncated && (left == 0 || page.next.is_none());
        if args.json {
            text += &json(&page);
        } else if !page.requests.is_empty() {
            text += &table_of_locks(&page, !any);
            any = true;
        }
        if left == 0 || cut {
            break;
        }
        if !args.all {
            pages.set_limit(left);
        }
        if !print(&text)? {
            return Ok(false);
        }
        text.clear();
    }
    if !args.json && cut {
        text += CUT;
    } else if !args.json && !any {
        text += &format!("no locks in namespace {}\n", visible(namespace));
    }
    print(&text)
}

pub(crate) async fn release(args: &args::Release) -> Result<(), Failure> {
    let client = Client::new(args.options()?)?;
    let clients = match (&args.lock, &args.client, args.address) {
        (Some(lock), None, None) => {
            let done = match client.release_by_force(lock).await?.state {
                RequestState::Acquired => "released",
                _ => "withdrawn",
            };
            return print_line(&format!("{lock} is {done}"));
        }
        (None, Some(name), None) => Clients::Named(name.clone()),
        (None, None, Some(address)) => Clients::At(address),
        _ => {
            let text = "one of these is required: the token of a lock, --client, --address";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let ReleasedAll {
        released,
        withdrawn,
    } = client.release_all_by_force(&clients).await?;
    print_line(&format!(
        "{released} locks are released, {withdrawn} requests are withdrawn"
    ))
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

/// The requests of a page, with or without the titles of the columns. What a request waits for is described if it is
/// on the same page.
fn table_of_locks(locks: &Locks, with_titles: bool) -> String {
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
    let table = show::table(&head, locks.requests.iter().map(row));
    match table.split_once('\n') {
        Some((_, rows)) if !with_titles => rows.to_owned(),
        _ => table,
    }
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
        let table = table_of_locks(&serde_json::from_str(text).expect("JSON"), true);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                r"TOKEN  STATE     FOR  RESOURCES       CLIENT                                                             WAITS FOR",
                r"12     acquired  1s   w a/b\/c, r ''  nightly\u{1b} (127.0.0.1:4), disconnected, kept for 1m00s at most",
                r"17     waiting   ?    r a             ?                                                                  12: nightly\u{1b} (127.0.0.1:4), disconnected, kept for 1m00s at most",
            ]
        );
    }
}
