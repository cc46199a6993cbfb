//! The parameters of a server: flags, their environment variables, their limits and their defaults.
//!
//! [`Config`] is the struct that argh reads. If a flag is not given, argh gets its variable instead. So a flag
//! overrides its variable, and the variable overrides the default.

mod flags;
mod values;

use crate::error::ConfigError;
use crate::shares;
use argh::{ArgsInfo, FromArgValue, FromArgs};
use flags::{Flags, PROGRAM, problem, read};
use locktopus_engine::{MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use std::path::PathBuf;
use std::time::Duration;
pub(crate) use values::whole_number;
use values::{host, milliseconds, number, origin, path, seconds, switch, whole_seconds};

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

    /// most seconds for which a request waits for its lock; then it is withdrawn; 0 for no limit
    /// (LOCKTOPUS_MAX_WAIT; default 0)
    #[argh(
        option,
        arg_name = "seconds",
        from_str_fn(seconds),
        default = "Duration::ZERO"
    )]
    pub max_wait: Duration,

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

    /// threads that serve connections (LOCKTOPUS_WORKERS; default: one for each core, at most 4)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 1024>), default = "default_workers()")]
    pub workers: usize,

    /// most connections at one time (LOCKTOPUS_MAX_CONNECTIONS; default 10000)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 1_000_000>), default = "10_000")]
    pub max_connections: usize,

    /// most bytes of memory for all messages that are not complete, and for all requests, held or waiting
    /// (LOCKTOPUS_MAX_REQUEST_BYTES; default 268435456)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 65_536, { isize::MAX as usize }>), default = "268_435_456")]
    pub max_request_bytes: usize,

    /// percentage of each limit that every client can use; beyond it, a client can use the rest as long as this
    /// percentage of the limit stays free for others. A client is an auth token or, without tokens, an address
    /// (LOCKTOPUS_SHARE; default 25, 100 for no shares)
    #[argh(option, arg_name = "percent", from_str_fn(number::<_, 1, 100>), default = "25")]
    pub share: usize,

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

    /// most segments of the paths of a lock, all together (LOCKTOPUS_MAX_SEGMENTS; default 4096, up to 65536)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, 65_536>), default = "4096")]
    pub max_segments: usize,

    /// most segments of a path (LOCKTOPUS_MAX_PATH_DEPTH; default 64, up to 1024)
    #[argh(option, arg_name = "number", from_str_fn(number::<_, 1, MAX_DEPTH>), default = "64")]
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

/// More threads do not make the server faster: the system calls of a core are the limit, and more threads wake each other
/// more often.
fn default_workers() -> usize {
    const MOST: usize = 4;
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST))
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

    /// The memory that the largest message and its request need.
    fn largest_request(&self) -> usize {
        // The shortest resource is `{"type":"r"}`, followed by a comma.
        let resources = self.max_resources.min(self.max_message_bytes / 13);
        // The shortest segment is `""`, followed by a comma.
        let segments = self.max_segments.min(self.max_message_bytes / 3);
        shares::request_bytes(self.max_message_bytes, resources, segments) + self.max_message_bytes
    }

    /// The memory for messages that one client can have.
    fn most_request_bytes(&self) -> usize {
        shares::most(self.max_request_bytes, self.share)
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
        let (needed, most) = (self.largest_request(), self.most_request_bytes());
        if needed > most {
            return fail(format!(
                "--max-request-bytes ({}) and --share ({}) leave {most} bytes to one client, but a message of \
                 --max-message-bytes ({}) with --max-resources ({}) needs {needed}",
                self.max_request_bytes, self.share, self.max_message_bytes, self.max_resources
            ));
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
