//! The command line and the environment: flags over variables over defaults.

use crate::error::ConfigError;
use argh::FromArgs;
use locktopus_engine::{MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Locktopus, a lock service: clients lock sets of paths, for read or for write, over WebSockets.
///
/// Each flag has an environment variable, which counts where the flag is not given.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
pub(crate) struct Flags {
    /// address or name to listen on (LOCKTOPUS_HOST; default 0.0.0.0)
    #[argh(option, short = 'H', arg_name = "name")]
    pub(crate) host: Option<String>,
    /// port to listen on, 0 for any that is free (LOCKTOPUS_PORT; default 9009)
    #[argh(option, short = 'p', arg_name = "number")]
    pub(crate) port: Option<String>,
    /// milliseconds for which a lock stays locked after its connection is gone, unless the client
    /// says (LOCKTOPUS_DEFAULT_ABANDON_TIMEOUT; default 60000)
    #[argh(option, arg_name = "ms")]
    pub(crate) default_abandon_timeout: Option<String>,
    /// the longest abandon timeout that a client may ask for, in milliseconds
    /// (LOCKTOPUS_MAX_ABANDON_TIMEOUT; default 86400000, a day)
    #[argh(option, arg_name = "ms")]
    pub(crate) max_abandon_timeout: Option<String>,
    /// seconds of silence after which a connection is pinged, 0 for never
    /// (LOCKTOPUS_PING_INTERVAL; default 15)
    #[argh(option, arg_name = "seconds")]
    pub(crate) ping_interval: Option<String>,
    /// seconds of silence after which a connection counts as broken, more than the interval
    /// (LOCKTOPUS_PING_TIMEOUT; default 30)
    #[argh(option, arg_name = "seconds")]
    pub(crate) ping_timeout: Option<String>,
    /// seconds for a TLS handshake, and for the head of an HTTP request
    /// (LOCKTOPUS_HANDSHAKE_TIMEOUT; default 10)
    #[argh(option, arg_name = "seconds")]
    pub(crate) handshake_timeout: Option<String>,
    /// connections at one time (LOCKTOPUS_MAX_CONNECTIONS; default 10000)
    #[argh(option, arg_name = "number")]
    pub(crate) max_connections: Option<String>,
    /// namespaces at one time (LOCKTOPUS_MAX_NAMESPACES; default 10000)
    #[argh(option, arg_name = "number")]
    pub(crate) max_namespaces: Option<String>,
    /// bytes of the name of a namespace (LOCKTOPUS_MAX_NAMESPACE_BYTES; default 255)
    #[argh(option, arg_name = "number")]
    pub(crate) max_namespace_bytes: Option<String>,
    /// bytes of a message (LOCKTOPUS_MAX_MESSAGE_BYTES; default 65536)
    #[argh(option, arg_name = "number")]
    pub(crate) max_message_bytes: Option<String>,
    /// resources of a lock (LOCKTOPUS_MAX_RESOURCES; default and most 4096)
    #[argh(option, arg_name = "number")]
    pub(crate) max_resources: Option<String>,
    /// segments of a path (LOCKTOPUS_MAX_PATH_DEPTH; default and most 1024)
    #[argh(option, arg_name = "number")]
    pub(crate) max_path_depth: Option<String>,
    /// bytes of a path, its segments and one more for each (LOCKTOPUS_MAX_PATH_BYTES; default and
    /// most 16384)
    #[argh(option, arg_name = "number")]
    pub(crate) max_path_bytes: Option<String>,
    /// origin of web pages that may connect besides the server's own, such as
    /// https://example.com, or * for all; may be repeated (LOCKTOPUS_ALLOW_ORIGIN, separated by
    /// commas)
    #[argh(option, arg_name = "origin")]
    pub(crate) allow_origin: Vec<String>,
    /// file of auth tokens, one a line, each optionally followed by the prefix of the namespaces
    /// it is good for (LOCKTOPUS_AUTH_TOKEN_FILE; read again at SIGHUP)
    #[argh(option, arg_name = "path")]
    pub(crate) auth_token_file: Option<String>,
    /// certificate chain in PEM, for wss and https (LOCKTOPUS_TLS_CERT; read again at SIGHUP)
    #[argh(option, arg_name = "path")]
    pub(crate) tls_cert: Option<String>,
    /// private key in PEM (LOCKTOPUS_TLS_KEY)
    #[argh(option, arg_name = "path")]
    pub(crate) tls_key: Option<String>,
    /// log connections as they come and go (LOCKTOPUS_LOG_CLIENTS; default false; the value may be
    /// left out)
    #[argh(option, arg_name = "true|false")]
    pub(crate) log_clients: Option<String>,
    /// log locks as they are taken and released (LOCKTOPUS_LOG_LOCKS; default false; the value may
    /// be left out)
    #[argh(option, arg_name = "true|false")]
    pub(crate) log_locks: Option<String>,
    /// form of the log (LOCKTOPUS_LOG_FORMAT; default text)
    #[argh(option, arg_name = "text|json")]
    pub(crate) log_format: Option<String>,
    /// seconds between statistics in the log, 0 for never (LOCKTOPUS_STATS_INTERVAL; default 0)
    #[argh(option, arg_name = "seconds")]
    pub(crate) stats_interval: Option<String>,
    /// print the version
    #[argh(switch, short = 'V')]
    pub(crate) version: bool,
}

/// Brings `--name=value` and switches without a value into the forms that argh reads.
pub(crate) fn normalize(args: &[String]) -> Vec<String> {
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
pub(crate) struct Kind<T> {
    read: fn(&str) -> Option<T>,
    allowed: &'static str,
}

pub(crate) const HOST: Kind<String> = Kind {
    read: |text| {
        let host = text.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| host.to_owned())
    },
    allowed: "an address or a name",
};

pub(crate) const PORT: Kind<u16> = Kind {
    read: whole_number,
    allowed: "a number from 0 to 65535",
};

pub(crate) const SECONDS: Kind<Duration> = Kind {
    read: |text| whole_number(text).map(Duration::from_secs),
    allowed: "a whole number of seconds, 0 or more",
};

/// Up to a year: far below what a clock can add.
pub(crate) const PART_SECONDS: Kind<Duration> = Kind {
    read: |text| {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds: f64 = text.parse().ok().filter(|_| plain)?;
        (seconds <= 31_536_000.0).then(|| Duration::from_secs_f64(seconds))
    },
    allowed: "a number of seconds such as 15 or 0.5, up to 31536000",
};

pub(crate) const MILLIS: Kind<Duration> = Kind {
    read: |text| whole_number(text).map(Duration::from_millis),
    allowed: "a whole number of milliseconds, 0 or more",
};

pub(crate) const COUNT: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|count| (1..=1_000_000).contains(count)),
    allowed: "a number from 1 to 1000000",
};

pub(crate) const MESSAGE_BYTES: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|bytes| (1024..=64 * 1024 * 1024).contains(bytes)),
    allowed: "a number from 1024 to 67108864",
};

pub(crate) const NAMESPACE_BYTES: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|bytes| (1..=4096).contains(bytes)),
    allowed: "a number from 1 to 4096",
};

/// The engine has limits of its own: these may only be lower.
pub(crate) const RESOURCES: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|count| (1..=MAX_RESOURCES).contains(count)),
    allowed: "a number from 1 to 4096",
};

pub(crate) const DEPTH: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|depth| (1..=MAX_DEPTH).contains(depth)),
    allowed: "a number from 1 to 1024",
};

pub(crate) const PATH_BYTES: Kind<usize> = Kind {
    read: |text| whole_number(text).filter(|bytes| (1..=MAX_PATH_BYTES).contains(bytes)),
    allowed: "a number from 1 to 16384",
};

pub(crate) const PATH: Kind<PathBuf> = Kind {
    read: |text| Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()),
    allowed: "the path of a file",
};

pub(crate) const LOG_FORMAT: Kind<LogFormat> = Kind {
    read: |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    },
    allowed: "text or json",
};

/// Several, separated by commas.
pub(crate) const ORIGINS: Kind<Vec<String>> = Kind {
    read: |text| {
        text.split(',')
            .map(|origin| {
                let origin = origin.trim();
                let (scheme, host) = origin.split_once("://").unwrap_or_default();
                let named = !scheme.is_empty() && !host.is_empty() && !host.contains('/');
                (named || origin == "*").then(|| origin.to_ascii_lowercase())
            })
            .collect()
    },
    allowed: "an origin such as https://example.com, or *",
};

pub(crate) const SWITCH: Kind<bool> = Kind {
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

pub(crate) struct Settings<V> {
    pub(crate) variable: V,
}

impl<V: Fn(&str) -> Option<String>> Settings<V> {
    /// The flag or else the variable; an empty variable counts as none.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        flag: Option<String>,
        kind: &Kind<T>,
    ) -> Result<Option<T>, ConfigError> {
        let variable = format!("LOCKTOPUS_{}", name.to_ascii_uppercase());
        let (source, text) = match flag {
            Some(text) => (format!("--{}", name.replace('_', "-")), text),
            None => match (self.variable)(&variable) {
                Some(text) if !text.is_empty() => (variable, text),
                _ => return Ok(None),
            },
        };
        match (kind.read)(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::new(format!(
                "bad value {text:?} of {source}; allowed is {}",
                kind.allowed
            ))),
        }
    }
}
