//! What the server is told.

use crate::error::ConfigError;
use crate::flags::{self, Flags, LogFormat, Settings, normalize};
use crate::secrets::Secrets;
use argh::FromArgs;
use locktopus_engine::{MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use std::time::Duration;

/// The parameters of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Address or name to listen on.
    pub host: String,
    /// Port to listen on; 0 for any that is free.
    pub port: u16,
    /// How long a lock stays locked after its connection is gone, unless the client says.
    pub default_abandon_timeout: Duration,
    /// How long a connection may be silent before it is pinged; zero for no pings.
    pub ping_interval: Duration,
    /// How long a connection may be silent, or not take what is sent, before it counts as broken.
    /// More than the interval.
    pub ping_timeout: Duration,
    /// What clients may take.
    pub limits: Limits,
    /// Origins of web pages that may connect besides the server's own, in lower case; `*` is any.
    pub allow_origins: Vec<String>,
    /// What is read from files: auth tokens, certificate and key.
    pub secrets: Secrets,
    /// Whether connections are logged as they come and go.
    pub log_clients: bool,
    /// Whether locks are logged as they are taken and released.
    pub log_locks: bool,
    /// The form of the log.
    pub log_format: LogFormat,
    /// How often statistics are logged; `None` for never.
    pub stats_interval: Option<Duration>,
}

impl Config {
    /// How long a peer may take for what is sent to it.
    pub(crate) fn send_timeout(&self) -> Duration {
        const WITHOUT_PINGS: Duration = Duration::from_secs(30);
        if self.ping_interval.is_zero() {
            WITHOUT_PINGS
        } else {
            self.ping_timeout
        }
    }
}

/// What clients may take. Whatever goes beyond is refused with a sentence that names the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// WebSocket connections at one time.
    pub connections: usize,
    /// Namespaces at one time.
    pub namespaces: usize,
    /// Bytes of the name of a namespace.
    pub namespace_bytes: usize,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// Resources of a lock, at most [`MAX_RESOURCES`].
    pub resources: usize,
    /// Segments of a path, at most [`MAX_DEPTH`].
    pub path_depth: usize,
    /// Bytes of a path, its segments and one more for each; at most [`MAX_PATH_BYTES`].
    pub path_bytes: usize,
    /// The longest abandon timeout that a client may ask for.
    pub abandon_timeout: Duration,
    /// How long a peer may take for its TLS handshake, and for the head of each HTTP request.
    pub handshake: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "0.0.0.0".to_owned(),
            port: 9009,
            default_abandon_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            allow_origins: Vec::new(),
            secrets: Secrets::default(),
            log_clients: false,
            log_locks: false,
            log_format: LogFormat::Text,
            stats_interval: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            namespaces: 10_000,
            namespace_bytes: 255,
            message_bytes: 64 * 1024,
            resources: MAX_RESOURCES,
            path_depth: MAX_DEPTH,
            path_bytes: MAX_PATH_BYTES,
            abandon_timeout: Duration::from_secs(24 * 60 * 60),
            handshake: Duration::from_secs(10),
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// To run a server.
    Run(Box<Config>),
    /// To print this and be done.
    Print(String),
}

/// Reads flags (without the name of the program), variables, and the files that they name.
///
/// # Errors
/// [`ConfigError`] for what is not known, has a bad value, or cannot be read.
pub fn parse(
    args: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Command, ConfigError> {
    let args = normalize(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let flags = match Flags::from_args(&["locktopus-server"], &args) {
        Ok(flags) => flags,
        Err(exit) if exit.status.is_ok() => return Ok(Command::Print(exit.output)),
        Err(exit) => return Err(ConfigError::new(exit.output.trim_end().to_owned())),
    };
    if flags.version {
        let version = concat!("locktopus-server ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Command::Print(version.to_owned()));
    }
    let config = read(flags, &Settings { variable })?;
    Ok(Command::Run(Box::new(config)))
}

fn read<V: Fn(&str) -> Option<String>>(
    flags: Flags,
    settings: &Settings<V>,
) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let limits = &mut config.limits;
    let (mut token_file, mut cert, mut key) = (None, None, None);
    let mut stats_interval = Duration::ZERO;
    /// Each value goes to its place if it is given.
    macro_rules! read {
        ($($flag:ident: $kind:ident => $place:expr;)*) => {
            $(if let Some(value) = settings.read(stringify!($flag), flags.$flag, &flags::$kind)? {
                $place = value.into();
            })*
        };
    }
    read! {
        host: HOST => config.host;
        port: PORT => config.port;
        default_abandon_timeout: MILLIS => config.default_abandon_timeout;
        max_abandon_timeout: MILLIS => limits.abandon_timeout;
        handshake_timeout: PART_SECONDS => limits.handshake;
        ping_interval: PART_SECONDS => config.ping_interval;
        ping_timeout: PART_SECONDS => config.ping_timeout;
        max_connections: COUNT => limits.connections;
        max_namespaces: COUNT => limits.namespaces;
        max_namespace_bytes: NAMESPACE_BYTES => limits.namespace_bytes;
        max_message_bytes: MESSAGE_BYTES => limits.message_bytes;
        max_resources: RESOURCES => limits.resources;
        max_path_depth: DEPTH => limits.path_depth;
        max_path_bytes: PATH_BYTES => limits.path_bytes;
        auth_token_file: PATH => token_file;
        tls_cert: PATH => cert;
        tls_key: PATH => key;
        log_clients: SWITCH => config.log_clients;
        log_locks: SWITCH => config.log_locks;
        log_format: LOG_FORMAT => config.log_format;
        stats_interval: SECONDS => stats_interval;
    }
    let origins = Some(flags.allow_origin.join(",")).filter(|all| !all.is_empty());
    if let Some(origins) = settings.read("allow_origin", origins, &flags::ORIGINS)? {
        config.allow_origins = origins;
    }
    config.stats_interval = Some(stats_interval).filter(|interval| !interval.is_zero());
    if !config.ping_interval.is_zero() && config.ping_timeout <= config.ping_interval {
        return Err(ConfigError::new(format!(
            "--ping-timeout ({:?}) must be longer than --ping-interval ({:?}), so that a connection \
             can answer",
            config.ping_timeout, config.ping_interval
        )));
    }
    if config.limits.handshake.is_zero() {
        let what = "--handshake-timeout must not be 0: nobody could connect";
        return Err(ConfigError::new(what.to_owned()));
    }
    if config.default_abandon_timeout > config.limits.abandon_timeout {
        return Err(ConfigError::new(format!(
            "--default-abandon-timeout ({} ms) must not be longer than --max-abandon-timeout ({} ms)",
            config.default_abandon_timeout.as_millis(),
            config.limits.abandon_timeout.as_millis(),
        )));
    }
    config.secrets = Secrets::load(token_file, cert, key)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(args: &str, variables: &[(&str, &str)]) -> Result<Command, String> {
        let args: Vec<String> = args.split_whitespace().map(String::from).collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        parse(&args, variable).map_err(|error| error.to_string())
    }

    fn config(args: &str, variables: &[(&str, &str)]) -> Config {
        match parse_with(args, variables) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{args}: {other:?}"),
        }
    }

    fn shown(config: &Config) -> String {
        format!("{config:?}")
    }

    #[test]
    fn without_flags_and_variables_there_are_defaults() {
        assert_eq!(shown(&config("", &[])), shown(&Config::default()));
    }

    #[test]
    fn both_forms_of_a_flag_work() {
        for args in [
            "--port 1 --host ::1",
            "--port=1 --host=::1",
            "-p 1 -H ::1",
            "-p 1 -H [::1]",
        ] {
            let config = config(args, &[]);
            assert_eq!((config.port, config.host.as_str()), (1, "::1"), "{args}");
        }
        let all = config(
            "--log-clients --log-locks --stats-interval=5 --default-abandon-timeout 0",
            &[],
        );
        assert!(all.log_clients && all.log_locks);
        assert_eq!(all.stats_interval, Some(Duration::from_secs(5)));
        assert_eq!(all.default_abandon_timeout, Duration::ZERO);
    }

    #[test]
    fn limits_and_access_are_read() {
        let config = config(
            "--max-connections 1 --max-namespaces 2 --max-namespace-bytes 3 --max-message-bytes 4096 \
             --max-resources 5 --max-path-depth 6 --max-path-bytes 7 --max-abandon-timeout 80000 \
             --handshake-timeout 9 --ping-interval 0.5 --ping-timeout 2 --allow-origin https://A.example \
             --allow-origin=http://b:80 --log-format json",
            &[("LOCKTOPUS_ALLOW_ORIGIN", "*")],
        );
        let limits = Limits {
            connections: 1,
            namespaces: 2,
            namespace_bytes: 3,
            message_bytes: 4096,
            resources: 5,
            path_depth: 6,
            path_bytes: 7,
            abandon_timeout: Duration::from_secs(80),
            handshake: Duration::from_secs(9),
        };
        assert_eq!(config.limits, limits);
        assert_eq!(config.ping_interval, Duration::from_millis(500));
        assert_eq!(config.allow_origins, ["https://a.example", "http://b:80"]);
        assert_eq!(config.log_format, LogFormat::Json);
        let origins = parse_with("", &[("LOCKTOPUS_ALLOW_ORIGIN", "http://a, *")]);
        let Ok(Command::Run(config)) = origins else {
            panic!("{origins:?}");
        };
        assert_eq!(config.allow_origins, ["http://a", "*"]);
        assert!(parse_with("--ping-interval 0 --ping-timeout 0", &[]).is_ok());
    }

    #[test]
    fn a_flag_goes_over_its_variable_and_the_variable_over_the_default() {
        let variables = [
            ("LOCKTOPUS_HOST", "localhost"),
            ("LOCKTOPUS_PORT", "2"),
            ("LOCKTOPUS_LOG_CLIENTS", "Yes"),
            ("LOCKTOPUS_LOG_LOCKS", "y"),
            ("LOCKTOPUS_STATS_INTERVAL", "3"),
            ("LOCKTOPUS_DEFAULT_ABANDON_TIMEOUT", "1500"),
        ];
        let from_variables = config("", &variables);
        let expected = Config {
            host: "localhost".to_owned(),
            port: 2,
            log_clients: true,
            log_locks: true,
            stats_interval: Some(Duration::from_secs(3)),
            default_abandon_timeout: Duration::from_millis(1500),
            ..Config::default()
        };
        assert_eq!(shown(&from_variables), shown(&expected));
        let from_flags = config(
            "--port 4 --log-clients=false --stats-interval 0",
            &variables,
        );
        assert_eq!(from_flags.port, 4);
        assert!(!from_flags.log_clients && from_flags.log_locks);
        assert_eq!(from_flags.stats_interval, None);
        assert_eq!(config("--log-locks false --port 0", &variables).port, 0);
        assert_eq!(
            config("", &[("LOCKTOPUS_PORT", "")]).port,
            9009,
            "empty is none"
        );
    }

    #[test]
    fn a_bad_value_names_its_source_and_what_is_allowed() {
        for (args, variable, parts) in [
            ("--port x", ("", ""), ["--port", "65535"]),
            ("--port=65536", ("", ""), ["--port", "65535"]),
            ("--port=-1", ("", ""), ["--port", "65535"]),
            ("--port=+1", ("", ""), ["--port", "65535"]),
            ("--host=", ("", ""), ["--host", "name"]),
            (
                "--stats-interval 1.5",
                ("", ""),
                ["--stats-interval", "whole number"],
            ),
            (
                "--default-abandon-timeout=-1",
                ("", ""),
                ["--default-abandon-timeout", "0 or more"],
            ),
            ("--log-locks=maybe", ("", ""), ["--log-locks", "true"]),
            ("", ("LOCKTOPUS_PORT", "many"), ["LOCKTOPUS_PORT", "65535"]),
            (
                "",
                ("LOCKTOPUS_LOG_CLIENTS", "2"),
                ["LOCKTOPUS_LOG_CLIENTS", "yes"],
            ),
            (
                "--max-resources 4097",
                ("", ""),
                ["--max-resources", "4096"],
            ),
            ("--max-path-depth 0", ("", ""), ["--max-path-depth", "1024"]),
            (
                "--max-path-bytes x",
                ("", ""),
                ["--max-path-bytes", "16384"],
            ),
            (
                "--max-message-bytes 1",
                ("", ""),
                ["--max-message-bytes", "1024"],
            ),
            (
                "--max-namespace-bytes 0",
                ("", ""),
                ["--max-namespace-bytes", "4096"],
            ),
            (
                "--max-connections 0",
                ("", ""),
                ["--max-connections", "1000000"],
            ),
            (
                "",
                ("LOCKTOPUS_MAX_NAMESPACES", "-1"),
                ["LOCKTOPUS_MAX_NAMESPACES", "from 1"],
            ),
            ("--ping-interval=-1", ("", ""), ["--ping-interval", "0.5"]),
            ("--ping-interval 1e3", ("", ""), ["--ping-interval", "0.5"]),
            (
                "--ping-interval 30",
                ("", ""),
                ["--ping-timeout", "--ping-interval"],
            ),
            (
                "--max-abandon-timeout 59999",
                ("", ""),
                ["--default-abandon-timeout", "--max-abandon-timeout"],
            ),
            (
                "--allow-origin example.com",
                ("", ""),
                ["--allow-origin", "https://"],
            ),
            (
                "--handshake-timeout 0",
                ("", ""),
                ["--handshake-timeout", "0"],
            ),
            ("--log-format xml", ("", ""), ["--log-format", "json"]),
            ("--tls-cert /c", ("", ""), ["--tls-key", "together"]),
            (
                "--auth-token-file /no/such/file",
                ("", ""),
                ["/no/such/file", "No such file"],
            ),
            ("--nonsense", ("", ""), ["--nonsense", "nrecognized"]),
            ("run", ("", ""), ["run", "nrecognized"]),
            ("--port", ("", ""), ["--port", "No value"]),
        ] {
            let error = parse_with(args, &[variable]).expect_err(args);
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{args}: {error}"
            );
        }
    }

    #[test]
    fn help_names_every_flag_and_variable() {
        for flag in ["-h", "--help"] {
            let Ok(Command::Print(help)) = parse_with(flag, &[]) else {
                panic!("{flag} prints the help");
            };
            for name in [
                "-H, --host",
                "-p, --port",
                "--log-clients",
                "LOCKTOPUS_STATS_INTERVAL",
            ] {
                assert!(help.contains(name), "{help}");
            }
        }
        assert!(matches!(
            parse_with("--version", &[]),
            Ok(Command::Print(_))
        ));
    }
}
