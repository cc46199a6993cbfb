//! Converts the command line into the form that argh reads.
//!
//! argh takes the value of a flag from the next argument, and all arguments as text. So `--flag=value` is split, and
//! the command of `run`, which may have bytes that are not UTF-8, is split off first.

use crate::args::Locktopus;
use argh::{ArgsInfo as _, CommandInfoWithArgs, EarlyExit, FlagInfoKind, FromArgs as _};
use std::ffi::OsString;

/// Reads the command line: the arguments of `locktopus`, and the command of `run`.
pub(crate) fn parse(mut args: Vec<OsString>) -> Result<(Locktopus, Vec<OsString>), EarlyExit> {
    let ours = Locktopus::get_args_info();
    let place = args
        .iter()
        .position(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    let named = place.and_then(|place| args.get(place)?.to_str());
    let subcommand = ours
        .commands
        .iter()
        .find(|command| Some(command.name) == named);
    let place = place.unwrap_or(args.len());
    let mut rest = args.split_off(args.len().min(place + 1));
    let mut command = vec![];
    let mut texts = split_values(args, &ours)?;
    if let Some(subcommand) = subcommand {
        if subcommand.name == "run" {
            command = split_command(&mut rest, &subcommand.command);
        }
        texts.extend(split_values(rest, &subcommand.command)?);
    } else {
        for arg in rest {
            texts.push(text(arg)?);
        }
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Locktopus::from_args(&["locktopus"], &texts).map(|parsed| (parsed, command))
}

/// Whether a flag takes a value; `None` if it is unknown.
fn takes_value(info: &CommandInfoWithArgs, arg: &str) -> Option<bool> {
    let flag = info.flags.iter().find(|flag| {
        let short = |short: char| arg.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4]));
        flag.long == arg || flag.short.is_some_and(short)
    })?;
    Some(matches!(flag.kind, FlagInfoKind::Option { .. }))
}

/// Splits the command off the arguments of `run`. It begins after the flags, with or without a `--` before it.
fn split_command(args: &mut Vec<OsString>, info: &CommandInfoWithArgs) -> Vec<OsString> {
    let mut place = 0;
    while let Some(arg) = args.get(place) {
        let arg = arg.to_string_lossy();
        if arg == "--" {
            let command = args.split_off(place + 1);
            args.pop();
            return command;
        }
        if !arg.starts_with('-') {
            return args.split_off(place);
        }
        place += if takes_value(info, &arg) == Some(true) {
            2
        } else {
            1
        };
    }
    vec![]
}

/// Splits `--flag=value`. The values of flags and the arguments after `--` stay as they are.
fn split_values(args: Vec<OsString>, info: &CommandInfoWithArgs) -> Result<Vec<String>, EarlyExit> {
    let mut texts = vec![];
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        if arg == "--" {
            texts.push(arg);
            break;
        }
        if takes_value(info, &arg) == Some(true) {
            texts.push(arg);
            if let Some(value) = args.next() {
                texts.push(text(value)?);
            }
            continue;
        }
        match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => match takes_value(info, flag) {
                Some(false) => {
                    return Err(EarlyExit::from(format!("{flag} takes no value")));
                }
                _ => texts.extend([flag.to_owned(), value.to_owned()]),
            },
            _ => texts.push(arg),
        }
    }
    for arg in args {
        texts.push(text(arg)?);
    }
    Ok(texts)
}

fn text(arg: OsString) -> Result<String, EarlyExit> {
    arg.into_string().map_err(|arg| {
        let shown = arg.to_string_lossy().into_owned();
        EarlyExit::from(format!(
            "{shown:?} is not UTF-8; only the command of `run` may have other bytes"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, Run};

    fn run(args: &[&str]) -> (Run, Vec<OsString>) {
        let args = args.iter().map(OsString::from).collect();
        match parse(args) {
            Ok((
                Locktopus {
                    command: Some(Command::Run(run)),
                    ..
                },
                command,
            )) => (run, command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_begins_after_our_own_flags() {
        for args in [
            &["run", "-w", "a", "--", "x", "-w", "--", "--try"][..],
            &["run", "-w", "a", "x", "-w", "--", "--try"],
            &["run", "--write=a", "x", "-w", "--", "--try"],
        ] {
            let (run, command) = run(args);
            assert_eq!((run.write, run.try_), (vec![vec!["a".to_owned()]], false));
            assert_eq!(command, ["x", "-w", "--", "--try"]);
        }
        assert_eq!(run(&["run", "-w", "--", "--try", "x"]).1, ["x"]);
    }

    #[test]
    fn the_value_of_a_flag_is_not_split() {
        for args in [
            &["run", "-w", "--x=y", "true"][..],
            &["run", "--write", "--x=y", "true"],
            &["run", "--write=--x=y", "true"],
        ] {
            let (run, command) = run(args);
            assert_eq!(run.write, [["--x=y"]], "{args:?}");
            assert_eq!(command, ["true"]);
        }
    }

    #[test]
    fn a_switch_takes_no_value() {
        for args in [
            &["run", "-w", "a", "--try=false", "true"][..],
            &["locks", "--json=no"],
            &["--version=1"],
        ] {
            let args = args.iter().map(OsString::from).collect();
            let exit = parse(args).expect_err("refused");
            assert!(exit.status.is_err());
            assert!(exit.output.contains("takes no value"), "{}", exit.output);
        }
    }
}
