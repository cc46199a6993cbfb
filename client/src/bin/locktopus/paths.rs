//! How a path is written: `a/b/c`, with `\/` for a slash in a segment and `\\` for a backslash.

use locktopus_client::{Mode, Resource};

/// Reads a path. The empty text is the root.
///
/// # Errors
/// An empty segment is more likely a slip than meant, and so is a backslash before anything else.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = vec![];
    let mut segment = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(escaped @ ('/' | '\\')) => segment.push(escaped),
                _ => {
                    return Err(
                        r"a backslash stands before / or \ only; write \\ for a backslash"
                            .to_owned(),
                    );
                }
            },
            end @ (Some('/') | None) => {
                if segment.is_empty() {
                    return Err(
                        "empty segment; a path is written a/b/c, and '' is the root".to_owned()
                    );
                }
                segments.push(std::mem::take(&mut segment));
                if end.is_none() {
                    return Ok(segments);
                }
            }
            Some(other) => segment.push(other),
        }
    }
}

/// Writes a path so that it can be shown, and read back if no segment is empty or has control
/// characters.
pub(crate) fn show(path: &[String]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    let mut text = String::new();
    for (place, segment) in path.iter().enumerate() {
        if place > 0 {
            text.push('/');
        }
        for char in segment.chars() {
            match char {
                '/' | '\\' => text.extend(['\\', char]),
                // Nobody's path shall move the cursor of who looks at it.
                char if char.is_control() => text.extend(char.escape_default()),
                char => text.push(char),
            }
        }
    }
    text
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
        ] {
            assert_eq!(parse(text).expect(text), path);
        }
        assert_eq!(show(&[]), "''");
    }

    #[test]
    fn slips_are_refused() {
        for text in ["/", "/a", "a/", "a//b", r"a\", r"\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(path in prop::collection::vec("[^\\p{Cc}]{1,8}", 1..5)) {
            prop_assert_eq!(parse(&show(&path)), Ok(path));
        }
    }
}
