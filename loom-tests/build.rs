//! Makes a copy of the engine's sources in which each mutation can be switched on.
//!
//! The library and the stepped tests include the copy, each with a `sync` of its own. Its lines are
//! those of the original, so a panic names the right one.

use std::fs;
use std::path::{Path, PathBuf};

const ENGINE: &str = "../engine/src";

struct Mutation {
    name: &'static str,
    edits: &'static [Edit],
}

struct Edit {
    file: &'static str,
    text: &'static str,
    instead: &'static str,
}

macro_rules! mutations {
    ($(
        $(#[doc = $why:literal])+
        $name:ident { $($file:literal: $text:literal => $instead:literal;)+ }
    )+) => {
        const MUTATIONS: &[Mutation] = &[$(Mutation {
            name: stringify!($name),
            edits: &[$(Edit { file: $file, text: $text, instead: $instead }),+],
        }),+];
    };
}

include!("mutations.rs");

fn main() {
    println!("cargo:rerun-if-changed={ENGINE}");
    println!("cargo:rerun-if-changed=mutations.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("engine");
    // What was deleted from the engine must not stay in the copy.
    let _ = fs::remove_dir_all(&out);
    let mut copied = Vec::new();
    copy(Path::new(ENGINE), Path::new(""), &out, &mut copied);
    for (mutation, edit) in all_edits() {
        assert!(
            copied.iter().any(|file| file == Path::new(edit.file)),
            "mutation {}: the engine has no file {}",
            mutation.name,
            edit.file
        );
    }
}

fn all_edits() -> impl Iterator<Item = (&'static Mutation, &'static Edit)> {
    let edits =
        |mutation: &'static Mutation| mutation.edits.iter().map(move |edit| (mutation, edit));
    MUTATIONS.iter().flat_map(edits)
}

/// Copies what is in `folder` of `from` to the same folder of `to`.
fn copy(from: &Path, folder: &Path, to: &Path, copied: &mut Vec<PathBuf>) {
    fs::create_dir_all(to.join(folder)).expect("the output folder is ours");
    for entry in fs::read_dir(from.join(folder)).expect("the engine's sources are readable") {
        let name = folder.join(entry.expect("a name").file_name());
        if from.join(&name).is_dir() {
            copy(from, &name, to, copied);
            continue;
        }
        let source = fs::read_to_string(from.join(&name)).expect("a source is text");
        let mut source = with_switches(&name, &source);
        if name == Path::new("lib.rs") {
            source = body_of_the_root(&source);
        }
        fs::write(to.join(&name), source).expect("the output folder is ours");
        copied.push(name);
    }
}

/// The root without what an included file may not have, and without `sync`, which its includer has.
fn body_of_the_root(source: &str) -> String {
    let stays =
        |line: &&str| !line.starts_with("//!") && !line.starts_with("#![") && *line != "mod sync;";
    let line = |line| if stays(&line) { line } else { "" };
    source.lines().flat_map(|text| [line(text), "\n"]).collect()
}

/// The source with the switches of all mutations that change this file.
fn with_switches(file: &Path, source: &str) -> String {
    let mut switches: Vec<(usize, usize, String)> = all_edits()
        .filter(|(_, edit)| Path::new(edit.file) == file)
        .map(|(mutation, edit)| switch(mutation, edit, source))
        .collect();
    switches.sort();
    for pair in switches.windows(2) {
        assert!(
            pair[0].1 <= pair[1].0,
            "two mutations change the same part of {}:\n{}\n{}",
            file.display(),
            pair[0].2,
            pair[1].2
        );
    }
    let mut mutated = String::new();
    let mut at = 0;
    for (start, end, switch) in switches {
        mutated += &source[at..start];
        mutated += &switch;
        at = end;
    }
    mutated + &source[at..]
}

/// What part of the source becomes what.
fn switch(mutation: &Mutation, edit: &Edit, source: &str) -> (usize, usize, String) {
    let (name, file) = (mutation.name, edit.file);
    let parts: Vec<&str> = edit.text.split(['«', '»']).collect();
    let (before, part, after) = match parts[..] {
        [part] => ("", part, ""),
        [before, part, after] => (before, part, after),
        _ => panic!(
            "mutation {name}: one « and one », or neither, in {:?}",
            edit.text
        ),
    };
    let text = [before, part, after].concat();
    let found: Vec<usize> = source.match_indices(&text).map(|(at, _)| at).collect();
    let [at] = found[..] else {
        panic!(
            "mutation {name}: this text must stand in engine/src/{file} exactly once, and stands there {} times:\n{text}",
            found.len()
        );
    };
    // On the lines that the part has.
    let instead = edit
        .instead
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let (open, close) = match part {
        "" => ('{', '}'),
        statement if statement.ends_with(';') => ('{', '}'),
        _ => ('(', ')'),
    };
    let switch = format!(
        "::locktopus_loom_tests::switch!{open}{name} {{ {instead} }} else {{ {part} }}{close}"
    );
    let start = at + before.len();
    (start, start + part.len(), switch)
}
