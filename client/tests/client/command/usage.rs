//! Flags, variables, help and output of the command.

use super::process::{Server, errors, locktopus};

#[test]
fn an_unreachable_server_is_not_a_conflict() {
    let mut server = Server::start();
    server.process.0.kill().expect("running");
    server.process.status();
    let output = server.output(&["run", "-w", "a", "-E", "0", "--", "echo", "ran"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        errors(&output).contains("cannot connect: 127.0.0.1:"),
        "{}",
        errors(&output)
    );
    assert!(output.stdout.is_empty());
    for args in [
        &["locks"][..],
        &["status"],
        &["release", "1"],
        &["bench", "-s", "0"],
    ] {
        let output = server.output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(
            errors(&output).contains("cannot connect"),
            "{}",
            errors(&output)
        );
    }
}

#[test]
fn a_bad_argument_is_named_and_gives_exit_status_2() {
    for (args, part) in [
        (
            &["run", "--url", "localhost:9009", "-w", "a", "true"][..],
            "allowed: ws://",
        ),
        (
            &["run", "--url=ws://h?x=1", "-w", "a", "true"],
            "unknown parameter",
        ),
        (&["run", "true"], "-w PATH"),
        (&["run", "-w", "a"], "no command"),
        (&["run", "-w", "a//b", "true"], "empty segment"),
        (
            &["run", "-w", "a", "--timeout", "soon", "true"],
            "500ms, 5s",
        ),
        (&["run", "-w", "a", "--try", "-t", "1s", "true"], "exclude"),
        (&["run", "-w", "a", "--grace=40s", "true"], "at most half"),
        (&["run", "-w", "a", "-E", "256", "true"], "from 0 to 255"),
        (&["run", "-w", "a/", "true"], "at byte 2"),
        (&["locks", "-p", r"a/\x"], "unknown escape at byte 2"),
        (&["locks", "--limit", "-1"], "0 or more"),
        (&["release"], "the token of a lock, --client, --address"),
        (&["release", ""], "not a token"),
        (&["status", "-n", "x"], "-n"),
        (&["bench", "-c", "3", "-m", "handoff"], "even number"),
        (&["run", "-w", "a", "-n", "", "true"], "namespace"),
        (&["bench", "-m", "fast"], "held:N"),
        (&["bench", "-c", "18446744073709551615"], "at most"),
        (&["bench", "-m", "held:18446744073709551615"], "at most"),
        (&["release", "../x"], "not a token"),
        (&["completions", "tcsh"], "nushell"),
        (&["nonsense"], "nonsense"),
        (&[], "no command"),
    ] {
        let output = locktopus(args).output().expect("runs");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            errors(&output)
        );
        assert!(
            errors(&output).contains(part),
            "{args:?}: {}",
            errors(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_auth_token_is_never_printed() {
    let server = Server::start();
    for args in [
        &["run", "-w", "a", "true"][..],
        &["status"],
        &["locks"],
        &["run", "-w", "a"],
    ] {
        let output = server
            .command(args)
            .env("LOCKTOPUS_AUTH_TOKEN", "geheim")
            .output()
            .expect("runs");
        let printed = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&printed).contains("geheim"));
    }
}

/// `locks`, `status` and `release` once reported this as a lost connection.
#[test]
fn an_auth_token_that_no_header_can_have_is_a_bad_argument() {
    let server = Server::start();
    for args in [
        &["run", "-w", "a", "true"][..],
        &["locks"],
        &["status"],
        &["release", "1"],
        &["bench", "-s", "0"],
    ] {
        let mut command = server.command(args);
        let output = command.env("LOCKTOPUS_AUTH_TOKEN", "a\nb").output();
        let output = output.expect("runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(errors(&output).contains("must not have"), "{args:?}");
    }
}

#[test]
fn empty_variables_count_as_unset() {
    let server = Server::start();
    let mut command = server.command(&["locks"]);
    command.env("LOCKTOPUS_NAMESPACE", "");
    command.env("LOCKTOPUS_AUTH_TOKEN", "");
    command.env("LOCKTOPUS_CA_FILE", "");
    let output = command.output().expect("runs");
    assert_eq!(output.stdout, b"no locks in namespace default\n");
    let mut command = locktopus(&["locks"]);
    let output = command.env("LOCKTOPUS_URL", "").output().expect("runs");
    // A server may listen on the default port of this machine.
    assert_ne!(output.status.code(), Some(2), "{}", errors(&output));
}

#[test]
fn every_help_and_completion_names_the_flags_of_the_server() {
    let complete = |shell| locktopus(&["completions", shell]).output().expect("runs");
    let fish = String::from_utf8(complete("fish").stdout).expect("text");
    for command in ["run", "locks", "release", "status", "bench"] {
        let help = locktopus(&[command, "--help"]).output().expect("runs");
        let help = String::from_utf8(help.stdout).expect("text");
        for flag in ["url", "token", "ca-file", "namespace"] {
            let expected = (command, flag) != ("status", "namespace");
            assert_eq!(
                help.contains(&format!("  --{flag} ")) || help.contains(&format!(", --{flag} ")),
                expected,
                "{help}"
            );
            let line = |line: &str| {
                line.contains(&format!("_using_command {command}'"))
                    && line.contains(&format!("-l {flag} "))
            };
            assert_eq!(fish.lines().any(line), expected, "{command} --{flag}");
        }
    }
}

#[test]
fn flags_override_variables() {
    let server = Server::start();
    let _holder = server.holder();
    for (variable, flag, status) in [
        ("default", None, 75),
        ("other", None, 0),
        ("default", Some("other"), 0),
        ("other", Some("default"), 75),
    ] {
        let mut command = server.command(&["run", "-w", "a", "--try"]);
        command.env("LOCKTOPUS_NAMESPACE", variable);
        if let Some(flag) = flag {
            command.args(["-n", flag]);
        }
        let output = command.arg("true").output().expect("runs");
        assert_eq!(output.status.code(), Some(status), "{variable} {flag:?}");
    }
}

#[test]
fn help_and_completions_go_to_stdout() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["bench", "-h"],
        &["--version"],
        &["completions", "bash"],
        &["completions", "zsh"],
    ] {
        let output = locktopus(args).output().expect("runs");
        assert!(output.status.success(), "{args:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("locktopus"), "{args:?}: {text}");
    }
}

#[test]
fn the_abandon_timeout_comes_from_the_url_or_the_flag() {
    let server = Server::start();
    let url = format!("{}?abandon-timeout-ms=5000", server.url);
    for (flag, milliseconds) in [(None, 5000), (Some("--abandon-timeout=7s"), 7000)] {
        let mut command = server.command(&["run", "-u", &url, "-w", "a"]);
        command.args(flag);
        command.args(["--", env!("CARGO_BIN_EXE_locktopus"), "locks", "--json"]);
        let output = command.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let part = format!("\"abandon_timeout_ms\":{milliseconds}");
        assert!(text.contains(&part), "{text} {}", errors(&output));
    }
}

#[test]
fn a_failed_write_to_standard_output_is_a_failure() {
    let server = Server::start();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["locks"],
        &["locks", "--json"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let full = std::fs::File::create("/dev/full").expect("a device");
        let output = server.command(args).stdout(full).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(errors(&output).contains("standard output"), "{args:?}");
        // A closed pipe is not a failure: the reader needs no more.
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = server.command(args).stdout(closed).output().expect("runs");
        assert!(output.status.success(), "{args:?}: {}", errors(&output));
    }
}

#[test]
fn an_empty_ca_file_variable_counts_as_unset() {
    let server = Server::start();
    let url = server.url.replace("ws://", "wss://");
    let mut command = server.command(&["status", "--url", &url]);
    let output = command.env("LOCKTOPUS_CA_FILE", "").output().expect("runs");
    // The server has no TLS. The error says that, and does not mention the file.
    assert!(errors(&output).contains("no TLS"), "{}", errors(&output));
}
