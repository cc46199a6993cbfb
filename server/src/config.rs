//! What the server is told: flags over environment over defaults.

use argh::FromArgs;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The parameters of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Address or name to listen on.
    pub host: String,
    /// Port to listen on; 0 for any that is free.
    pub port: u16,
    /// Whether connections are logged as they come and go.
    pub log_clients: bool,
    /// Whether locks are logged as they are taken and released.
    pub log_locks: bool,
    /// How often statistics are logged; `None` for never.
    pub stats_interval: Option<Duration>,
    /// How long a lock stays locked after its connection is gone, unless the client says.
    pub default_abandon_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "0.0.0.0".to_owned(),
            port: 9009,
            log_clients: false,
            log_locks: false,
            stats_interval: None,
            default_abandon_timeout: Duration::from_secs(60),
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// To run a server.
    Run(Config),
    /// To print this and be done.
    Print(String),
}

/// What was wrong with a flag or a variable, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Locktopus, a lock service: clients lock sets of paths, for read or for write, over WebSockets.
///
/// Each flag has an environment variable, which counts where the flag is not given.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Flags {
    /// address or name to listen on (LOCKTOPUS_HOST; default 0.0.0.0)
    #[argh(option, short = 'H', arg_name = "name")]
    host: Option<String>,
    /// port to listen on, 0 for any that is free (LOCKTOPUS_PORT; default 9009)
    #[argh(option, short = 'p', arg_name = "number")]
    port: Option<String>,
    /// log connections as they come and go (LOCKTOPUS_LOG_CLIENTS; default false; the value may be
    /// left out)
    #[argh(option, arg_name = "true|false")]
    log_clients: Option<String>,
    /// log locks as they are taken and released (LOCKTOPUS_LOG_LOCKS; default false; the value may
    /// be left out)
    #[argh(option, arg_name = "true|false")]
    log_locks: Option<String>,
    /// seconds between statistics in the log, 0 for never (LOCKTOPUS_STATS_INTERVAL; default 0)
    #[argh(option, arg_name = "seconds")]
    stats_interval: Option<String>,
    /// milliseconds for which a lock stays locked after its connection is gone, unless the client
    /// says (LOCKTOPUS_DEFAULT_ABANDON_TIMEOUT; default 60000)
    #[argh(option, arg_name = "ms")]
    default_abandon_timeout: Option<String>,
    /// print the version
    #[argh(switch)]
    version: bool,
}

/// Reads flags (without the name of the program) and variables.
///
/// # Errors
/// [`ConfigError`] for what is not known or has a bad value.
pub fn parse(
    args: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Command, ConfigError> {
    let args = normalize(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let flags = match Flags::from_args(&["locktopus-server"], &args) {
        Ok(flags) => flags,
        Err(exit) if exit.status.is_ok() => return Ok(Command::Print(exit.output)),
        Err(exit) => return Err(ConfigError(exit.output.trim_end().to_owned())),
    };
    if flags.version {
        let version = concat!("locktopus-server ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Command::Print(version.to_owned()));
    }
    let settings = Settings { variable };
    let defaults = Config::default();
    let seconds = settings.read("stats-interval", flags.stats_interval, &SECONDS)?;
    let abandon_ms = settings.read(
        "default-abandon-timeout",
        flags.default_abandon_timeout,
        &MILLIS,
    )?;
    Ok(Command::Run(Config {
        host: settings
            .read("host", flags.host, &HOST)?
            .unwrap_or(defaults.host),
        port: settings
            .read("port", flags.port, &PORT)?
            .unwrap_or(defaults.port),
        log_clients: settings
            .read("log-clients", flags.log_clients, &SWITCH)?
            .unwrap_or(false),
        log_locks: settings
            .read("log-locks", flags.log_locks, &SWITCH)?
            .unwrap_or(false),
        stats_interval: seconds
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        default_abandon_timeout: abandon_ms
            .map_or(defaults.default_abandon_timeout, Duration::from_millis),
    }))
}

/// Brings `--name=value` and switches without a value into the forms that argh reads.
fn normalize(args: &[String]) -> Vec<String> {
    const SWITCHES: [&str; 2] = ["--log-clients", "--log-locks"];
    let mut normal = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                normal.extend([name.to_owned(), value.to_owned()]);
            }
            _ => normal.push(arg.clone()),
        }
        let next_is_value = args
            .get(index + 1)
            .is_some_and(|next| !next.starts_with('-'));
        if SWITCHES.contains(&arg.as_str()) && !next_is_value {
            normal.push("true".to_owned());
        }
    }
    normal
}

/// How one kind of value is read, and how to name it in an error.
struct Kind<T> {
    read: fn(&str) -> Option<T>,
    allowed: &'static str,
}

const HOST: Kind<String> = Kind {
    read: |text| {
        let host = text.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| host.to_owned())
    },
    allowed: "an address or a name",
};

const PORT: Kind<u16> = Kind {
    read: whole_number,
    allowed: "a number from 0 to 65535",
};

const SECONDS: Kind<u64> = Kind {
    read: whole_number,
    allowed: "a whole number of seconds, 0 or more",
};

const MILLIS: Kind<u64> = Kind {
    read: whole_number,
    allowed: "a whole number of milliseconds, 0 or more",
};

const SWITCH: Kind<bool> = Kind {
    read: |text| match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    },
    allowed: "true, 1, yes, y, false, 0, no or n",
};

/// A number of digits only; Rust's own parser also takes a plus sign.
pub(crate) fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

struct Settings<V> {
    variable: V,
}

impl<V: Fn(&str) -> Option<String>> Settings<V> {
    /// The flag or else the variable; an empty variable counts as none.
    fn read<T>(
        &self,
        name: &str,
        flag: Option<String>,
        kind: &Kind<T>,
    ) -> Result<Option<T>, ConfigError> {
        let variable = format!("LOCKTOPUS_{}", name.to_ascii_uppercase().replace('-', "_"));
        let (source, text) = match flag {
            Some(text) => (format!("--{name}"), text),
            None => match (self.variable)(&variable) {
                Some(text) if !text.is_empty() => (variable, text),
                _ => return Ok(None),
            },
        };
        match (kind.read)(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError(format!(
                "bad value {text:?} of {source}; allowed is {}",
                kind.allowed
            ))),
        }
    }
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
            Ok(Command::Run(config)) => config,
            other => panic!("{args}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_and_variables_there_are_defaults() {
        assert_eq!(config("", &[]), Config::default());
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
        assert_eq!(
            from_variables,
            Config {
                host: "localhost".to_owned(),
                port: 2,
                log_clients: true,
                log_locks: true,
                stats_interval: Some(Duration::from_secs(3)),
                default_abandon_timeout: Duration::from_millis(1500),
            }
        );
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
