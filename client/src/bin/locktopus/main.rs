//! `locktopus`: runs commands under locks, and shows the locks of a server.
//!
//! ```text
//! main ──► line ──► args ──► server_flags
//!   ├────► run/  (obtain ──► child, supervise)
//!   ├────► locks (locks, release, status)
//!   └────► bench/
//!          run, locks, bench ──► show, output
//! ```

mod args;
mod bench;
mod line;
mod load;
mod locks;
mod output;
mod run;
mod server_flags;
mod show;

use argh::ArgsInfo as _;
use argh_complete::Generator as _;
use args::{Command, Locktopus};
use output::{Failure, USAGE, complain, print_line, status};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == run::GUARD) {
        return ExitCode::from(run::guard());
    }
    let (parsed, command) = match line::parse(arguments) {
        Ok(parsed) => parsed,
        Err(exit) if exit.status.is_ok() => return status(print_line(&exit.output)),
        Err(exit) => {
            // argh lists missing arguments on lines of their own.
            let text = exit.output.trim_end().replace("\n    ", " ");
            complain(&format!("{text}; see --help"));
            return ExitCode::from(USAGE);
        }
    };
    if parsed.version {
        return status(print_line(concat!("locktopus ", env!("CARGO_PKG_VERSION"))));
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
    let status = runtime.block_on(async {
        match parsed {
            Command::Run(args) => ExitCode::from(run::run(&args, &command, started).await),
            Command::Locks(args) => status(locks::locks(&args).await),
            Command::Release(args) => status(locks::release(&args).await),
            Command::Status(args) => status(locks::status(&args).await),
            Command::Bench(args) => status(bench::bench(&args).await),
            Command::Completions(args) => status(completions(&args.shell)),
        }
    });
    // Tasks that still run must not delay the exit.
    runtime.shutdown_background();
    status
}

fn completions(shell: &str) -> Result<(), Failure> {
    let info = Locktopus::get_args_info();
    let script = match shell {
        "bash" => argh_complete::bash::Bash::generate("locktopus", &info),
        "fish" => argh_complete::fish::Fish::generate("locktopus", &info),
        "nushell" => argh_complete::nushell::Nushell::generate("locktopus", &info),
        "zsh" => argh_complete::zsh::Zsh::generate("locktopus", &info),
        other => {
            return Err(Failure::Usage(format!(
                "unknown shell {other:?}; allowed are bash, fish, nushell and zsh"
            )));
        }
    };
    print_line(&script)
}
