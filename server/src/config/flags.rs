//! The command line and the environment variables, in the forms that argh reads.

use super::Config;
use crate::error::ConfigError;
use argh::{ArgsInfo as _, EarlyExit, FlagInfo, FlagInfoKind, FromArgs as _, Optionality};
use std::collections::HashSet;

pub(super) const PROGRAM: &[&str] = &["locktopus-server"];

/// An option whose argument has this name is a switch: its value can be left out.
const SWITCH: &str = "true|false";

pub(super) fn read(args: &[String]) -> Result<Config, EarlyExit> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Config::from_args(PROGRAM, &args)
}

/// The error text of argh, as the end of a line that begins with the name of the program or of a variable.
pub(super) fn problem(exit: EarlyExit) -> String {
    let mut problem = exit.output.trim_end().to_owned();
    if let Some(first) = problem.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    problem
}

/// Arguments in the forms that argh reads.
pub(super) struct Flags {
    pub(super) args: Vec<String>,
    /// The options among them, by their long names.
    given: HashSet<&'static str>,
}

impl Flags {
    /// Splits `--name=value`, adds the value that a switch leaves out, and splits the list of a repeatable option.
    pub(super) fn normalize(args: &[String]) -> Flags {
        let known = Config::get_args_info().flags;
        let mut flags = Flags {
            args: Vec::new(),
            given: HashSet::new(),
        };
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let short =
                |short: char| name.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4]));
            let option = known
                .iter()
                .find(|flag| flag.long == name || flag.short.is_some_and(short));
            let Some((option, arg_name)) = option.and_then(|option| match option.kind {
                FlagInfoKind::Option { arg_name } => Some((option, arg_name)),
                FlagInfoKind::Switch => None,
            }) else {
                flags.args.push(arg.clone());
                continue;
            };
            let left_out =
                arg_name == SWITCH && args.peek().is_none_or(|next| next.starts_with('-'));
            let value = match inline {
                None if left_out => Some("true".to_owned()),
                None => args.next().cloned(),
                inline => inline,
            };
            flags.given.insert(option.long);
            match value {
                Some(value) => flags.args.extend(arguments(option, &value)),
                None => flags.args.push(arg.clone()),
            }
        }
        flags
    }

    /// Adds each variable whose flag is not given. An empty variable counts as unset.
    pub(super) fn add_variables(
        &mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        let mut variables = Vec::new();
        for flag in Config::get_args_info().flags {
            if matches!(flag.kind, FlagInfoKind::Switch) || self.given.contains(flag.long) {
                continue;
            }
            let name = flag.long.trim_start_matches('-').replace('-', "_");
            let name = format!("LOCKTOPUS_{}", name.to_uppercase());
            let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let args = arguments(flag, &value);
            // Each variable is read alone, so that an error is known to come from it.
            read(&args).map_err(|exit| ConfigError::Variable {
                name,
                problem: problem(exit),
            })?;
            variables.extend(args);
        }
        // Before the flags: these may end with `--`.
        self.args.splice(0..0, variables);
        Ok(())
    }
}

/// A flag with its value; with each value of a list, if the flag is repeatable.
fn arguments(flag: &FlagInfo<'_>, value: &str) -> Vec<String> {
    let list = flag.optionality == Optionality::Repeating;
    let values = value.split(|c| list && c == ',');
    values
        .flat_map(|value| [flag.long.to_owned(), value.to_owned()])
        .collect()
}
