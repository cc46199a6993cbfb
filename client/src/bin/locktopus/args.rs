//! What the command line says.

use argh::{ArgsInfo, FromArgs};
use locktopus_client::protocol::path;
use locktopus_client::{DEFAULT_URL, Error, Options};
use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// Runs commands under locks of a Locktopus server, and shows who holds what.
///
/// The server is that of --url or LOCKTOPUS_URL, by default ws://127.0.0.1:9009; the namespace
/// that of --namespace or LOCKTOPUS_NAMESPACE, by default that of the URL or `default`; the auth
/// token, if the server wants one, that of --token or LOCKTOPUS_AUTH_TOKEN.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    help_triggers("-h", "--help"),
    example = "{command_name} run -w backup/db -r config -- ./backup.sh --full",
    example = "{command_name} locks --watch",
    example = "{command_name} run --help",
    note = "A path is written a/b/c, with \\/ for a slash in a segment and \\\\ for a backslash; '' is the root, which is everything. \\e is an empty segment, \\u{{HEX}} any character."
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

/// Runs a command under a lock, and exits with its status.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("-h", "--help"),
    example = "# Write backup/db and read config, for as long as the script runs:",
    example = "{command_name} -w backup/db -r config -- ./backup.sh --full",
    example = "# Give up after five seconds with status 75:",
    example = "{command_name} -w deploy --timeout 5s -- make deploy",
    example = "# On many hosts at once: one runs the job, the others are done:",
    example = "{command_name} -w cron/nightly --try -E 0 -- ./nightly",
    example = "# Reach the fencing token from within:",
    example = "{command_name} -w store -- sh -c 'curl -H \"Token: $LOCKTOPUS_TOKEN\" http://store/'",
    note = "The command finds LOCKTOPUS_TOKEN, the fencing token, and LOCKTOPUS_RESOURCES, the set as JSON, in its environment. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to it. If the lock is lost it gets SIGTERM, and SIGKILL before another can have the lock.",
    note = "Exit status: the command's; 128+n if signal n ended it; 126 or 127 if it could not be run; -E (75) if others held the lock for too long; 69 if the server could not be reached or refused; 2 for bad arguments.",
    note = "A path is written a/b/c, with \\/ for a slash in a segment and \\\\ for a backslash; '' is the root, which is everything. \\e is an empty segment, \\u{{HEX}} any character."
)]
pub(crate) struct Run {
    /// lock this path for write; may be repeated
    #[argh(option, short = 'w', arg_name = "path", from_str_fn(path_of))]
    pub(crate) write: Vec<Vec<String>>,

    /// lock this path for read; may be repeated
    #[argh(option, short = 'r', arg_name = "path", from_str_fn(path_of))]
    pub(crate) read: Vec<Vec<String>>,

    /// give up after this time, such as 500ms, 5s, 2m or 1h; 0 is --try
    #[argh(option, short = 't', arg_name = "time", from_str_fn(time))]
    pub(crate) timeout: Option<Duration>,

    /// give up if the lock cannot be had at once
    #[argh(switch, long = "try")]
    pub(crate) try_: bool,

    /// exit status if the lock was not obtained in time; 75 by default
    #[argh(option, short = 'E', arg_name = "status", default = "75")]
    pub(crate) conflict_status: u8,

    /// how long the server keeps the lock when the connection is gone; that of the URL, else 60s, by
    /// default
    #[argh(option, arg_name = "time", from_str_fn(time))]
    pub(crate) abandon_timeout: Option<Duration>,

    /// time between SIGTERM and SIGKILL when the lock is lost, at most half of the abandon timeout;
    /// 10s by default, or that half if it is shorter
    #[argh(option, arg_name = "time", from_str_fn(time))]
    pub(crate) grace: Option<Duration>,

    /// name that `locktopus locks` shows; by default that of the command, with process id and host
    #[argh(option)]
    pub(crate) name: Option<String>,

    /// say nothing while waiting
    #[argh(switch, short = 'q')]
    pub(crate) quiet: bool,

    /// URL of the server
    #[argh(option, short = 'u')]
    pub(crate) url: Option<String>,

    /// namespace
    #[argh(option, short = 'n')]
    pub(crate) namespace: Option<String>,

    /// auth token; all can see it in the list of processes, but not LOCKTOPUS_AUTH_TOKEN
    #[argh(option)]
    pub(crate) token: Option<String>,

    /// PEM file with certificates to trust besides the system's
    #[argh(option, arg_name = "file")]
    pub(crate) ca_file: Option<PathBuf>,

    /// the command and its arguments
    #[argh(positional, greedy, arg_name = "command")]
    #[allow(
        dead_code,
        reason = "it is split off before, byte by byte; this is for the help"
    )]
    pub(crate) command: Vec<String>,
}

/// Shows who holds and who waits, and for whom.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "locks",
    help_triggers("-h", "--help"),
    example = "{command_name} --watch",
    example = "{command_name} --path backup/db",
    example = "{command_name} --json | jq '.requests[] | select(.state == \"waiting\")'"
)]
pub(crate) struct Locks {
    /// only requests for resources above, at or below this path
    #[argh(option, short = 'p', from_str_fn(path_of))]
    pub(crate) path: Option<Vec<String>>,

    /// at most so many requests
    #[argh(option)]
    pub(crate) limit: Option<u64>,

    /// show it again every second
    #[argh(switch)]
    pub(crate) watch: bool,

    /// print what the server says
    #[argh(switch)]
    pub(crate) json: bool,

    /// URL of the server
    #[argh(option, short = 'u')]
    pub(crate) url: Option<String>,

    /// namespace
    #[argh(option, short = 'n')]
    pub(crate) namespace: Option<String>,

    /// auth token; all can see it in the list of processes, but not LOCKTOPUS_AUTH_TOKEN
    #[argh(option)]
    pub(crate) token: Option<String>,

    /// PEM file with certificates to trust besides the system's
    #[argh(option, arg_name = "file")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Releases a lock by force, or withdraws a request. Its holder is told, and may still be at work:
/// what checks fencing tokens is safe from it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "release",
    help_triggers("-h", "--help"),
    example = "{command_name} 1790000000000017"
)]
pub(crate) struct Release {
    /// URL of the server
    #[argh(option, short = 'u')]
    pub(crate) url: Option<String>,

    /// namespace
    #[argh(option, short = 'n')]
    pub(crate) namespace: Option<String>,

    /// auth token; all can see it in the list of processes, but not LOCKTOPUS_AUTH_TOKEN
    #[argh(option)]
    pub(crate) token: Option<String>,

    /// PEM file with certificates to trust besides the system's
    #[argh(option, arg_name = "file")]
    pub(crate) ca_file: Option<PathBuf>,

    /// the token of the lock, as `locktopus locks` shows it
    #[argh(positional)]
    pub(crate) lock: String,
}

/// Shows the server's version and its namespaces.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
pub(crate) struct Status {
    /// print what the server says
    #[argh(switch)]
    pub(crate) json: bool,

    /// URL of the server
    #[argh(option, short = 'u')]
    pub(crate) url: Option<String>,

    /// auth token; all can see it in the list of processes, but not LOCKTOPUS_AUTH_TOKEN
    #[argh(option)]
    pub(crate) token: Option<String>,

    /// PEM file with certificates to trust besides the system's
    #[argh(option, arg_name = "file")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Measures a server that speaks v1: locks and releases as fast as it can.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "bench",
    help_triggers("-h", "--help"),
    example = "{command_name} --connections 64 --seconds 10 --mode contended",
    note = "Modes: uncontended: each connection has a path of its own; latency from request to grant. contended: all want one path; latency includes the wait. handoff: pairs pass a lock to and fro; latency from the release of one to the grant of the other. idle: connections that do nothing but answer pings; latency of the pings. held:N: as uncontended, while N other locks are held."
)]
pub(crate) struct Bench {
    /// how many connections; 64 by default
    #[argh(option, short = 'c', default = "64")]
    pub(crate) connections: usize,

    /// for how long; 10 by default
    #[argh(option, short = 's', default = "10")]
    pub(crate) seconds: u64,

    /// uncontended, contended, handoff, idle or held:N; uncontended by default
    #[argh(option, short = 'm', default = "crate::mode::Mode::Uncontended")]
    pub(crate) mode: crate::mode::Mode,

    /// URL of the server
    #[argh(option, short = 'u')]
    pub(crate) url: Option<String>,

    /// namespace
    #[argh(option, short = 'n')]
    pub(crate) namespace: Option<String>,

    /// auth token; all can see it in the list of processes, but not LOCKTOPUS_AUTH_TOKEN
    #[argh(option)]
    pub(crate) token: Option<String>,

    /// PEM file with certificates to trust besides the system's
    #[argh(option, arg_name = "file")]
    pub(crate) ca_file: Option<PathBuf>,
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

/// Reads `500ms`, `5s`, `2m` or `1h`; a number alone is seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    /// A year: no sum of such times is more than a clock can show.
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

/// The server that flags and variables name.
pub(crate) fn server(
    url: Option<&str>,
    namespace: Option<&str>,
    token: Option<&str>,
    ca_file: Option<PathBuf>,
) -> Result<Options, Error> {
    let named = |flag: Option<&str>, name: &str| match flag {
        Some(value) => Ok(Some(value.to_owned())),
        None => match env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            // The value is not shown: it may be the auth token.
            Err(_) => Err(Error::Options(format!("{name} is not UTF-8"))),
        },
    };
    let url = named(url, "LOCKTOPUS_URL")?;
    let mut options = Options::new(url.as_deref().unwrap_or(DEFAULT_URL))?;
    if let Some(namespace) = named(namespace, "LOCKTOPUS_NAMESPACE")? {
        options.namespace = namespace;
    }
    if let Some(token) = named(token, "LOCKTOPUS_AUTH_TOKEN")? {
        options.auth_token = Some(token);
    }
    let named = env::var_os("LOCKTOPUS_CA_FILE").filter(|file| !file.is_empty());
    options.ca_file = ca_file.or_else(|| named.map(PathBuf::from));
    Ok(options)
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
