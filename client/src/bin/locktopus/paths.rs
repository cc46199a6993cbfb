//! How a path is written: `a/b/c`, with `\/` for a slash in a segment and `\\` for a backslash.
//!
//! It is the notation of the server: `\e` is an empty segment, and `\u{HEX}` any character.

use locktopus_client::{Mode, Resource};

const ESCAPES: &str = r"a backslash stands before /, \, e or u{HEX} only; write \\ for a backslash";

/// Reads a path. The empty text is the root.
///
/// # Errors
/// An empty segment is more likely a slip than meant, so it has to be written `\e`.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = vec![];
    let mut segment: Option<String> = None;
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => {
                let segment = segment.get_or_insert_default();
                match chars.next() {
                    Some(escaped @ ('/' | '\\')) => segment.push(escaped),
                    Some('e') => {}
                    Some('u') => {
                        let rest = chars.as_str();
                        let (char, rest) = read_hex(rest).ok_or(ESCAPES)?;
                        segment.push(char);
                        chars = rest.chars();
                    }
                    _ => return Err(ESCAPES.to_owned()),
                }
            }
            end @ (Some('/') | None) => {
                segments.push(segment.take().ok_or(
                    r"empty segment; a path is written a/b/c, '' is the root and \e an empty segment",
                )?);
                if end.is_none() {
                    return Ok(segments);
                }
            }
            Some(other) => segment.get_or_insert_default().push(other),
        }
    }
}

/// Reads `{HEX}`; the character, and what follows.
fn read_hex(text: &str) -> Option<(char, &str)> {
    let (hex, rest) = text.strip_prefix('{')?.split_once('}')?;
    // `from_str_radix` alone would take a sign, too.
    let digits = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = u32::from_str_radix(hex, 16).ok().filter(|_| digits)?;
    Some((char::from_u32(code)?, rest))
}

/// Writes a path so that it reads back. The root is the empty text.
pub(crate) fn write(path: &[String]) -> String {
    let mut text = String::new();
    for (place, segment) in path.iter().enumerate() {
        if place > 0 {
            text.push('/');
        }
        if segment.is_empty() {
            text += r"\e";
        }
        for char in segment.chars() {
            match char {
                '/' | '\\' => text.extend(['\\', char]),
                // Nobody's path shall move the cursor of who looks at it.
                char if char.is_control() => text.extend(char.escape_unicode()),
                char => text.push(char),
            }
        }
    }
    text
}

/// As [`write()`], but the root can be seen.
pub(crate) fn show(path: &[String]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    write(path)
}

/// `w a/b` or `r a/b`.
pub(crate) fn show_resource(resource: &Resource) -> String {
    let mode = match resource.mode {
        Mode::Read => 'r',
        Mode::Write => 'w',
    };
    format!("{mode} {}", show(&resource.path))
}

/// All of a set.
pub(crate) fn show_set(resources: &[Resource]) -> String {
    let shown: Vec<String> = resources.iter().map(show_resource).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slashes_separate_unless_escaped() {
        for (text, path) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a/b/c", &["a", "b", "c"]),
            (r"a\/b/c", &["a/b", "c"]),
            (r"a\\/b", &[r"a\", "b"]),
            (" é / \n", &[" é ", " \n"]),
            (r"\e/a\e/\u{1b}", &["", "a", "\u{1b}"]),
        ] {
            assert_eq!(parse(text).expect(text), path);
        }
        assert_eq!(show(&[]), "''");
    }

    #[test]
    fn slips_are_refused() {
        for text in [
            "/",
            "/a",
            "a/",
            "a//b",
            r"a\",
            r"\n",
            r"\u",
            r"\u{}",
            r"\u{+1}",
            r"\u{d800}",
            r"\u{1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(path in prop::collection::vec(any::<String>(), 0..5)) {
            prop_assert_eq!(parse(&write(&path)), Ok(path));
        }
    }
}
