//! The command `locktopus` as a process, against a server that is a process, too.

mod common;
#[path = "common/process.rs"]
mod process;

use common::PATIENCE;
use process::{Server, errors, is_running, locktopus};
use rustix::process::{Pid, Signal};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_status_is_the_commands() {
    let server = Server::start();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let output = server.output(&["run", "-w", "a", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script}");
        assert_eq!(errors(&output), "", "{script}");
    }
    for (program, status) in [("/no/such/program", 127), ("/", 126)] {
        let output = server.output(&["run", "-w", "a", "--", program]);
        assert_eq!(output.status.code(), Some(status));
        assert!(
            errors(&output).contains("cannot run"),
            "{}",
            errors(&output)
        );
    }
}

#[test]
fn the_command_finds_its_token_and_set() {
    let server = Server::start();
    let print = "echo $LOCKTOPUS_TOKEN; echo $LOCKTOPUS_RESOURCES";
    let mut last = 0;
    for _ in 0..2 {
        let output = server.output(&["run", "-w", r"a\/b/c", "-r", "", "--", "sh", "-c", print]);
        let text = String::from_utf8(output.stdout).expect("text");
        let (token, set) = text.trim_end().split_once('\n').expect("two lines");
        let token: u64 = token.parse().expect("a number");
        assert!(token > last);
        last = token;
        assert_eq!(
            set,
            r#"[{"type":"write","path":["a/b","c"]},{"type":"read","path":[]}]"#
        );
    }
}

#[test]
fn arguments_reach_the_command_byte_by_byte() {
    let server = Server::start();
    let args: Vec<OsString> = [
        &b""[..],
        b" ",
        b"$HOME `id` \\ ' \" * ; |",
        b"a=b",
        b"--help",
        b"--",
        b"\xff\xfe\n",
        "é".as_bytes(),
    ]
    .map(|arg| OsString::from_vec(arg.to_vec()))
    .to_vec();
    for dashes in [&["--"][..], &[]] {
        let mut command = server.command(&["run", "-w", "a"]);
        let output = command
            .args(dashes)
            .args(["printf", "%s\\0"])
            .args(&args)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{}", errors(&output));
        let mut printed: Vec<&OsStr> = output
            .stdout
            .split(|byte| *byte == 0)
            .map(OsStr::from_bytes)
            .collect();
        assert_eq!(printed.pop(), Some(OsStr::new("")));
        assert_eq!(printed, args);
    }
}

#[test]
fn a_lock_that_others_hold_is_a_status_of_its_own() {
    let server = Server::start();
    let mut holder = server.holder();
    for (args, status) in [
        (&["--try"][..], 75),
        (&["--try", "-E", "0"], 0),
        (&["--timeout", "50ms"], 75),
        (&["--timeout", "0"], 75),
        (&["--timeout=50ms", "--conflict-status=9", "-q"], 9),
    ] {
        let args = [&["run", "-r", "a/b"], args, &["--", "echo", "ran"]].concat();
        let output = server.output(&args);
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    holder.signal(Signal::TERM);
    assert_eq!(holder.status().code(), Some(143));
    for now in ["--try", "--timeout=0"] {
        let output = server.output(&["run", "-w", "a", now, "true"]);
        assert!(output.status.success(), "{now}: {}", errors(&output));
    }
}

#[test]
fn the_command_runs_when_the_lock_is_free() {
    let server = Server::start();
    let holder = server.holder();
    let mut waiter = server.spawn(&["run", "-w", "a", "--", "echo", "ran"]);
    let mut line = String::new();
    let stderr = waiter.0.stderr.take().expect("piped");
    BufReader::new(stderr).read_line(&mut line).expect("text");
    assert!(line.contains("waiting for w a"), "{line}");
    holder.signal(Signal::TERM);
    assert_eq!(waiter.line(), "ran");
    assert!(waiter.status().success());
}

#[test]
fn signals_are_passed_on() {
    let server = Server::start();
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!(
            "exec 2>/dev/null; trap 'echo got {name}; exit 42' {name}; echo ready; while :; do sleep 0.01; done"
        );
        let mut run = server.spawn(&["run", "-w", "a", "--", "sh", "-c", &script]);
        assert_eq!(run.line(), "ready");
        run.signal(signal);
        assert_eq!(run.line(), format!("got {name}"));
        assert_eq!(run.status().code(), Some(42));
        assert_eq!(run.errors(), "");
    }
}

#[test]
fn a_signal_while_waiting_withdraws_the_request() {
    let server = Server::start();
    let mut reader = server.spawn(&[
        "run",
        "-r",
        "a",
        "--",
        "sh",
        "-c",
        "echo held; exec sleep 600",
    ]);
    assert_eq!(reader.line(), "held");
    let mut writer = server.spawn(&["run", "-w", "a", "--", "echo", "ran"]);
    let mut line = String::new();
    BufReader::new(writer.0.stderr.take().expect("piped"))
        .read_line(&mut line)
        .expect("text");
    assert!(
        !server
            .output(&["run", "-r", "a", "--try", "true"])
            .status
            .success()
    );
    // Nobody is there yet to be told anything by this one.
    writer.signal(Signal::USR1);
    writer.signal(Signal::INT);
    assert_eq!(writer.status().code(), Some(130));
    assert_eq!(writer.line(), "");
    assert!(
        server
            .output(&["run", "-r", "a", "--try", "true"])
            .status
            .success()
    );
}

/// Nobody keeps its lock any more.
#[cfg(target_os = "linux")]
#[test]
fn the_command_ends_when_locktopus_is_killed() {
    let server = Server::start();
    let mut run = server.spawn(&["run", "-w", "a", "--", "sh", "-c", "echo $$; exec sleep 60"]);
    let pid: i32 = run.line().parse().expect("a number");
    let pid = Pid::from_raw(pid).expect("a process");
    run.signal(Signal::KILL);
    run.status();
    let start = Instant::now();
    while is_running(pid) {
        assert!(start.elapsed() < PATIENCE, "it goes on without a lock");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_lost_server_ends_the_command_and_what_it_started() {
    let mut server = Server::start();
    let script = "trap 'exit 3' TERM; sh -c 'echo $$; exec sleep 600' & echo $$; wait";
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", script]);
    let pids = [run.line(), run.line()].map(|pid| pid.parse().expect("a number"));
    server.process.0.kill().expect("running");
    assert_eq!(run.status().code(), Some(3));
    let errors = run.errors();
    assert!(
        errors.contains("the lock is lost: connection lost"),
        "{errors}"
    );
    for pid in pids {
        let pid = Pid::from_raw(pid).expect("a process");
        let start = Instant::now();
        while is_running(pid) {
            assert!(start.elapsed() < PATIENCE, "{pid:?} still runs");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_command_that_does_not_stop_is_killed_before_another_can_have_the_lock() {
    let server = Server::start();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let args = [
        "run",
        "-w",
        "a",
        "--abandon-timeout=1200ms",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut run = server.spawn(&args);
    assert_eq!(run.line(), "ready");
    // The server is there and its connections are, but it says nothing any more.
    let stopped = Instant::now();
    server.process.signal(Signal::STOP);
    assert_eq!(run.status().code(), Some(137));
    let took = stopped.elapsed();
    assert!(took < Duration::from_millis(1200), "{took:?}");
    let errors = run.errors();
    assert!(
        errors.contains("silent") && errors.contains("SIGKILL"),
        "{errors}"
    );
}

#[test]
fn no_server_is_not_a_conflict() {
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
fn a_bad_argument_is_a_clear_error_and_exit_status_2() {
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
        (&["run", "-w", "a", "-E", "256", "true"], "-E"),
        (&["run", "-w", "a", "-n", "", "true"], "namespace"),
        (&["bench", "-m", "fast"], "held:N"),
        (&["bench", "-c", "18446744073709551615"], "at most"),
        (&["bench", "-m", "held:18446744073709551615"], "at most"),
        (&["release", "../x"], "no token"),
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

#[test]
fn flags_go_over_variables() {
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
fn every_mode_of_the_benchmark_measures_something() {
    let server = Server::start();
    for mode in ["uncontended", "contended", "handoff", "idle", "held:3"] {
        let output = server.output(&["bench", "-c", "4", "-s", "1", "-m", mode]);
        assert!(output.status.success(), "{mode}: {}", errors(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(mode) && text.contains("p99"), "{text}");
        assert_eq!(errors(&output), "", "{mode}");
    }
}

#[test]
fn the_abandon_timeout_of_the_url_counts() {
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

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_a_failure() {
    let server = Server::start();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["locks"],
        &["locks", "--json"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let full = std::fs::File::create("/dev/full").expect("it is there");
        let output = server.command(args).stdout(full).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(errors(&output).contains("standard output"), "{args:?}");
        // Who closes a pipe has seen enough.
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = server.command(args).stdout(closed).output().expect("runs");
        assert!(output.status.success(), "{args:?}: {}", errors(&output));
    }
}

#[cfg(feature = "tls")]
#[test]
fn an_empty_ca_file_is_none() {
    let server = Server::start();
    let url = server.url.replace("ws://", "wss://");
    let mut command = server.command(&["status", "--url", &url]);
    let output = command.env("LOCKTOPUS_CA_FILE", "").output().expect("runs");
    // The server speaks no TLS; but the file is no matter.
    assert!(errors(&output).contains("no TLS"), "{}", errors(&output));
}

#[test]
fn a_script_that_names_no_interpreter_is_run_by_sh() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let script = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nameless");
    std::fs::write(&script, "echo \"$2 $1\"\n").expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("ours");
    let directory = script.parent().expect("a directory");
    for program in [&*script, std::path::Path::new("nameless")] {
        let mut command = server.command(&["run", "-w", "a", "--"]);
        let search = format!("{}:/usr/bin:/bin", directory.display());
        command.env("PATH", search).arg(program).args(["a b", "c"]);
        let output = command.output().expect("runs");
        assert_eq!(output.stdout, b"c a b\n", "{}", errors(&output));
    }
}
