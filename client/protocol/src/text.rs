//! Texts that another party has chosen, such as the names of clients, in a form that can be shown.
//!
//! A control character can move the cursor of a terminal. A character for bidirectional text can reverse the order in
//! which the text around it is shown: `"a\u{202e}b/c"` looks like `ac/b`. Two texts that differ only in an
//! invisible character look the same. So all programs of Locktopus show such a character as `\u{HEX}`.

/// Whether a character is hidden: it has no shape of its own, and can change how other characters are shown.
///
/// These are the control characters, the separators of lines and paragraphs, the characters for bidirectional text,
/// and all other characters that Unicode ignores where it cannot show them (`Default_Ignorable_Code_Point` and
/// `Bidi_Control` of Unicode 17). Spaces are not hidden.
#[must_use]
pub fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A text with each hidden character as `\u{HEX}`.
///
/// # Examples
/// ```
/// use locktopus_protocol::text;
///
/// assert_eq!(text::visible("nightly\u{202e}\n"), r"nightly\u{202e}\u{a}");
/// ```
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_visible(&mut shown, text.chars());
    shown
}

/// Appends characters, the hidden ones as `\u{HEX}`.
pub(crate) fn push_visible(shown: &mut String, chars: impl Iterator<Item = char>) {
    for char in chars {
        if is_hidden(char) {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_reorder_a_line_are_hidden() {
        let bidirectional = ['\u{61c}', '\u{200e}', '\u{200f}']
            .into_iter()
            .chain('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for char in bidirectional.chain(['\u{2028}', '\u{2029}', '\u{1b}', '\u{9b}', '\0']) {
            assert!(is_hidden(char), "{char:?}");
            let hex = format!("a\\u{{{:x}}}b", u32::from(char));
            assert_eq!(visible(&format!("a{char}b")), hex);
        }
    }

    #[test]
    fn letters_marks_spaces_and_symbols_are_not_hidden() {
        let text = " aé\u{301}\u{a0}\u{3000}א؀ب漢🐙\u{10ffff}\\";
        assert_eq!(visible(text), text);
    }

    /// Rust's `Debug` escapes what it considers unprintable. It leaves only three kinds of hidden characters as they
    /// are: those that extend another character, and the fillers for Korean and Khmer letters, which count as letters.
    #[test]
    fn hidden_characters_are_unprintable_for_rust_as_well() {
        for char in (char::MIN..=char::MAX).filter(|char| is_hidden(*char)) {
            let filler = matches!(char, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}');
            assert!(filler || char.escape_debug().len() > 1, "{char:?}");
        }
    }
}
