//! The command as a job: stops, continuations, and the signals of its process group.

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

/// A command that prints when it is continued. It starts no process meanwhile: a process that is stopped between `fork`
/// and `exec` would keep the shell from being stopped.
const PRINTS_CONTINUED: &str =
    "trap 'echo continued' CONT; sleep 600 & echo $$; while :; do wait; done";

#[test]
fn a_stopped_locktopus_stops_its_command() {
    let server = Server::start();
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", PRINTS_CONTINUED]);
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
fn a_command_whose_lock_may_be_lost_is_not_continued() {
    let mut server = Server::start();
    let args = ["run", "-w", "a", "--abandon-timeout", "300ms"];
    let mut run = server.spawn_away(&[&args[..], &["--", "sh", "-c", PRINTS_CONTINUED]].concat());
    let command = pid(&mut run);
    run.signal(Signal::TSTP);
    until_stopped(command, true);
    until_stopped(run.pid(), true);
    server.process.0.kill().expect("running");
    server.process.status();
    // The test is about time, so no event can be awaited.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.line(), "");
    assert_eq!(run.status().code(), Some(137));
    assert!(run.errors().contains("another client may hold it"));
}

#[test]
fn a_command_whose_lock_is_confirmed_is_continued() {
    let server = Server::start();
    let args = ["run", "-w", "a", "--abandon-timeout", "300ms"];
    let mut run = server.spawn_away(&[&args[..], &["--", "sh", "-c", PRINTS_CONTINUED]].concat());
    let command = pid(&mut run);
    run.signal(Signal::TSTP);
    until_stopped(command, true);
    until_stopped(run.pid(), true);
    // The test is about time, so no event can be awaited.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.line(), "continued");
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(143));
}

/// A terminal stops a command in the same way if it reads in the background.
#[test]
fn a_stopped_command_receives_the_signal_to_end() {
    let server = Server::start();
    let script = "echo $$; kill -STOP $$; echo continued; exec sleep 600";
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", script]);
    let command = pid(&mut run);
    until_stopped(command, true);
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(143));
}

#[test]
fn a_grant_read_too_late_does_not_start_the_command() {
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
    // The test is about time, so no event can be awaited.
    thread::sleep(Duration::from_millis(350));
    run.signal(Signal::CONT);
    assert_eq!(run.status().code(), Some(69));
    assert_eq!(run.line(), "");
}

#[test]
fn after_the_loss_of_the_lock_child_processes_of_the_command_get_the_same_grace() {
    let mut server = Server::start();
    // The command ends at once, and its child only after a while.
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
fn processes_of_the_command_receive_the_signal_to_end() {
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
fn ignored_signals_stay_ignored() {
    let server = Server::start();
    // As under `nohup`. The lock would be lost if only the command ignored the signal.
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
fn the_exit_status_is_known_even_if_sigchld_is_ignored() {
    let server = Server::start();
    // A shell cannot ignore SIGCHLD; `env` can.
    let mut command = std::process::Command::new("env");
    command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_locktopus")]);
    command.args(["run", "-w", "a", "--", "sh", "-c", "exit 7"]);
    let output = command.env("LOCKTOPUS_URL", &server.url).output();
    let output = output.expect("runs");
    assert_eq!(output.status.code(), Some(7), "{}", errors(&output));
}
