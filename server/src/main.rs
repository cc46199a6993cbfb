//! `locktopus-server`: parses, runs, and tells the exit status.

use locktopus_server::{Command, Config, LogFormat, Secrets, parse, run};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_appender::non_blocking::NonBlockingBuilder;

/// Exit status for a bad flag or variable.
const USAGE: u8 = 2;

/// How many lines of the log wait for who reads it; further ones are dropped.
const LOG_LINES: usize = 10_000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let config = match parse(&args, |name| {
        env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }) {
        Ok(Command::Run(config)) => config,
        Ok(Command::Print(text)) => {
            // Nobody reads on: nothing to be done about that.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("locktopus-server: {error}");
            return ExitCode::from(USAGE);
        }
    };
    // Logging waits for nobody: if the log is not read, lines are dropped; if it is gone, all are.
    let (log, _flush_at_exit) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .finish(io::stderr());
    let format = tracing_subscriber::fmt()
        .with_writer(log)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match config.log_format {
        LogFormat::Text => format.init(),
        LogFormat::Json => format.json().flatten_event(true).init(),
    }
    allow_many_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(serve(*config));
    // Abandoned locks may still sleep: nobody waits for them any more.
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

async fn serve(config: Config) -> io::Result<()> {
    // Before anybody is told that we are there.
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    let place = (config.host.as_str(), config.port);
    let listener = TcpListener::bind(place).await.map_err(|error| {
        let problem = format!("cannot listen on {}:{}: {error}", config.host, config.port);
        io::Error::new(error.kind(), problem)
    })?;
    let mut stdout = io::stdout();
    // Scripts that start us read this line; that nobody does is not our problem.
    let _ =
        writeln!(stdout, "listening on {}", listener.local_addr()?).and_then(|()| stdout.flush());

    tokio::spawn(reload(config.secrets.clone(), hangup));
    let (first, after_first) = tokio::sync::oneshot::channel();
    let shutdown = async {
        // An error means that this function is gone, and the server with it.
        let _ = after_first.await;
    };
    let mut server = std::pin::pin!(run(listener, config, shutdown));
    tokio::select! {
        done = &mut server => return done,
        name = signals.next() => info!("got {name}"),
    }
    let _ = first.send(());
    tokio::select! {
        done = &mut server => done,
        name = signals.next() => {
            info!("got {name} again: locks are given up");
            Ok(())
        }
    }
}

/// Reads tokens, certificate and key again at each SIGHUP.
async fn reload(secrets: Secrets, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        match secrets.reload() {
            Ok(()) => info!("got SIGHUP: tokens and certificate are read again"),
            Err(error) => error!("got SIGHUP: {error}; what was read before stays in use"),
        }
    }
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
