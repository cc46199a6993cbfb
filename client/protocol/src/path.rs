//! The text notation of paths: `a/b/c`.
//!
//! | text | meaning |
//! |---|---|
//! | the empty text | the root: the path without segments |
//! | `/` | separates segments |
//! | `\/` | a slash in a segment |
//! | `\\` | a backslash in a segment |
//! | `\e` | no character: a segment written `\e` is empty |
//! | `\u{HEX}` | the character with this hexadecimal code point |
//!
//! All programs of Locktopus read and print paths in this notation. It is strict: an empty segment must be written
//! `\e`, so `a//b`, `/a` and `a/` are errors. [`write()`] prints control characters and all other
//! [hidden](crate::text::is_hidden) characters as `\u{HEX}`; [`parse`] accepts them in both forms.
//!
//! # Examples
//! ```
//! use locktopus_protocol::path;
//!
//! assert_eq!(path::parse(r"a\/b/\e")?, ["a/b", ""]);
//! assert_eq!(path::write(["a/b", "", "\n"]), r"a\/b/\e/\u{a}");
//!
//! let error = path::parse("a//b").unwrap_err();
//! assert_eq!(error.position(), 2);
//! # Ok::<(), path::ParsePathError>(())
//! ```

use crate::text::push_visible;
use std::fmt;

/// Reads a path.
///
/// # Errors
/// [`ParsePathError`] for an empty segment that is not written `\e`, and for a `\` that is not followed by `/`, `\`,
/// `e` or `u{HEX}`.
pub fn parse(text: &str) -> Result<Vec<String>, ParsePathError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = vec![];
    // `None` until a part of the segment is read; `\e` makes the segment empty.
    let mut segment: Option<String> = None;
    let mut rest = text;
    loop {
        let at = text.len() - rest.len();
        let mut chars = rest.chars();
        let next = chars.next();
        rest = chars.as_str();
        match next {
            Some('/') | None => {
                let problem = Problem::EmptySegment;
                segments.push(segment.take().ok_or(ParsePathError { at, problem })?);
                if next.is_none() {
                    return Ok(segments);
                }
            }
            Some('\\') => {
                let problem = Problem::UnknownEscape;
                let (char, after) = unescape(rest).ok_or(ParsePathError { at, problem })?;
                segment.get_or_insert_default().extend(char);
                rest = after;
            }
            Some(char) => segment.get_or_insert_default().push(char),
        }
    }
}

/// Reads the text after a backslash. Returns the escaped character, which is `None` for `\e`, and the rest of the text.
fn unescape(text: &str) -> Option<(Option<char>, &str)> {
    let mut chars = text.chars();
    match chars.next()? {
        char @ ('/' | '\\') => Some((Some(char), chars.as_str())),
        'e' => Some((None, chars.as_str())),
        'u' => {
            let (hex, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            // `from_str_radix` alone would accept a sign.
            let digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = u32::from_str_radix(hex, 16).ok().filter(|_| digits)?;
            Some((Some(char::from_u32(code)?), rest))
        }
        _ => None,
    }
}

/// Writes a path so that [`parse`] reads it back. The text has no
/// [hidden](crate::text::is_hidden) characters. The root is the empty text.
pub fn write(path: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for (index, segment) in path.into_iter().enumerate() {
        if index > 0 {
            text.push('/');
        }
        let segment = segment.as_ref();
        if segment.is_empty() {
            text += r"\e";
        }
        for char in segment.chars() {
            match char {
                '/' | '\\' => text.extend(['\\', char]),
                char => push_visible(&mut text, [char].into_iter()),
            }
        }
    }
    text
}

/// Why a text is not a path, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePathError {
    at: usize,
    problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    EmptySegment,
    UnknownEscape,
}

impl ParsePathError {
    /// The place of the mistake, as a byte index into the text. It can be the length of the text.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }
}

impl fmt::Display for ParsePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.problem {
            Problem::EmptySegment => write!(
                f,
                r"empty segment at byte {at} of the path; an empty segment is written \e, and a path a/b/c"
            ),
            Problem::UnknownEscape => write!(
                f,
                r"unknown escape at byte {at} of the path; allowed are \/ \\ \e and \u{{HEX}}"
            ),
        }
    }
}

impl std::error::Error for ParsePathError {}

#[cfg(test)]
mod tests {
    //! Properties, for arbitrary segments and texts:
    //! 1. a written path reads back;
    //! 2. a written path has no hidden characters;
    //! 3. any text is a path, which then reads back, or an error that names its position;
    //! 4. a wrong escape is located at its backslash.

    use super::*;
    use crate::text::is_hidden;
    use proptest::prelude::*;

    /// A few segments, most of them with characters that the notation escapes.
    fn segments() -> impl Strategy<Value = Vec<String>> {
        let tricky = prop::sample::select(vec![
            "",
            "a",
            "ab",
            "/",
            "\\",
            "\0",
            "\u{1}",
            "\u{7f}",
            "\u{85}",
            "\0\u{1}",
            "é",
            "\u{10ffff}",
            "a/b",
            "\\e",
            "\\u{41}",
            "e",
            "\n",
            "\u{202e}",
            "a\u{200b}",
        ]);
        let segment =
            prop_oneof![4 => tricky.prop_map(String::from), 1 => ".{0,12}", 1 => any::<String>()];
        prop::collection::vec(segment, 0..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

        #[test]
        fn a_written_path_reads_back_and_has_no_hidden_characters(segments in segments()) {
            let text = write(&segments);
            prop_assert!(!text.chars().any(is_hidden), "{text:?}");
            prop_assert_eq!(parse(&text), Ok(segments));
        }

        #[test]
        fn any_text_is_a_path_or_an_error_with_its_position(text in r"([a/\\eu{}1]|.){0,20}") {
            match parse(&text) {
                Ok(path) => prop_assert_eq!(parse(&write(&path)), Ok(path)),
                Err(error) => {
                    let at = error.position();
                    prop_assert!(text.is_char_boundary(at));
                    prop_assert!(error.to_string().contains(&format!("at byte {at} ")), "{error}");
                }
            }
        }
    }

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
            (r"\u{0041}\u{10FFFF}", &["A\u{10ffff}"]),
        ] {
            assert_eq!(parse(text).expect(text), path);
        }
    }

    #[test]
    fn paths_are_written_in_the_shortest_form() {
        assert_eq!(write([""; 0]), "");
        assert_eq!(write(["user", "it", "42"]), "user/it/42");
        assert_eq!(write(["a/b", r"c\d"]), r"a\/b/c\\d");
        assert_eq!(write([""]), r"\e");
        assert_eq!(write(["", ""]), r"\e/\e");
        assert_eq!(write(["a\nb"]), r"a\u{a}b");
        assert_eq!(write(["a\u{202e}b", "\u{e0041}"]), r"a\u{202e}b/\u{e0041}");
    }

    #[test]
    fn a_wrong_escape_is_located_at_its_backslash() {
        for text in [
            r"a\",
            r"a\x",
            r"\n",
            r"\u",
            r"\u{}",
            r"\u{d800}",
            r"\u{110000}",
            r"é/a\u41",
            r"b\u{41",
            r"\u{+41}",
            r"\u{-1}",
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(Some(error.position()), text.find('\\'), "{text}");
            assert!(error.to_string().contains("unknown escape"), "{error}");
        }
    }

    #[test]
    fn an_empty_segment_is_located_at_its_end() {
        for (text, at) in [
            ("/", 0),
            ("/a", 0),
            ("a/", 2),
            ("a//b", 2),
            ("é//b", 3),
            ("a/\\e//", 5),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.position(), at, "{text}");
            assert!(error.to_string().contains("empty segment"), "{error}");
        }
    }
}
