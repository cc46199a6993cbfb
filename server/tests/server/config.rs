//! The command line and the environment: a flag overrides its variable, and the variable overrides the default.

use locktopus_server::{Command, Config, ConfigError, LogFormat, parse};
use std::time::Duration;

fn parse_with(args: &str, variables: &[(&str, &str)]) -> Result<Command, ConfigError> {
    let args: Vec<String> = args.split_whitespace().map(String::from).collect();
    parse_all(&args, variables)
}

fn parse_all(args: &[String], variables: &[(&str, &str)]) -> Result<Command, ConfigError> {
    parse(args, |name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn config(args: &str, variables: &[(&str, &str)]) -> Config {
    match parse_with(args, variables) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{args}: {other:?}"),
    }
}

fn error(args: &str, variables: &[(&str, &str)]) -> String {
    parse_with(args, variables).expect_err(args).to_string()
}

fn printed(args: &str) -> String {
    match parse_with(args, &[]) {
        Ok(Command::Print(text)) => text,
        other => panic!("{args}: {other:?}"),
    }
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

/// The options with their values that `--help` lists, by their long names: all flags but help and version.
fn options() -> Vec<String> {
    let help = printed("--help");
    let words = help.split_whitespace();
    let long = words.filter(|word| word.starts_with("--"));
    let mut options: Vec<String> = long
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
        .filter(|name| name != "help" && name != "version")
        .collect();
    options.sort_unstable();
    options.dedup();
    options
}

/// A good value of an option, other than the default.
fn value(option: &str) -> &'static str {
    match option {
        "host" => "::1",
        "max-message-bytes" => "2048",
        "allow-origin" => "http://a",
        "auth-token-file" | "tls-cert" | "tls-key" => "/a/file",
        "log-clients" | "log-locks" => "yes",
        "log-format" => "json",
        "max-request-bytes" => "1000000000",
        "ping-timeout" | "max-abandon-timeout" => "100000",
        _ => "7",
    }
}

fn variable(option: &str) -> String {
    format!("LOCKTOPUS_{}", option.replace('-', "_").to_uppercase())
}

#[test]
fn without_flags_and_variables_all_values_are_defaults() {
    let config = config("", &[]);
    assert_eq!(shown(&config), shown(&Config::default()));
    assert_eq!((config.host.as_str(), config.port), ("0.0.0.0", 9009));
    assert_eq!(config.default_abandon_timeout, Duration::from_secs(60));
    assert_eq!(config.max_abandon_timeout, Duration::from_secs(86_400));
    assert_eq!(config.ping_interval, Duration::from_secs(15));
    assert_eq!(config.ping_timeout, Duration::from_secs(30));
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    let limits = [
        (config.max_connections, 10_000),
        (config.max_namespaces, 10_000),
        (config.max_namespace_bytes, 255),
        (config.max_message_bytes, 65_536),
        (config.max_resources, 4096),
        (config.max_segments, 4096),
        (config.max_request_bytes, 268_435_456),
        (config.share, 25),
        (config.max_path_depth, 64),
        (config.max_path_bytes, 16_384),
    ];
    assert!(limits.iter().all(|(limit, default)| limit == default));
    assert!(!config.log_clients && !config.log_locks && config.stats_interval.is_zero());
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
    assert_eq!(all.stats_interval, Duration::from_secs(5));
    assert_eq!(all.default_abandon_timeout, Duration::ZERO);
}

#[test]
fn limits_and_access_are_read() {
    let config = config(
        "--workers 3 --max-connections 1 --max-namespaces 2 --max-namespace-bytes 3 --max-message-bytes 4096 \
         --max-resources 5 --max-segments 8 --max-path-depth 6 --max-path-bytes 7 --max-abandon-timeout 80000 \
         --handshake-timeout 9 --ping-interval 0.5 --ping-timeout 2 --log-format json",
        &[],
    );
    assert_eq!(config.workers, 3);
    assert_eq!(config.max_connections, 1);
    assert_eq!(config.max_namespaces, 2);
    assert_eq!(config.max_namespace_bytes, 3);
    assert_eq!(config.max_message_bytes, 4096);
    assert_eq!(config.max_resources, 5);
    assert_eq!(config.max_segments, 8);
    assert_eq!(config.max_path_depth, 6);
    assert_eq!(config.max_path_bytes, 7);
    assert_eq!(config.max_abandon_timeout, Duration::from_secs(80));
    assert_eq!(config.handshake_timeout, Duration::from_secs(9));
    assert_eq!(config.ping_interval, Duration::from_millis(500));
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(parse_with("--ping-interval 0 --ping-timeout 0", &[]).is_ok());
}

#[test]
fn a_repeated_allow_origin_replaces_its_variable() {
    let star = [("LOCKTOPUS_ALLOW_ORIGIN", "*")];
    for args in [
        "--allow-origin https://A.example --allow-origin=http://b:80",
        "--allow-origin https://A.example,http://b:80",
    ] {
        let config = config(args, &star);
        assert_eq!(config.allow_origin, ["https://a.example", "http://b:80"]);
    }
    let listed = [("LOCKTOPUS_ALLOW_ORIGIN", "http://a, *")];
    assert_eq!(config("", &listed).allow_origin, ["http://a", "*"]);
    let bad = [("LOCKTOPUS_ALLOW_ORIGIN", "http://a,b")];
    let error = error("", &bad);
    assert!(error.starts_with("LOCKTOPUS_ALLOW_ORIGIN: "), "{error}");
    assert_eq!(config("--allow-origin *", &bad).allow_origin, ["*"]);
}

#[test]
fn a_flag_overrides_its_variable_and_the_variable_the_default() {
    let variables = [
        ("LOCKTOPUS_HOST", "localhost"),
        ("LOCKTOPUS_PORT", "2"),
        ("LOCKTOPUS_LOG_CLIENTS", "Yes"),
        ("LOCKTOPUS_LOG_LOCKS", "y"),
        ("LOCKTOPUS_STATS_INTERVAL", "3"),
        ("LOCKTOPUS_DEFAULT_ABANDON_TIMEOUT", "1500"),
    ];
    let from_variables = config("", &variables);
    let mut expected = Config::default();
    expected.host = "localhost".to_owned();
    expected.port = 2;
    expected.log_clients = true;
    expected.log_locks = true;
    expected.stats_interval = Duration::from_secs(3);
    expected.default_abandon_timeout = Duration::from_millis(1500);
    assert_eq!(shown(&from_variables), shown(&expected));
    let from_flags = config(
        "--port 4 --log-clients=false --stats-interval 0",
        &variables,
    );
    assert_eq!(from_flags.port, 4);
    assert!(!from_flags.log_clients && from_flags.log_locks);
    assert!(from_flags.stats_interval.is_zero());
    assert_eq!(config("--log-locks false --port 0", &variables).port, 0);
    assert_eq!(config("-p 5", &variables).port, 5, "the short form, too");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let names: Vec<String> = options().iter().map(|option| variable(option)).collect();
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(shown(&config("", &empty)), shown(&Config::default()));
}

#[test]
fn every_flag_has_a_variable_that_the_flag_overrides() {
    let options = options();
    assert_eq!(options.len(), 27, "{options:?}");
    for option in &options {
        let name = variable(option);
        // With pings disabled, and a short default, every single value fits the others.
        let base = match option.as_str() {
            "ping-interval" | "default-abandon-timeout" => String::new(),
            _ => "--ping-interval 0 --default-abandon-timeout 1 ".to_owned(),
        };
        let good = value(option);
        let from_flag = config(&format!("{base}--{option} {good}"), &[]);
        let from_variable = config(&base, &[(&name, good)]);
        assert_ne!(shown(&from_flag), shown(&config(&base, &[])), "{option}");
        assert_eq!(shown(&from_flag), shown(&from_variable), "{option}");
        let both = config(&format!("{base}--{option}={good}"), &[(&name, "\u{0}")]);
        assert_eq!(shown(&from_flag), shown(&both), "{option}");
    }
}

#[test]
fn every_flag_but_allow_origin_is_refused_when_given_twice() {
    for option in options() {
        let good = value(&option);
        let twice = format!("--{option} {good} --{option}={good}");
        if option == "allow-origin" {
            assert_eq!(config(&twice, &[]).allow_origin, [good, good]);
            continue;
        }
        let error = error(&twice, &[(&variable(&option), good)]);
        let names_it = error.contains(&format!("--{option}"));
        assert!(names_it && error.contains("duplicate"), "{error}");
    }
}

#[test]
fn a_value_that_looks_like_a_flag_is_a_value() {
    let variables = [("LOCKTOPUS_PORT", "7")];
    let args = ["--host", "--port"].map(String::from);
    let Ok(Command::Run(config)) = parse_all(&args, &variables) else {
        panic!("a host may have any name");
    };
    assert_eq!((config.host.as_str(), config.port), ("--port", 7));
}

#[test]
fn a_double_dash_at_the_end_does_not_disable_the_variables() {
    let config = config("--host h --", &[("LOCKTOPUS_PORT", "7")]);
    assert_eq!((config.host.as_str(), config.port), ("h", 7));
}

#[test]
fn a_bad_value_names_its_source_and_what_is_allowed() {
    for (args, variable, parts) in [
        ("--port x", ("", ""), ["--port", "65535"]),
        ("--port=65536", ("", ""), ["--port", "65535"]),
        ("--port=-1", ("", ""), ["--port", "65535"]),
        ("--port=+1", ("", ""), ["--port", "65535"]),
        ("--port=", ("", ""), ["--port", "65535"]),
        ("--host=", ("", ""), ["--host", "name"]),
        ("--host=[]", ("", ""), ["--host", "name"]),
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
        ("--log-locks=", ("", ""), ["--log-locks", "true"]),
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
            "--max-request-bytes 1",
            ("", ""),
            ["--max-request-bytes", "65536"],
        ),
        (
            "--max-request-bytes 1000000",
            ("", ""),
            ["--share", "--max-message-bytes"],
        ),
        ("--share 0", ("", ""), ["--share", "100"]),
        ("--share 101", ("", ""), ["--share", "100"]),
        (
            "--max-segments 65537",
            ("", ""),
            ["--max-segments", "65536"],
        ),
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
        ("--workers 0", ("", ""), ["--workers", "1024"]),
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
        ("--ping-interval=.", ("", ""), ["--ping-interval", "0.5"]),
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
            "",
            ("LOCKTOPUS_MAX_ABANDON_TIMEOUT", "59999"),
            ["--default-abandon-timeout", "--max-abandon-timeout"],
        ),
        (
            "--allow-origin example.com",
            ("", ""),
            ["--allow-origin", "https://"],
        ),
        ("--allow-origin=", ("", ""), ["--allow-origin", "https://"]),
        (
            "--handshake-timeout 0",
            ("", ""),
            ["--handshake-timeout", "0"],
        ),
        ("--log-format xml", ("", ""), ["--log-format", "json"]),
        (
            "--auth-token-file=",
            ("", ""),
            ["--auth-token-file", "path"],
        ),
        ("--nonsense", ("", ""), ["--nonsense", "unrecognized"]),
        ("--nonsense=1", ("", ""), ["--nonsense", "unrecognized"]),
        ("--version=1", ("", ""), ["--version", "unrecognized"]),
        ("run", ("", ""), ["run", "unrecognized"]),
        ("--port", ("", ""), ["--port", "no value"]),
    ] {
        let error = error(args, &[variable]);
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{args}: {error}"
        );
        assert!(
            !error.starts_with(char::is_uppercase) || error.starts_with("LOCKTOPUS_"),
            "{error}"
        );
    }
}

#[test]
fn a_bad_variable_is_ignored_if_its_flag_is_given() {
    let variables = [("LOCKTOPUS_PORT", "many"), ("LOCKTOPUS_HOST", "h")];
    let config = config("--port 1", &variables);
    assert_eq!((config.host.as_str(), config.port), ("h", 1));
    assert!(printed("--help").contains("LOCKTOPUS_PORT"));
}

#[test]
fn help_and_readme_name_every_flag_and_the_help_names_every_variable() {
    let readme = include_str!("../../README.md");
    let help = printed("-h");
    assert_eq!(help, printed("--help"));
    for option in options() {
        let flag = format!("--{option}");
        assert!(
            help.contains(&flag) && help.contains(&variable(&option)),
            "{help}"
        );
        assert!(readme.contains(&format!("`{flag}`")), "{flag}");
    }
    assert!(help.contains("-H, --host") && help.contains("-p, --port"));
    for flag in ["-V", "--version"] {
        assert_eq!(
            printed(flag),
            concat!("locktopus-server ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }
}
