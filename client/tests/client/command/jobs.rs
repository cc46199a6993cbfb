//! The command as a job: what is stopped and continued, and what a group of processes hears.

use super::process::{Process, Server, errors, until_stopped};
use rustix::process::{Pid, Signal};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// The process id that the command prints.
fn pid(run: &mut Process) -> Pid {
    Pid::from_raw(run.line().parse().expect("a number")).expect("a process")
}

/// One that says when it is continued. It starts nothing meanwhile: a process that is stopped between its
/// birth and its program keeps a shell from being stopped itself.
const TELLS: &str = "trap 'echo continued' CONT; sleep 600 & echo $$; while :; do wait; done";

#[test]
fn a_stopped_locktopus_stops_its_command() {
    let server = Server::start();
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", TELLS]);
    let command = pid(&mut run);
    for _ in 0..2 {
        run.signal(Signal::TSTP);
        until_stopped(command, true);
        until_stopped(run.pid(), true);
        run.signal(Signal::CONT);
        assert_eq!(run.line(), "continued");
    }
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(143));
}

#[test]
fn a_command_whose_lock_may_be_anothers_is_not_continued() {
    let mut server = Server::start();
    let args = ["run", "-w", "a", "--abandon-timeout", "300ms"];
    let mut run = server.spawn_away(&[&args[..], &["--", "sh", "-c", TELLS]].concat());
    let command = pid(&mut run);
    run.signal(Signal::TSTP);
    until_stopped(command, true);
    until_stopped(run.pid(), true);
    server.process.0.kill().expect("running");
    server.process.status();
    // The time itself is what matters here.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.line(), "");
    assert_eq!(run.status().code(), Some(137));
    assert!(run.errors().contains("may be another's"));
}

#[test]
fn a_command_whose_lock_is_confirmed_is_continued() {
    let server = Server::start();
    let args = ["run", "-w", "a", "--abandon-timeout", "300ms"];
    let mut run = server.spawn_away(&[&args[..], &["--", "sh", "-c", TELLS]].concat());
    let command = pid(&mut run);
    run.signal(Signal::TSTP);
    until_stopped(command, true);
    until_stopped(run.pid(), true);
    // The time itself is what matters here.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.line(), "continued");
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(143));
}

/// As one is that reads the terminal from a group in the background.
#[test]
fn a_stopped_command_hears_of_its_end() {
    let server = Server::start();
    let script = "echo $$; kill -STOP $$; echo continued; exec sleep 600";
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", script]);
    let command = pid(&mut run);
    until_stopped(command, true);
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(143));
}

#[test]
fn a_grant_that_is_read_too_late_does_not_start_the_command() {
    let mut server = Server::start();
    let mut holder = server.holder();
    let args = ["run", "-w", "a", "--abandon-timeout", "300ms"];
    let mut run = server.spawn_away(&[&args[..], &["--", "echo", "ran"]].concat());
    let mut line = String::new();
    let stderr = run.0.stderr.as_mut().expect("piped");
    BufReader::with_capacity(1, stderr)
        .read_line(&mut line)
        .expect("text");
    assert!(line.contains("waiting for w a"), "{line}");
    run.signal(Signal::STOP);
    until_stopped(run.pid(), true);
    holder.signal(Signal::TERM);
    holder.status();
    server.process.0.kill().expect("running");
    server.process.status();
    // The time itself is what matters here.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.status().code(), Some(69));
    assert_eq!(run.line(), "");
}

#[test]
fn what_a_lost_command_has_started_has_its_grace_too() {
    let mut server = Server::start();
    // It outlives the command, which ends at once, by what takes a while.
    let child =
        "trap 'sleep 0.3; echo cleaned; exit' TERM; echo ready; while :; do sleep 0.01; done";
    let script = format!("trap 'exit 3' TERM; sh -c \"{child}\" & wait");
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", &script]);
    assert_eq!(run.line(), "ready");
    server.process.0.kill().expect("running");
    assert_eq!(run.line(), "cleaned");
    assert_eq!(run.status().code(), Some(3));
    assert!(!run.errors().contains("SIGKILL"));
}

#[test]
fn what_the_command_has_started_hears_what_is_to_end_it() {
    let server = Server::start();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let child =
            "trap 'echo ended; exit' INT TERM HUP QUIT; echo ready; while :; do sleep 0.01; done";
        let script = format!("sh -c \"{child}\"; wait");
        let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", &script]);
        assert_eq!(run.line(), "ready");
        run.signal(signal);
        assert_eq!(run.line(), "ended");
        run.status();
    }
}

#[test]
fn what_is_ignored_stays_ignored() {
    let server = Server::start();
    // As `nohup` does; and both are lost if only one of them ignores it.
    let inner = "echo $$; kill -HUP $$; echo alive; read line; echo end";
    let outer = format!("trap '' HUP; exec \"$0\" run -w a -- sh -c '{inner}'");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &outer, env!("CARGO_BIN_EXE_locktopus")]);
    command.env("LOCKTOPUS_URL", &server.url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = Process(command.stderr(Stdio::piped()).spawn().expect("starts"));
    pid(&mut run);
    assert_eq!(run.line(), "alive");
    run.signal(Signal::HUP);
    drop(run.0.stdin.take());
    assert_eq!(run.line(), "end");
    assert_eq!(run.status().code(), Some(0));
}

#[test]
fn the_status_is_the_commands_where_its_end_is_ignored() {
    let server = Server::start();
    // A shell takes no trap for what is to be ignored here; `env` does.
    let mut command = std::process::Command::new("env");
    command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_locktopus")]);
    command.args(["run", "-w", "a", "--", "sh", "-c", "exit 7"]);
    let output = command.env("LOCKTOPUS_URL", &server.url).output();
    let output = output.expect("runs");
    assert_eq!(output.status.code(), Some(7), "{}", errors(&output));
}
