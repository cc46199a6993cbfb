//! The parameters of a server: flags, their environment variables, their limits and their defaults.
//!
//! [`Config`] is the struct that argh reads. If a flag is not given, argh gets its variable instead. So a flag
//! overrides its variable, and the variable overrides the default.

use crate::error::ConfigError;
use argh::{ArgsInfo, EarlyExit, FlagInfo, FlagInfoKind, FromArgValue, FromArgs, Optionality};
use locktopus_engine::{MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const PROGRAM: &[&str] = &["locktopus-server"];

/// An option whose argument has this name is a switch: its value can be left out.
const SWITCH: &str = "true|false";

/// The parameters of a server.
///
/// `--help` prints the text of each field. Ranges are checked for flags and variables only.
#[derive(Debug, Clone, FromArgs, ArgsInfo)]
#[argh(
    description = "Locktopus, a lock service: clients lock sets of paths, for read or for write, over WebSockets.\n\n\
                   Each flag has an environment variable, which is used if the flag is not given.",
    help_triggers("-h", "--help")
)]
#[non_exhaustive]
pub struct Config {
    /// address or name to listen on (LOCKTOPUS_HOST; default 0.0.0.0)
    #[argh(
        option,
        short = 'H',
        arg_name = "name",
        from_str_fn(host),
        default = "\"0.0.0.0\".to_owned()"
    )]
    pub host: String,

    /// port to listen on, 0 for any free port (LOCKTOPUS_PORT; default 9009)
    #[argh(option, short = 'p', arg_name = "number", from_str_fn(number::<_, 0, 65_535>), default = "9009")]
    pub port: u16,

    /// milliseconds for which an acquired lock outlives its connection, unless the client asks for another time
    /// (LOCKTOPUS_DEFAULT_ABANDON_TIMEOUT; default 60000)
    #[argh(
        option,
        arg_name = "ms",
        from_str_fn(milliseconds),
        default = "Duration::from_secs(60)"
    )]
    pub default_abandon_timeout: Duration,

    /// longest abandon timeout that a client may ask for, in milliseconds
    /// (LOCKTOPUS_MAX_ABANDON_TIMEOUT; default 86400000, a day)
    #[argh(
        option,
        arg_name = "ms",
        from_str_fn(milliseconds),
        default = "Duration::from_secs(24 * 60 * 60)"
    )]
    pub max_abandon_timeout: Duration,

    /// seconds of silence after which the server pings a connection, 0 for never
    /// (LOCKTOPUS_PING_INTERVAL; default 15)
    #[argh(
        option,
        arg_name = "seconds",
        from_str_fn(seconds),
        default = "Duration::from_secs(15)"
    )]
    pub ping_interval: Duration,

    /// seconds of silence, or of not reading, after which a connection counts as broken; longer than the interval
    /// (LOCKTOPUS_PING_TIMEOUT; default 30)
    #[argh(
        option,
        arg_name = "seconds",
        from_str_fn(seconds),
        default = "Duration::from_secs(30)"
    )]
    pub ping_timeout: Duration,

    /// seconds for a TLS handshake, and for the head of each HTTP request; more than 0
    /// (LOCKTOPUS_HANDSHAKE_TIMEOUT; default 10)
    #[argh(
        option,
        arg_name = "seconds",
        from_str_fn(seconds),
        default = "Duration::from_secs(10)"
    )]
    pub handshake_timeout: Duration,

    /// most connections at one time (LOCKTOPUS_MAX_CONNECTIONS; default 10000)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 1_000_000>), default = "10_000")]
    pub max_connections: usize,

    /// most namespaces at one time (LOCKTOPUS_MAX_NAMESPACES; default 10000)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 1_000_000>), default = "10_000")]
    pub max_namespaces: usize,

    /// most bytes of the name of a namespace (LOCKTOPUS_MAX_NAMESPACE_BYTES; default 255)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 4096>), default = "255")]
    pub max_namespace_bytes: usize,

    /// most bytes of a message (LOCKTOPUS_MAX_MESSAGE_BYTES; default 65536)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1024, 67_108_864>), default = "65_536")]
    pub max_message_bytes: usize,

    /// most resources of a lock (LOCKTOPUS_MAX_RESOURCES; default 4096, which is also the limit)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, MAX_RESOURCES>), default = "MAX_RESOURCES")]
    pub max_resources: usize,

    /// most segments of a path (LOCKTOPUS_MAX_PATH_DEPTH; default 1024, which is also the limit)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, MAX_DEPTH>), default = "MAX_DEPTH")]
    pub max_path_depth: usize,

    /// most bytes of a path; each segment counts its bytes and one more
    /// (LOCKTOPUS_MAX_PATH_BYTES; default 16384, which is also the limit)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, MAX_PATH_BYTES>), default = "MAX_PATH_BYTES")]
    pub max_path_bytes: usize,

    /// origin of web pages that may connect besides the server's own, such as https://example.com, or * for all; can
    /// be repeated (LOCKTOPUS_ALLOW_ORIGIN, separated by commas)
    #[argh(option, arg_name = "origin", from_str_fn(origin))]
    #[allow(rustdoc::bare_urls, reason = "it is also the text of --help")]
    pub allow_origin: Vec<String>,

    /// file of auth tokens, one a line, each optionally followed by the prefix of the namespaces that it is good for
    /// (LOCKTOPUS_AUTH_TOKEN_FILE; read again at SIGHUP)
    #[argh(option, arg_name = "path", from_str_fn(path))]
    pub auth_token_file: Option<PathBuf>,

    /// certificate chain in PEM, for wss and https; needs --tls-key (LOCKTOPUS_TLS_CERT; read again at SIGHUP)
    #[argh(option, arg_name = "path", from_str_fn(path))]
    pub tls_cert: Option<PathBuf>,

    /// private key in PEM; needs --tls-cert (LOCKTOPUS_TLS_KEY; read again at SIGHUP)
    #[argh(option, arg_name = "path", from_str_fn(path))]
    pub tls_key: Option<PathBuf>,

    /// log when connections begin and end (LOCKTOPUS_LOG_CLIENTS; default false; the flag alone means true)
    #[argh(
        option,
        arg_name = "true|false",
        from_str_fn(switch),
        default = "false"
    )]
    pub log_clients: bool,

    /// log when locks are requested, granted and released (LOCKTOPUS_LOG_LOCKS; default false; the flag alone means
    /// true)
    #[argh(
        option,
        arg_name = "true|false",
        from_str_fn(switch),
        default = "false"
    )]
    pub log_locks: bool,

    /// form of the log (LOCKTOPUS_LOG_FORMAT; default text)
    #[argh(option, arg_name = "text|json", default = "LogFormat::Text")]
    pub log_format: LogFormat,

    /// seconds between statistics in the log, 0 for never (LOCKTOPUS_STATS_INTERVAL; default 0)
    #[argh(
        option,
        arg_name = "seconds",
        from_str_fn(whole_seconds),
        default = "Duration::ZERO"
    )]
    pub stats_interval: Duration,

    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromArgValue)]
#[non_exhaustive]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config::from_args(PROGRAM, &[]).expect("no flag is required")
    }
}

impl Config {
    /// How long a peer may take to read a message of the server.
    pub(crate) fn send_timeout(&self) -> Duration {
        const WITHOUT_PINGS: Duration = Duration::from_secs(30);
        if self.ping_interval.is_zero() {
            WITHOUT_PINGS
        } else {
            self.ping_timeout
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |problem| Err(ConfigError::Combination(problem));
        if !self.ping_interval.is_zero() && self.ping_timeout <= self.ping_interval {
            return fail(format!(
                "--ping-timeout ({:?}) must be longer than --ping-interval ({:?}), so that a connection can answer",
                self.ping_timeout, self.ping_interval
            ));
        }
        if self.handshake_timeout.is_zero() {
            return fail("--handshake-timeout must be longer than 0".to_owned());
        }
        if self.default_abandon_timeout > self.max_abandon_timeout {
            return fail(format!(
                "--default-abandon-timeout ({} ms) must not be longer than --max-abandon-timeout ({} ms)",
                self.default_abandon_timeout.as_millis(),
                self.max_abandon_timeout.as_millis(),
            ));
        }
        Ok(())
    }
}

/// The task that the command line gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Run a server.
    Run(Box<Config>),
    /// Print this text and exit.
    Print(String),
}

/// Reads the command line, without the name of the program, and the environment variables.
///
/// # Errors
/// [`ConfigError`] for an unknown flag, for a bad value, and for values that do not fit together.
pub fn parse(
    args: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Command, ConfigError> {
    let mut flags = Flags::normalize(args);
    match read(&flags.args) {
        Err(exit) if exit.status.is_ok() => return Ok(Command::Print(exit.output)),
        Err(exit) => return Err(ConfigError::Flag(problem(exit))),
        Ok(config) if config.version => {
            let version = concat!("locktopus-server ", env!("CARGO_PKG_VERSION"), "\n");
            return Ok(Command::Print(version.to_owned()));
        }
        Ok(_) => flags.add_variables(variable)?,
    }
    let config = read(&flags.args).map_err(|exit| ConfigError::Flag(problem(exit)))?;
    config.check()?;
    Ok(Command::Run(Box::new(config)))
}

fn read(args: &[String]) -> Result<Config, EarlyExit> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Config::from_args(PROGRAM, &args)
}

/// The error text of argh, as the end of a line that begins with the name of the program or of a variable.
fn problem(exit: EarlyExit) -> String {
    let mut problem = exit.output.trim_end().to_owned();
    if let Some(first) = problem.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    problem
}

/// Arguments in the forms that argh reads.
struct Flags {
    args: Vec<String>,
    /// The options among them, by their long names.
    given: HashSet<&'static str>,
}

impl Flags {
    /// Splits `--name=value`, adds the value that a switch leaves out, and splits the list of a repeatable option.
    fn normalize(args: &[String]) -> Flags {
        let known = Config::get_args_info().flags;
        let mut flags = Flags {
            args: Vec::new(),
            given: HashSet::new(),
        };
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let short =
                |short: char| name.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4]));
            let option = known
                .iter()
                .find(|flag| flag.long == name || flag.short.is_some_and(short));
            let Some((option, arg_name)) = option.and_then(|option| match option.kind {
                FlagInfoKind::Option { arg_name } => Some((option, arg_name)),
                FlagInfoKind::Switch => None,
            }) else {
                flags.args.push(arg.clone());
                continue;
            };
            let left_out =
                arg_name == SWITCH && args.peek().is_none_or(|next| next.starts_with('-'));
            let value = match inline {
                None if left_out => Some("true".to_owned()),
                None => args.next().cloned(),
                inline => inline,
            };
            flags.given.insert(option.long);
            match value {
                Some(value) => flags.args.extend(arguments(option, &value)),
                None => flags.args.push(arg.clone()),
            }
        }
        flags
    }

    /// Adds each variable whose flag is not given. An empty variable counts as unset.
    fn add_variables(
        &mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        let mut variables = Vec::new();
        for flag in Config::get_args_info().flags {
            if matches!(flag.kind, FlagInfoKind::Switch) || self.given.contains(flag.long) {
                continue;
            }
            let name = flag.long.trim_start_matches('-').replace('-', "_");
            let name = format!("LOCKTOPUS_{}", name.to_uppercase());
            let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let args = arguments(flag, &value);
            // Each variable is read alone, so that an error is known to come from it.
            read(&args).map_err(|exit| ConfigError::Variable {
                name,
                problem: problem(exit),
            })?;
            variables.extend(args);
        }
        // Before the flags: these may end with `--`.
        self.args.splice(0..0, variables);
        Ok(())
    }
}

/// A flag with its value; with each value of a list, if the flag is repeatable.
fn arguments(flag: &FlagInfo<'_>, value: &str) -> Vec<String> {
    let list = flag.optionality == Optionality::Repeating;
    let values = value.split(|c| list && c == ',');
    values
        .flat_map(|value| [flag.long.to_owned(), value.to_owned()])
        .collect()
}

fn allowed<T>(value: Option<T>, what: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("allowed is {what}"))
}

fn host(text: &str) -> Result<String, String> {
    let host = text.trim_start_matches('[').trim_end_matches(']');
    let host = Some(host).filter(|host| !host.is_empty());
    allowed(host.map(str::to_owned), "an address or a name")
}

fn path(text: &str) -> Result<PathBuf, String> {
    let path = Some(text).filter(|text| !text.is_empty());
    allowed(path.map(PathBuf::from), "the path of a file")
}

fn number<T: TryFrom<usize>, const MIN: usize, const MAX: usize>(text: &str) -> Result<T, String> {
    let number = whole_number(text).filter(|number| (MIN..=MAX).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    allowed(number, &format!("a number from {MIN} to {MAX}"))
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let time = whole_number(text).map(Duration::from_millis);
    allowed(time, "a whole number of milliseconds, 0 or more")
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = whole_number(text).map(Duration::from_secs);
    allowed(time, "a whole number of seconds, 0 or more")
}

/// Reads seconds, up to a year: such times do not overflow a clock.
fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 31_536_000.0;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| plain && *seconds <= YEAR);
    let time = seconds.map(Duration::from_secs_f64);
    allowed(
        time,
        "a number of seconds such as 15 or 0.5, up to 31536000",
    )
}

fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim();
    let (scheme, host) = origin.split_once("://").unwrap_or_default();
    let named = !scheme.is_empty() && !host.is_empty() && !host.contains('/');
    let origin = (named || origin == "*").then(|| origin.to_ascii_lowercase());
    allowed(origin, "an origin such as https://example.com, or *")
}

fn switch(text: &str) -> Result<bool, String> {
    let value = match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    };
    allowed(value, "true, 1, yes, y, false, 0, no or n")
}

/// Reads a number of digits only; Rust's own parser also accepts a plus sign.
pub(crate) fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
