//! Printing, errors and exit statuses.

use locktopus_client::Error;
use locktopus_client::protocol::text::visible;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Exit status for a bad argument or variable.
pub(crate) const USAGE: u8 = 2;

/// Why a subcommand failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An argument or a variable is wrong.
    Usage(String),
    Client(Error),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Client(error)
    }
}

impl Failure {
    /// Prints the error on standard error.
    pub(crate) fn complain(&self) {
        complain(&match self {
            Failure::Usage(text) => text.clone(),
            Failure::Client(error) => explain(error),
            Failure::Output(error) => format!("cannot write to standard output: {error}"),
        });
    }

    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Failure::Usage(_) | Failure::Client(Error::Options(_)))
    }
}

/// The exit status of a subcommand, after its error is printed.
pub(crate) fn status(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.complain();
            if failure.is_usage() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// An error and its causes, on one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    // The parts of some errors stand on lines of their own.
    let line = |char: char| if char.is_control() { ' ' } else { char };
    visible(&text.chars().map(line).collect::<String>())
}

/// Writes to standard output. Returns false if its reader has closed the pipe, which is not a failure: the reader needs
/// no more.
pub(crate) fn print(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Output(error)),
    }
}

pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n")).map(|_| ())
}

/// A line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value);
    text.expect("strings and numbers always serialize") + "\n"
}

/// Writes an error to standard error. A standard error that is closed must not end the process.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "locktopus: {text}");
}
