//! `locktopus-server`: reads the command line, runs the server, and returns the exit status.

mod log;

use locktopus_server::{
    Command, Config, ConfigError, LogFormat, Secrets, count_dropped_log_lines, parse,
    run_with_secrets,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::env;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_appender::non_blocking::NonBlockingBuilder;

/// Its own threads give unused memory back to the system, also while the server is idle.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit status for a bad flag, a bad variable, and a file that cannot be used.
const USAGE: u8 = 2;

/// How many lines of the log wait to be written; further ones are dropped.
const LOG_LINES: usize = 10_000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let config = match parse(&args, variable) {
        Ok(Command::Run(config)) => config,
        Ok(Command::Print(text)) => {
            // A closed standard output cannot be reported anywhere better.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(other) => unreachable!("{other:?}"),
        Err(error) => return refuse(&error),
    };
    match Secrets::load(&config) {
        Ok(secrets) => start(*config, secrets),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("locktopus-server: {}", with_causes(error));
    ExitCode::from(USAGE)
}

fn start(config: Config, secrets: Secrets) -> ExitCode {
    // The server never waits for its log: lines are dropped if standard error is not read, or is closed.
    let (log, _flush_at_exit) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .finish(log::Visible::new(io::stderr(), config.log_format));
    let lines = log.error_counter();
    count_dropped_log_lines(move || u64::try_from(lines.dropped_lines()).unwrap_or(u64::MAX));
    let format = tracing_subscriber::fmt()
        .with_writer(log)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match config.log_format {
        LogFormat::Json => format.json().flatten_event(true).init(),
        _ => format.init(),
    }
    allow_many_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(serve(config, secrets));
    // Tasks of abandoned locks may still sleep; no work is left for them.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit on open files to the hard one: each connection is one.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit on open files");
    }
}

async fn serve(config: Config, secrets: Secrets) -> io::Result<()> {
    // The handlers are set before the address is printed: a script may send a signal once it has read the address.
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    let place = (config.host.as_str(), config.port);
    let listener = TcpListener::bind(place).await.map_err(|error| {
        let problem = format!("cannot listen on {}:{}: {error}", config.host, config.port);
        io::Error::new(error.kind(), problem)
    })?;
    let mut stdout = io::stdout();
    // Scripts read this line. A closed standard output does not keep the server from serving.
    let _ =
        writeln!(stdout, "listening on {}", listener.local_addr()?).and_then(|()| stdout.flush());

    tokio::spawn(reload(secrets.clone(), hangup));
    let (first, after_first) = tokio::sync::oneshot::channel();
    let shutdown = async {
        // An error means that this function has returned, and with it the server.
        let _ = after_first.await;
    };
    let mut server = pin!(run_with_secrets(listener, config, secrets, shutdown));
    tokio::select! {
        done = &mut server => return done,
        name = signals.next() => info!("got {name}"),
    }
    let _ = first.send(());
    tokio::select! {
        done = &mut server => done,
        name = signals.next() => {
            info!("got {name} again: exiting without waiting for the locks");
            Ok(())
        }
    }
}

/// Reads tokens, certificate and key again at each SIGHUP.
async fn reload(secrets: Secrets, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        match secrets.reload() {
            Ok(()) => info!("got SIGHUP: tokens and certificate are read again"),
            Err(error) => {
                let problem = with_causes(&error);
                error!("got SIGHUP: {problem}; the former tokens and certificate stay in use");
            }
        }
    }
}

/// The text of an error, followed by the texts of its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
