//! Copies the engine's source and adds a switch for each mutation.
//!
//! The library and the stepped tests include the copy, each with its own module `sync`. The copy has the
//! line numbers of the original, so the place that a panic names is right in both.

use std::fs;
use std::ops::Range;
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
    // The copy must not keep a file that the engine no longer has.
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

/// Copies a folder of `from` to the same folder of `to`, with the folders in it.
fn copy(from: &Path, folder: &Path, to: &Path, copied: &mut Vec<PathBuf>) {
    fs::create_dir_all(to.join(folder)).expect("cannot write to OUT_DIR");
    for entry in fs::read_dir(from.join(folder)).expect("cannot read the engine's source") {
        let name = folder.join(entry.expect("cannot read the engine's source").file_name());
        if from.join(&name).is_dir() {
            copy(from, &name, to, copied);
            continue;
        }
        let source = fs::read_to_string(from.join(&name)).expect("cannot read the engine's source");
        let mut source = with_switches(&name, &source);
        if name == Path::new("lib.rs") {
            source = body_of_the_root(&source);
        }
        fs::write(to.join(&name), source).expect("cannot write to OUT_DIR");
        copied.push(name);
    }
}

/// The root of the crate without inner attributes, which an included file cannot have, and without the
/// module `sync`, which the including file declares.
fn body_of_the_root(source: &str) -> String {
    let stays =
        |line: &&str| !line.starts_with("//!") && !line.starts_with("#![") && *line != "mod sync;";
    let line = |line| if stays(&line) { line } else { "" };
    source.lines().flat_map(|text| [line(text), "\n"]).collect()
}

/// The source of a file with the switches of all its mutations.
fn with_switches(file: &Path, source: &str) -> String {
    let mut switches: Vec<(Range<usize>, String)> = all_edits()
        .filter(|(_, edit)| Path::new(edit.file) == file)
        .map(|(mutation, edit)| switch(mutation, edit, source))
        .collect();
    switches.sort_by_key(|(part, _)| part.start);
    for pair in switches.windows(2) {
        let [(first, one), (second, other)] = pair else {
            unreachable!("a window of two");
        };
        let file = file.display();
        assert!(
            first.end <= second.start,
            "two mutations replace the same part of {file}: {one} and {other}"
        );
    }
    let mut mutated = String::new();
    let mut at = 0;
    for (part, switch) in switches {
        mutated += &source[at..part.start];
        mutated += &switch;
        at = part.end;
    }
    mutated + &source[at..]
}

/// The part of the source that an edit replaces, and the switch that replaces it.
fn switch(mutation: &Mutation, edit: &Edit, source: &str) -> (Range<usize>, String) {
    let (name, file) = (mutation.name, edit.file);
    let pieces: Vec<&str> = edit.text.split(['«', '»']).collect();
    let (before, part, after) = match pieces[..] {
        [part] => ("", part, ""),
        [before, part, after] => (before, part, after),
        _ => panic!(
            "mutation {name}: the text must have « and » once or not at all: {}",
            edit.text
        ),
    };
    let text = [before, part, after].concat();
    let found: Vec<usize> = source.match_indices(&text).map(|(at, _)| at).collect();
    let [at] = found[..] else {
        panic!(
            "mutation {name}: the text must stand in engine/src/{file} once, but is there {} times: {text}",
            found.len()
        );
    };
    let start = at + before.len();
    // One line, so that the lines below keep their numbers.
    let instead: Vec<&str> = edit.instead.split_whitespace().collect();
    let arms = format!("{name} {{ {} }} else {{ {part} }}", instead.join(" "));
    let is_statement = part.is_empty() || part.ends_with(';');
    let switch = if is_statement {
        format!("::locktopus_loom_tests::switch! {{ {arms} }}")
    } else {
        format!("::locktopus_loom_tests::switch!({arms})")
    };
    (start..start + part.len(), switch)
}
