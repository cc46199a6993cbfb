//! The command against the pages of a real server: listings, and releases by force.

use super::process::{Process, Server, errors};
use std::io::{BufRead as _, BufReader};

/// A command that waits for its lock, and the first line of its standard error.
fn waiter(server: &Server, args: &[&str]) -> (String, Process) {
    let mut waiter = server.spawn(args);
    let stderr = waiter.0.stderr.take().expect("piped");
    let mut line = String::new();
    let mut lines = BufReader::new(stderr);
    lines.read_line(&mut line).expect("text");
    // Stays open, so that the command can write more.
    waiter.0.stderr = Some(lines.into_inner());
    (line, waiter)
}

fn stdout(server: &Server, args: &[&str]) -> String {
    let output = server.output(args);
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn holders_and_waiters_are_shown() {
    let server = Server::start();
    assert_eq!(
        stdout(&server, &["locks"]),
        "no locks in namespace default\n"
    );
    let holder = server.holder();
    let name = format!("sh[{}]@", holder.0.id());
    let args = ["run", "-r", r"a/b\/c", "--name", "the-waiter", "--", "true"];
    let (line, _waiter) = waiter(&server, &args);
    assert!(
        line.contains(&format!("waiting for r a/b\\/c: held by {name}")),
        "{line}"
    );

    let table = stdout(&server, &["locks"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    for part in ["acquired", "w a", &name] {
        assert!(lines[1].contains(part), "{table}");
    }
    let token = lines[1].split(' ').next().expect("a token");
    for part in [
        "waiting",
        r"r a/b\/c",
        "the-waiter",
        &format!("{token}: {name}"),
    ] {
        assert!(lines[2].contains(part), "{table}");
    }
    assert_eq!(stdout(&server, &["locks", "-p", r"a/x"]).lines().count(), 2);
    assert_eq!(stdout(&server, &["locks", "-p", ""]).lines().count(), 3);
    assert!(stdout(&server, &["locks", "--limit", "1"]).contains("the list is cut"));
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&server, &["locks", "--json"])).expect("JSON");
    assert_eq!(json["requests"][1]["waits_for"], token);
}

#[test]
fn the_holder_of_any_of_the_paths_is_shown() {
    let server = Server::start();
    let holder = server.holder();
    let name = format!("held by sh[{}]@", holder.0.id());
    let (line, _waiter) = waiter(&server, &["run", "-w", "free", "-w", "a", "--", "true"]);
    assert!(line.contains(&name), "{line}");
}

#[test]
fn status_names_the_namespaces() {
    let server = Server::start();
    assert!(stdout(&server, &["status"]).starts_with("Locktopus "));
    let _holder = server.holder();
    let status = stdout(&server, &["status"]);
    assert!(
        status.contains("NAMESPACE") && status.contains("\ndefault "),
        "{status}"
    );
}

#[test]
fn a_release_by_force_ends_the_command() {
    let server = Server::start();
    let script = "trap 'exit 3' TERM; echo $LOCKTOPUS_TOKEN; while :; do sleep 0.01; done";
    let mut run = server.spawn(&["run", "-w", "a", "--", "sh", "-c", script]);
    let token = run.line();
    assert_eq!(
        stdout(&server, &["release", &token]),
        format!("{token} is released\n")
    );
    assert_eq!(run.status().code(), Some(3));
    let said = run.errors();
    assert!(
        said.contains("the lock is lost") && said.contains("by force"),
        "{said}"
    );
    let again = server.output(&["release", &token]);
    assert_eq!(again.status.code(), Some(1));
    assert!(errors(&again).contains("404"), "{}", errors(&again));
}

#[test]
fn a_release_of_an_address_ends_its_locks_and_requests() {
    let server = Server::start();
    let _holder = server.holder();
    let (_, mut waiter) = waiter(&server, &["run", "-w", "a", "--", "true"]);
    assert_eq!(
        stdout(&server, &["release", "--address", "127.0.0.1"]),
        "1 locks are released, 1 requests are withdrawn\n"
    );
    assert_eq!(waiter.status().code(), Some(69));
    for args in [&["release"][..], &["release", "7", "--client", "a"]] {
        let output = server.output(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(errors(&output).contains("--address"), "{}", errors(&output));
    }
}

#[test]
fn a_request_withdrawn_by_force_is_not_a_conflict() {
    let server = Server::start();
    let _holder = server.holder();
    let (_, mut waiter) = waiter(&server, &["run", "-w", "a", "-E", "0", "--", "true"]);
    let table = stdout(&server, &["locks"]);
    let line = table.lines().find(|line| line.contains(" waiting "));
    let token = line.and_then(|line| line.split(' ').next());
    let token = token.expect("a token");
    assert_eq!(
        stdout(&server, &["release", token]),
        format!("{token} is withdrawn\n")
    );
    assert_eq!(waiter.status().code(), Some(69));
}
