//! The command as a job of a shell on a terminal.

use super::process::{Process, Server, locktopus, until_ended, until_stopped};
use crate::common::PATIENCE;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// A shell with job control on a terminal of its own.
struct Terminal {
    shell: Process,
    keyboard: File,
    lines: mpsc::Receiver<String>,
}

impl Terminal {
    fn start(server: &Server, script: &str) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("granted");
        unlockpt(&controller).expect("unlocked");
        let name = ptsname(&controller, vec![]).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let terminal = File::from(open(name, flags, Mode::empty()).expect("opened"));
        let stdio = || Stdio::from(terminal.try_clone().expect("open"));
        // The tests may run in the background of a script, where SIGINT is ignored. A shell cannot undo that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "setsid"]);
        // In an interactive shell each pipeline is a job: a process group, in the foreground of the terminal.
        let script = format!("set -m; {script}");
        command.args(["--ctty", "bash", "-c", &script]);
        command.env("LOCKTOPUS_URL", &server.url);
        command.env(
            "LOCKTOPUS",
            locktopus(&[]).get_args().last().expect("a path"),
        );
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        let shell = Process(command.spawn().expect("starts"));
        let mut screen = File::from(controller);
        let keyboard = screen.try_clone().expect("open");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let (mut text, mut bytes) = (String::new(), [0; 1024]);
            // The read fails once the last process of the terminal has ended.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                text += &String::from_utf8_lossy(&bytes[..read]);
                while let Some((line, rest)) = text.split_once("\r\n") {
                    let _ = sender.send(line.to_owned());
                    text = rest.to_owned();
                }
            }
        });
        Terminal {
            shell,
            keyboard,
            lines,
        }
    }

    /// The rest of the next line that has this text in it. The shell shows its script in lines with a dollar sign.
    fn after(&self, text: &str) -> String {
        let mut others = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text} after {others:?}");
            };
            if let Some((_, rest)) = line.split_once(text).filter(|_| !line.contains('$')) {
                return rest.to_owned();
            }
            others.push(line);
        }
    }

    fn pid(&self, text: &str) -> Pid {
        let pid = self.after(text).parse().expect("a number");
        Pid::from_raw(pid).expect("a process")
    }
}

const STUBBORN: &str = "trap \\\"\\\" TERM HUP INT; echo $1$$; while :; do sleep 0.05; done";

/// Only the command itself got the signals, not the processes that it had started.
#[test]
fn a_lost_lock_ends_the_whole_foreground_job() {
    let mut server = Server::start();
    let script = format!(
        "$LOCKTOPUS run -w a --grace 200ms -- sh -c \
         'sh -c \"{STUBBORN}\" x child= & setsid sh -c \"{STUBBORN}\" x session= & echo command=$$; exec sleep 600' \
         | (echo reader=$BASHPID >&2; cat; exec sleep 600); echo status=${{PIPESTATUS[0]}}; sleep 0.1; echo shell=$$"
    );
    let script = script.replace("$1$$", "\\$1\\$\\$");
    let mut terminal = Terminal::start(&server, &script);
    let mut pids = vec![];
    let mut reader = None;
    while pids.len() < 3 || reader.is_none() {
        let line = terminal.lines.recv_timeout(PATIENCE).expect("a line");
        let Some((name, pid)) = line.split_once('=') else {
            continue;
        };
        let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
        match name {
            "reader" => reader = Some(pid),
            _ => pids.push(pid),
        }
    }
    server.process.0.kill().expect("running");
    assert_eq!(terminal.after("status="), "143");
    pids.extend(reader);
    for pid in pids {
        until_ended(pid);
    }
    // The shell is not a part of the job.
    terminal.after("shell=");
    assert!(terminal.shell.status().success());
}

/// A shell without job control shares its process group with the job.
#[test]
fn a_script_that_waits_for_locktopus_survives_a_lost_lock() {
    let mut server = Server::start();
    let script = "sh -c '$LOCKTOPUS run -w a -- sh -c \"echo command=\\$\\$; exec sleep 600\" | cat; echo script=$$; exit 3'; \
                  echo status=$?";
    let terminal = Terminal::start(&server, script);
    let command = terminal.pid("command=");
    server.process.0.kill().expect("running");
    terminal.after("script=");
    assert_eq!(terminal.after("status="), "3");
    until_ended(command);
}

#[test]
fn sigkill_on_a_terminal_ends_all_that_the_command_has_started() {
    let server = Server::start();
    let script = format!(
        "$LOCKTOPUS run -w a --grace 100ms -- sh -c 'sh -c \"{STUBBORN}\" x child= & setsid sh -c \"{STUBBORN}\" x session= & \
         echo locktopus=$(ps -o ppid= -p $PPID | tr -d \" \"); wait'; echo status=$?"
    );
    let script = script.replace("$1$$", "\\$1\\$\\$");
    let terminal = Terminal::start(&server, &script);
    let (mut pids, mut locktopus) = (vec![], None);
    while pids.len() < 2 || locktopus.is_none() {
        let line = terminal.lines.recv_timeout(PATIENCE).expect("a line");
        let Some((name, pid)) = line.split_once('=') else {
            continue;
        };
        let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
        match name {
            "locktopus" => locktopus = Some(pid),
            _ => pids.push(pid),
        }
    }
    kill_process(locktopus.expect("printed"), Signal::KILL).expect("running");
    assert_eq!(terminal.after("status="), "137");
    for pid in pids {
        until_ended(pid);
    }
}

#[test]
fn ctrl_z_stops_the_job_and_the_shell_continues_it() {
    let server = Server::start();
    let script = "$LOCKTOPUS run -w a -- sh -c 'echo command=$$; read line; echo got=$line; exit 5'; \
                  echo stopped=$?; read; fg; echo status=$?";
    let mut terminal = Terminal::start(&server, script);
    let command = terminal.pid("command=");
    terminal.keyboard.write_all(b"\x1a").expect("typed");
    until_stopped(command, true);
    // 128 and the number of SIGTSTP.
    assert_eq!(terminal.after("stopped="), "148");
    terminal.keyboard.write_all(b"\n").expect("typed");
    until_stopped(command, false);
    terminal.keyboard.write_all(b"hello\n").expect("typed");
    assert_eq!(terminal.after("got="), "hello");
    assert_eq!(terminal.after("status="), "5");
}

#[test]
fn ctrl_c_ends_the_command_once() {
    let server = Server::start();
    let script = "trap : INT; $LOCKTOPUS run -w a -- sh -c \
                  'trap \"echo got=INT; exit 9\" INT; echo ready=; while :; do sleep 0.01; done'; echo status=$?";
    let mut terminal = Terminal::start(&server, script);
    terminal.after("ready=");
    terminal.keyboard.write_all(b"\x03").expect("typed");
    assert_eq!(terminal.after("got="), "INT");
    assert_eq!(terminal.after("status="), "9");
}
