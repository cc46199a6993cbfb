//! Paths as text: `user/it/42`.

use crate::path::Path;
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Prints the segments joined by `/`, in the notation that [`Path::from_str`] reads.
///
/// In a segment, `/` is printed `\/`, `\` is printed `\\` and a control character `\u{…}`. The root
/// prints as nothing; the path of one empty segment, which would look the same, as `\e`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.depth() == 1 && self.segments().all(|only| only.is_empty()) {
            return f.write_str("\\e");
        }
        for (i, segment) in self.segments().enumerate() {
            if i > 0 {
                f.write_char('/')?;
            }
            for c in segment.chars() {
                match c {
                    '/' | '\\' => write!(f, "\\{c}")?,
                    c if c.is_control() => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
        }
        Ok(())
    }
}

/// Reads what [`Display`](fmt::Display) prints: segments separated by `/`, nothing for the root.
///
/// # Errors
/// [`ParsePathError`] if a `\` is not followed by `/`, `\`, `e` or `u{HEX}`.
impl FromStr for Path {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Path, ParsePathError> {
        if text.is_empty() {
            return Ok(Path::root());
        }
        let mut segments = vec![String::new()];
        let mut segment = 0;
        let mut rest = text.char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                '/' => {
                    segments.push(String::new());
                    segment += 1;
                }
                '\\' => {
                    let (read, escaped) = unescape(&text[at + 1..]).ok_or(ParsePathError { at })?;
                    segments[segment].extend(escaped);
                    rest.nth(read - 1);
                }
                c => segments[segment].push(c),
            }
        }
        Ok(segments.into_iter().collect())
    }
}

/// What follows a backslash: how many characters it takes, and what they stand for.
fn unescape(text: &str) -> Option<(usize, Option<char>)> {
    match text.chars().next()? {
        c @ ('/' | '\\') => Some((1, Some(c))),
        'e' => Some((1, None)),
        'u' => {
            let (hex, _) = text[1..].strip_prefix('{')?.split_once('}')?;
            // `from_str_radix` alone would take a sign, too.
            let digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = u32::from_str_radix(hex, 16).ok().filter(|_| digits)?;
            let c = char::from_u32(code)?;
            Some((hex.len() + 3, Some(c)))
        }
        _ => None,
    }
}

/// The text is not a path: a backslash introduces nothing that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePathError {
    at: usize,
}

impl fmt::Display for ParsePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown escape at byte {} of the path; allowed are \\/ \\\\ \\e and \\u{{HEX}}",
            self.at
        )
    }
}

impl std::error::Error for ParsePathError {}
