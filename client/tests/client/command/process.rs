//! Processes: the command, and a server that can be killed.

use crate::common::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Set if this test binary is to act as a server.
const BE_A_SERVER: &str = "LOCKTOPUS_TEST_BE_A_SERVER";

/// Not a test: [`Server::start`] runs this binary with only this function, as a server that can be killed.
#[test]
fn server_process() {
    if std::env::var_os(BE_A_SERVER).is_none() {
        return;
    }
    // The other end of standard input closes when the test ends, even if it is killed.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut vec![]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        println!("listening on {}", listener.local_addr().expect("bound"));
        std::io::stdout().flush().expect("written");
        let config = locktopus_server::Config::default();
        locktopus_server::run(listener, config, std::future::pending())
            .await
            .expect("no error");
    });
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("running");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed()).expect("a process")
    }

    pub(crate) fn status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.0.try_wait().expect("a child") {
                Some(status) => return status,
                None if start.elapsed() > PATIENCE => panic!("the process does not end"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// The process id on the next line of its standard output.
    pub(crate) fn pid_line(&mut self) -> Pid {
        Pid::from_raw(self.line().parse().expect("a number")).expect("a process")
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        // A byte at a time, so that nothing is read ahead.
        let stdout = self.0.stdout.as_mut().expect("piped");
        let mut line = vec![];
        let mut byte = [0];
        while stdout.read(&mut byte).expect("read") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }

    pub(crate) fn errors(&mut self) -> String {
        let mut text = String::new();
        let stderr = self.0.stderr.as_mut().expect("piped");
        stderr.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) url: String,
    /// Open for as long as the server runs: after 60 s the test harness prints that the "test" is slow, and a closed
    /// pipe would end it.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "command::process::server_process", "--nocapture"])
            .env(BE_A_SERVER, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut process = Process(child);
        let mut stdout = BufReader::new(process.0.stdout.take().expect("piped"));
        // The test harness prints lines before it.
        let address = stdout.by_ref().lines().find_map(|line| {
            let line = line.expect("text");
            line.split_once("listening on ")
                .map(|(_, address)| address.to_owned())
        });
        let url = format!("ws://{}", address.expect("an address"));
        Server {
            process,
            url,
            _stdout: stdout,
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = locktopus(args);
        command.env("LOCKTOPUS_URL", &self.url);
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("runs")
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(command.spawn().expect("starts"))
    }

    /// As [`spawn`](Server::spawn), in a session without a terminal.
    pub(crate) fn spawn_away(&self, args: &[&str]) -> Process {
        let mut command = locktopus_through("setsid", args);
        command.env("LOCKTOPUS_URL", &self.url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(command.spawn().expect("starts"))
    }

    /// Waits until the command says that it waits.
    pub(crate) fn until_waiting(run: &mut Process) {
        let mut line = String::new();
        let stderr = run.0.stderr.as_mut().expect("piped");
        // A byte at a time, so that nothing is read ahead.
        let mut stderr = BufReader::with_capacity(1, stderr);
        stderr.read_line(&mut line).expect("text");
        assert!(line.contains("waiting for"), "{line}");
    }

    /// Holds `a` until it is dropped.
    pub(crate) fn holder(&self) -> Process {
        let mut holder = self.spawn(&[
            "run",
            "-w",
            "a",
            "--",
            "sh",
            "-c",
            "echo held; exec sleep 600",
        ]);
        assert_eq!(holder.line(), "held");
        holder
    }
}

/// The command with these arguments, without variables of its own and with no signal ignored, even if the tests run
/// under `nohup`.
pub(crate) fn locktopus(args: &[&str]) -> Command {
    locktopus_through("env", args)
}

/// As [`locktopus`], started by another program that executes it.
fn locktopus_through(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["env", "--default-signal", env!("CARGO_BIN_EXE_locktopus")]);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOCKTOPUS_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The state of a process in `/proc`, such as `R`, `S` or `T`; `None` if there is no such process.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until the process is stopped, or until it is not.
pub(crate) fn until_stopped(pid: Pid, stopped: bool) {
    let start = Instant::now();
    while (state(pid) == Some('T')) != stopped {
        assert!(start.elapsed() < PATIENCE, "{:?}", state(pid));
        thread::sleep(Duration::from_millis(2));
    }
}

/// The parent of a process.
pub(crate) fn parent(pid: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.expect("a process");
    let fields = stat.rsplit_once(") ").expect("a name").1;
    let parent = fields.split(' ').nth(1).expect("a parent");
    Pid::from_raw(parent.parse().expect("a number")).expect("a process")
}

/// Waits until the process has ended.
pub(crate) fn until_ended(pid: Pid) {
    let start = Instant::now();
    while is_running(pid) {
        assert!(start.elapsed() < PATIENCE, "{pid:?} still runs");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the process exists and is not a zombie.
pub(crate) fn is_running(pid: Pid) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}
