//! `locktopus`: runs commands under locks, and shows who holds what.

mod args;
mod bench;
mod child;
mod http;
mod line;
mod locks;
mod mode;
mod paths;
mod run;
mod signals;
mod watch;

use argh::ArgsInfo as _;
use argh_complete::Generator as _;
use args::{Command, Locktopus};
use locktopus_client::{Error, Options};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Exit status for a bad argument or variable.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == child::BECOME).is_some() {
        return ExitCode::from(child::become_command(arguments));
    }
    let (parsed, command) = match line::parse(arguments.collect()) {
        Ok(parsed) => parsed,
        Err(exit) if exit.status.is_ok() => {
            return ended(print_line(&exit.output));
        }
        Err(exit) => {
            complain(&format!("{}; see --help", exit.output.trim_end()));
            return ExitCode::from(USAGE);
        }
    };
    if parsed.version {
        return ended(print_line(concat!("locktopus ", env!("CARGO_PKG_VERSION"))));
    }
    let Some(parsed) = parsed.command else {
        complain(
            "no command; allowed are run, locks, release, status, bench and completions; see --help",
        );
        return ExitCode::from(USAGE);
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(obey(parsed, command));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_background();
    status
}

async fn obey(parsed: Command, command: Vec<std::ffi::OsString>) -> ExitCode {
    let done = match parsed {
        Command::Run(args) => return ExitCode::from(run::run(args, command).await),
        Command::Completions(args) => completions(&args.shell),
        Command::Locks(mut args) => {
            match server(&args.url, &args.namespace, &args.token, args.ca_file.take()) {
                Ok(options) => locks::locks(args, &options).await,
                Err(error) => Err(error.into()),
            }
        }
        Command::Release(args) => {
            match server(&args.url, &args.namespace, &args.token, args.ca_file) {
                Ok(options) => locks::release(&args.lock, &options).await,
                Err(error) => Err(error.into()),
            }
        }
        Command::Status(args) => match server(&args.url, &None, &args.token, args.ca_file) {
            Ok(options) => locks::status(args.json, &options).await,
            Err(error) => Err(error.into()),
        },
        Command::Bench(mut args) => {
            match server(&args.url, &args.namespace, &args.token, args.ca_file.take()) {
                Ok(options) => bench::bench(args, options).await,
                Err(error) => Err(error.into()),
            }
        }
    };
    ended(done)
}

fn server(
    url: &Option<String>,
    namespace: &Option<String>,
    token: &Option<String>,
    ca_file: Option<std::path::PathBuf>,
) -> Result<Options, Error> {
    args::server(
        url.as_deref(),
        namespace.as_deref(),
        token.as_deref(),
        ca_file,
    )
}

fn completions(shell: &str) -> Result<(), Failure> {
    let info = Locktopus::get_args_info();
    let script = match shell {
        "bash" => argh_complete::bash::Bash::generate("locktopus", &info),
        "fish" => argh_complete::fish::Fish::generate("locktopus", &info),
        "nushell" => argh_complete::nushell::Nushell::generate("locktopus", &info),
        "zsh" => argh_complete::zsh::Zsh::generate("locktopus", &info),
        other => {
            return Err(Error::Options(format!(
                "unknown shell {other:?}; allowed are bash, fish, nushell and zsh"
            ))
            .into());
        }
    };
    print_line(&script)
}

/// Writes to standard output; whether anybody reads on. That nobody does is no failure: who closes a pipe has
/// seen enough.
fn print(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Output(error)),
    }
}

fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n")).map(|_| ())
}

/// Why a command of ours has failed.
enum Failure {
    Client(Error),
    /// Standard output does not take what we say.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Client(error)
    }
}

impl Failure {
    /// Says what it is, and gives the exit status.
    fn complain(self) -> ExitCode {
        match self {
            Failure::Client(error) => {
                complain(&error.to_string());
                match error {
                    Error::Options(_) => ExitCode::from(USAGE),
                    _ => ExitCode::FAILURE,
                }
            }
            Failure::Output(error) => {
                complain(&format!("cannot write to standard output: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

fn ended(done: Result<(), Failure>) -> ExitCode {
    done.map_or_else(Failure::complain, |()| ExitCode::SUCCESS)
}

/// Says on standard error what is wrong. That nobody reads it must not end us.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "locktopus: {text}");
}
