//! The command line.

use crate::load::Load;
use crate::server_flags::with_server_flags;
use argh::{ArgsInfo, FromArgs};
use locktopus_client::protocol::path;
use std::str::FromStr;
use std::time::Duration;

/// Runs commands under locks of a Locktopus server, and shows the locks of the server.
///
/// The flags that name the server come after the subcommand. The variables LOCKTOPUS_URL, LOCKTOPUS_NAMESPACE,
/// LOCKTOPUS_AUTH_TOKEN and LOCKTOPUS_CA_FILE replace --url, --namespace, --token and --ca-file.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    help_triggers("-h", "--help"),
    example = "{command_name} run -w backup/db -r config -- ./backup.sh --full",
    example = "{command_name} locks --watch",
    example = "{command_name} run --help",
    note = "A path is written a/b/c, with \\/ for a slash in a segment and \\\\ for a backslash. '' is the root, which \
            covers all paths. \\e is an empty segment, \\u{{HEX}} any character."
)]
pub(crate) struct Locktopus {
    /// print the version
    #[argh(switch, short = 'V')]
    pub(crate) version: bool,

    #[argh(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(crate) enum Command {
    Run(Run),
    Locks(Locks),
    Release(Release),
    Status(Status),
    Bench(Bench),
    Completions(Completions),
}

with_server_flags! {
/// Runs a command under a lock, and exits with its status.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("-h", "--help"),
    example = "# Lock backup/db for write and config for read while the script runs:",
    example = "{command_name} -w backup/db -r config -- ./backup.sh --full",
    example = "# Give up after five seconds, with status 75:",
    example = "{command_name} -w deploy --timeout 5s -- make deploy",
    example = "# On many hosts at once: one host runs the job, the others exit with status 0:",
    example = "{command_name} -w cron/nightly --try -E 0 -- ./nightly",
    example = "# Use the fencing token in the command:",
    example = "{command_name} -w store -- sh -c 'curl -H \"Token: $LOCKTOPUS_TOKEN\" http://store/'",
    note = "The environment of the command has LOCKTOPUS_TOKEN, the fencing token, and LOCKTOPUS_RESOURCES, the set as \
            JSON. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command. If the lock is \
            lost, the command gets SIGTERM, and SIGKILL before another client can get the lock.",
    note = "Exit status: the status of the command; 128+n if signal n ended it; 126 or 127 if it could not be run; \
            the status given with -E (75) if the lock was not granted in time; 69 if the server could not be reached \
            or refused the request; 2 for bad arguments.",
    note = "A path is written a/b/c, with \\/ for a slash in a segment and \\\\ for a backslash. '' is the root, which \
            covers all paths. \\e is an empty segment, \\u{{HEX}} any character."
)]
struct Run in NAMESPACE {
    /// lock this path for write; may be repeated
    #[argh(option, short = 'w', arg_name = "path", from_str_fn(path_of))]
    pub(crate) write: Vec<Vec<String>>,

    /// lock this path for read; may be repeated
    #[argh(option, short = 'r', arg_name = "path", from_str_fn(path_of))]
    pub(crate) read: Vec<Vec<String>>,

    /// give up after this time, such as 500ms, 5s, 2m or 1h; 0 means --try
    #[argh(option, short = 't', arg_name = "time", from_str_fn(time))]
    pub(crate) timeout: Option<Duration>,

    /// give up if the lock is not granted at once
    #[argh(switch, long = "try")]
    pub(crate) try_: bool,

    /// exit status if the lock was not granted in time; 75 by default
    #[argh(option, short = 'E', arg_name = "status", default = "75", from_str_fn(exit_status))]
    pub(crate) conflict_status: u8,

    /// how long the server keeps the lock after the connection has ended; by default the timeout of the URL, else 60s
    #[argh(option, arg_name = "time", from_str_fn(time))]
    pub(crate) abandon_timeout: Option<Duration>,

    /// time between SIGTERM and SIGKILL if the lock is lost; at most half of the abandon timeout; by default 10s, or
    /// half of the abandon timeout if that is shorter
    #[argh(option, arg_name = "time", from_str_fn(time))]
    pub(crate) grace: Option<Duration>,

    /// name that `locktopus locks` shows; by default the name of the command, with process id and host
    #[argh(option)]
    pub(crate) name: Option<String>,

    /// print nothing while waiting
    #[argh(switch, short = 'q')]
    pub(crate) quiet: bool,

    /// the command and its arguments
    #[argh(positional, greedy, arg_name = "command")]
    #[allow(dead_code, reason = "only for --help: `line` splits the command off, byte by byte")]
    pub(crate) command: Vec<String>,
}
}

with_server_flags! {
/// Shows the locks that are held, and the requests that wait for them.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "locks",
    help_triggers("-h", "--help"),
    example = "{command_name} --watch",
    example = "{command_name} --path backup/db",
    example = "{command_name} --json | jq '.requests[] | select(.state == \"waiting\")'"
)]
struct Locks in NAMESPACE {
    /// show only requests for resources above, at or below this path
    #[argh(option, short = 'p', from_str_fn(path_of))]
    pub(crate) path: Option<Vec<String>>,

    /// largest number of requests to show; 1000 by default
    #[argh(option, from_str_fn(number))]
    pub(crate) limit: Option<u64>,

    /// show all requests, a page at a time
    #[argh(switch)]
    pub(crate) all: bool,

    /// show the list again every second
    #[argh(switch)]
    pub(crate) watch: bool,

    /// print JSON, in the form of the server's pages: a line for each page
    #[argh(switch)]
    pub(crate) json: bool,
}
}

with_server_flags! {
/// Releases a lock by force, or withdraws a waiting request. The holder is told, but may still be at work: only fencing
/// tokens protect the resource from it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "release",
    help_triggers("-h", "--help"),
    example = "{command_name} 1790000000000017",
    example = "# All locks and waiting requests of the clients with one name:",
    example = "{command_name} --client nightly-job"
)]
struct Release in NAMESPACE {
    /// the token of the lock, as `locktopus locks` shows it
    #[argh(positional)]
    pub(crate) lock: Option<String>,

    /// name of clients: releases all their locks, and withdraws their waiting requests
    #[argh(option, arg_name = "name")]
    pub(crate) client: Option<String>,

    /// IP address of clients, instead of their name
    #[argh(option, arg_name = "ip")]
    pub(crate) address: Option<std::net::IpAddr>,
}
}

with_server_flags! {
/// Shows the version of the server and its namespaces.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
struct Status {
    /// print JSON, in the form of the server's page
    #[argh(switch)]
    pub(crate) json: bool,
}
}

with_server_flags! {
/// Measures a server that speaks v1: each connection locks and releases as fast as it can.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "bench",
    help_triggers("-h", "--help"),
    example = "{command_name} --connections 64 --seconds 10 --mode contended",
    note = "Modes. uncontended: each connection locks a path of its own; latency from request to grant. contended: all \
            connections lock one path; the latency includes the wait. handoff: pairs of connections pass a lock to \
            each other; latency from the release of one to the grant of the other. idle: connections only answer pings \
            and send one each second; latency of the pings. held:N: as uncontended, beside N held resources."
)]
struct Bench in NAMESPACE {
    /// number of connections; 64 by default
    #[argh(option, short = 'c', default = "64", from_str_fn(number))]
    pub(crate) connections: usize,

    /// duration in seconds; 10 by default
    #[argh(option, short = 's', default = "10", from_str_fn(number))]
    pub(crate) seconds: u64,

    /// time before the measurement begins, such as 500ms; 0 by default
    #[argh(option, arg_name = "time", default = "Duration::ZERO", from_str_fn(time))]
    pub(crate) warm_up: Duration,

    /// uncontended, contended, handoff, idle or held:N; uncontended by default
    #[argh(option, short = 'm', default = "Load::Uncontended")]
    pub(crate) mode: Load,

    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}
}

/// Prints completions for a shell.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help"),
    example = "source <({command_name} bash)"
)]
pub(crate) struct Completions {
    /// bash, fish, nushell or zsh
    #[argh(positional)]
    pub(crate) shell: String,
}

fn path_of(text: &str) -> Result<Vec<String>, String> {
    path::parse(text).map_err(|error| error.to_string())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "allowed are whole numbers, 0 or more".to_owned())
}

fn exit_status(text: &str) -> Result<u8, String> {
    text.parse()
        .map_err(|_| "allowed are whole numbers from 0 to 255".to_owned())
}

/// Reads `500ms`, `5s`, `2m` or `1h`; a number alone is in seconds.
fn time(text: &str) -> Result<Duration, String> {
    /// A year: sums of such times do not overflow a clock.
    const LONGEST: Duration = Duration::from_secs(8760 * 3600);
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    digits
        .parse()
        .ok()
        .and_then(|number: f64| Duration::try_from_secs_f64(number * unit).ok())
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| "allowed are times such as 500ms, 5s, 2m and 1h, up to 8760h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("5", 5000),
            ("0", 0),
            ("1.5s", 1500),
            ("20ms", 20),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "s", "-1s", "1d", "1 s", "é", "NaN", "inf", "8761h"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
