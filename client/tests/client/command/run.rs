//! The command `locktopus` as a process, against a server in a process of its own.

use super::process::{Server, errors, is_running};
use crate::common::PATIENCE;
use rustix::process::{Pid, Signal};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_exit_status_is_that_of_the_command() {
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
fn the_environment_has_the_token_and_the_set() {
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
fn a_conflict_has_an_exit_status_of_its_own() {
    let server = Server::start();
    let mut holder = server.holder();
    for (args, status) in [
        (&["--try"][..], 75),
        (&["--try", "-E", "0"], 0),
        (&["--timeout", "2s"], 75),
        (&["--timeout", "0"], 75),
        (&["--timeout=2s", "--conflict-status=9", "-q"], 9),
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
    // No command runs yet that could receive this signal.
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
        assert!(
            start.elapsed() < PATIENCE,
            "the command runs on without a lock"
        );
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
fn a_command_that_ignores_sigterm_is_killed_before_the_deadline() {
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
    // The server and its connections still exist, but the server sends nothing.
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

#[cfg(target_os = "linux")]
#[cfg(feature = "tls")]
#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh() {
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
