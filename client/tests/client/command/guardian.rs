//! All that the command has started ends with `locktopus run`, even after SIGKILL.

use super::process::{
    Process, Server, errors, is_running, parent, state, until_ended, until_stopped,
};
use crate::common::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A shell that ignores the signals that would end it, after it has printed its process id.
const STUBBORN: &str = "trap '' TERM HUP INT; echo $$; while :; do sleep 0.05; done";

/// Starts the script, which prints as many process ids.
fn start(server: &Server, script: &str, count: usize) -> (Process, Vec<Pid>) {
    let args = [
        "run", "-w", "a", "--grace", "100ms", "--", "sh", "-c", script,
    ];
    let mut run = server.spawn_away(&args);
    let pids = (0..count).map(|_| run.pid_line()).collect();
    (run, pids)
}

/// The guardian of `run`, which is its only child.
fn guardian(run: &Process) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", run.0.id());
    let children = std::fs::read_to_string(children).expect("a process");
    let child = children.trim().parse().expect("one child");
    Pid::from_raw(child).expect("a process")
}

/// Scripts that try to outlive `locktopus`, and how many process ids they print.
fn scripts() -> Vec<(&'static str, String, usize)> {
    let file = |name: &str, text: &str| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let stubborn = file("stubborn.sh", STUBBORN);
    let stopped = file("stopped.sh", "echo $$; kill -STOP $$; exec sleep 600");
    vec![
        ("ignores SIGTERM", STUBBORN.to_owned(), 1),
        (
            "a child that ignores SIGTERM",
            format!("sh {stubborn}; wait"),
            1,
        ),
        (
            "a session of its own",
            format!("setsid sh {stubborn} & wait"),
            1,
        ),
        (
            "a session of its own without a parent",
            format!("(setsid sh {stubborn} &); (setsid sh {stubborn} &); sleep 600"),
            2,
        ),
        ("a stopped child", format!("sh {stopped} & wait"), 1),
        (
            "a stopped child in a session of its own",
            format!("(setsid sh {stopped} &); sleep 600"),
            1,
        ),
        (
            "fifty processes",
            format!("for i in $(seq 25); do sh {stubborn} & setsid sh {stubborn} & done; wait"),
            50,
        ),
    ]
}

#[test]
fn sigkill_ends_all_that_the_command_has_started() {
    let server = Server::start();
    for (name, script, count) in scripts() {
        let (mut run, pids) = start(&server, &script, count);
        let guardian = guardian(&run);
        run.signal(Signal::KILL);
        run.status();
        for pid in pids {
            until_ended(pid);
        }
        until_ended(guardian);
        assert_eq!(run.line(), "", "{name}");
        release(&server);
    }
}

/// Releases the lock of a `locktopus` that was killed.
fn release(server: &Server) {
    let listed = server.output(&["locks", "--json"]);
    let locks: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    for request in locks["requests"].as_array().expect("a list") {
        let token = request["token"].as_str().expect("a token");
        let output = server.output(&["release", token]);
        assert!(output.status.success(), "{}", errors(&output));
    }
}

#[test]
fn a_command_gets_the_grace_when_locktopus_is_killed() {
    let server = Server::start();
    let script = "trap 'echo cleaned; exit' TERM; echo ready; while :; do sleep 0.01; done";
    let mut run = server.spawn_away(&["run", "-w", "a", "--", "sh", "-c", script]);
    assert_eq!(run.line(), "ready");
    run.signal(Signal::KILL);
    assert_eq!(run.line(), "cleaned");
}

#[test]
fn without_its_guardian_the_command_ends() {
    let server = Server::start();
    for (name, script, count) in scripts() {
        let (mut run, pids) = start(&server, &script, count);
        kill_process(guardian(&run), Signal::KILL).expect("running");
        assert_eq!(run.status().code(), Some(137), "{name}");
        for pid in pids {
            assert!(!is_running(pid), "{name}");
        }
        let errors = run.errors();
        assert!(errors.contains("guardian"), "{errors}");
        let free = server.output(&["run", "-w", "a", "--try", "true"]);
        assert!(free.status.success(), "{name}: the lock was not released");
    }
}

#[test]
fn a_lost_lock_ends_processes_that_left_the_group() {
    for (name, script, count) in scripts() {
        let mut server = Server::start();
        let (mut run, pids) = start(&server, &script, count);
        server.process.0.kill().expect("running");
        run.status();
        for pid in pids {
            assert!(!is_running(pid), "{name}");
        }
    }
}

/// The guardian was once the program file, executed after the grant.
#[test]
fn a_replaced_or_deleted_program_file_changes_nothing() {
    let server = Server::start();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("locktopus-replaced");
    for replaced in [true, false] {
        let _ = std::fs::remove_file(&file);
        std::fs::hard_link(env!("CARGO_BIN_EXE_locktopus"), &file).expect("linked");
        let mut holder = server.holder();
        let mut command = Command::new("setsid");
        command
            .arg(&file)
            .args(["run", "-w", "a", "--grace", "100ms", "sh", "-c", STUBBORN]);
        command
            .env("LOCKTOPUS_URL", &server.url)
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = Process(command.spawn().expect("starts"));
        Server::until_waiting(&mut run);
        std::fs::remove_file(&file).expect("deleted");
        if replaced {
            std::fs::write(&file, "no program").expect("written");
        }
        holder.signal(Signal::TERM);
        holder.status();
        let command = run.pid_line();
        run.signal(Signal::KILL);
        until_ended(command);
        release(&server);
    }
}

/// A process that the guardian could not continue would stay, stopped, and run on if it is continued later.
#[test]
fn a_stopped_guardian_still_ends_the_command() {
    let server = Server::start();
    let (run, pids) = start(&server, STUBBORN, 1);
    let guardian = guardian(&run);
    for stopped in [pids[0], guardian] {
        kill_process(stopped, Signal::STOP).expect("running");
        until_stopped(stopped, true);
    }
    run.signal(Signal::KILL);
    until_ended(pids[0]);
    until_ended(guardian);
}

#[test]
fn signals_to_all_processes_leave_the_guardian_at_work() {
    let server = Server::start();
    let (run, pids) = start(&server, STUBBORN, 1);
    let guardian = guardian(&run);
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ] {
        kill_process(guardian, signal).expect("running");
    }
    // It answers the end of another process, so it has survived the signals.
    assert!(state(guardian).is_some_and(|state| !"TZ".contains(state)));
    run.signal(Signal::KILL);
    until_ended(pids[0]);
    until_ended(guardian);
}

#[test]
fn a_command_that_ends_by_itself_leaves_its_daemons_running() {
    let server = Server::start();
    let script = "echo $PPID; sleep 600 > /dev/null 2>&1 & echo $!; \
                  setsid sleep 600 > /dev/null 2>&1 & echo $!";
    let (mut run, mut pids) = start(&server, script, 3);
    assert!(run.status().success());
    assert!(!is_running(pids.remove(0)), "the guardian runs on");
    for pid in pids {
        assert!(is_running(pid));
        kill_process(pid, Signal::KILL).expect("running");
    }
}

#[test]
fn adopted_processes_leave_no_zombies() {
    let server = Server::start();
    let script = "(sh -c 'echo $$' &); (sh -c 'echo $$' &); echo $$; read line";
    let args = ["run", "-w", "a", "--", "sh", "-c", script];
    let mut command = server.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = Process(command.spawn().expect("starts"));
    let pids: Vec<Pid> = (0..3).map(|_| run.pid_line()).collect();
    let start = Instant::now();
    let left = |pid: &&Pid| state(**pid).is_some();
    while pids.iter().filter(left).count() > 1 {
        assert!(start.elapsed() < PATIENCE, "zombies are left");
        thread::sleep(Duration::from_millis(2));
    }
    // The standard input of the command is ours, not the guardian's.
    drop(run.0.stdin.take());
    assert_eq!(run.status().code(), Some(1));
}

/// Scripts end the processes that they have started by a signal to their group.
#[test]
fn the_command_leads_its_group() {
    let server = Server::start();
    let script = "sleep 600 & echo $!; kill -TERM -$$; exec sleep 600";
    let (mut run, pids) = start(&server, script, 1);
    assert_eq!(run.status().code(), Some(143));
    until_ended(pids[0]);
}

#[test]
fn random_moments_of_sigkill_leave_no_process() {
    let server = Server::start();
    let script = "for i in 1 2 3; do sh -c 'setsid sleep 600 & sleep 600' & done; wait";
    // The processes that belong to this test have this variable.
    let mark = format!("LOCKTOPUS_TEST_MARK={}", std::process::id());
    for delay in 0..20 {
        let args = [
            "run", "-r", "a", "--grace", "50ms", "--", "sh", "-c", script,
        ];
        let mut command = server.command(&args);
        let (name, value) = mark.split_once('=').expect("a variable");
        command
            .env(name, value)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut run = Process(command.spawn().expect("starts"));
        thread::sleep(Duration::from_millis(delay));
        run.signal(Signal::KILL);
        run.status();
    }
    let start = Instant::now();
    loop {
        let left = marked(&mark);
        if left.is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{left:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that have the variable in their environment: what they run, and their state.
fn marked(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let read = |process: &std::fs::DirEntry, file| std::fs::read(process.path().join(file));
    let has = |process: &std::fs::DirEntry| {
        read(process, "environ").is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|text| text == mark.as_bytes())
        })
    };
    let shown = |process: std::fs::DirEntry| {
        let text = ["stat", "cmdline"].map(|file| read(&process, file).unwrap_or_default());
        String::from_utf8_lossy(&text.concat()).into_owned()
    };
    processes.filter(has).map(shown).collect()
}

#[test]
fn the_parent_of_the_command_is_the_guardian() {
    let server = Server::start();
    let (run, pids) = start(&server, STUBBORN, 1);
    assert_eq!(parent(pids[0]), guardian(&run));
    assert_eq!(parent(guardian(&run)), run.pid());
}
