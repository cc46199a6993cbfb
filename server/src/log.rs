//! The output of the log, in which names cannot change how a line looks.

use locktopus_server::LogFormat;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Escapes invisible characters of names, such as those that reverse the direction of text. The formats of the log
/// escape control characters themselves.
///
/// In JSON the escape is that of JSON, so a program reads the same name.
pub(crate) struct Visible<W> {
    output: W,
    format: LogFormat,
}

impl<W: Write> Visible<W> {
    pub(crate) fn new(output: W, format: LogFormat) -> Visible<W> {
        Visible { output, format }
    }
}

impl<W: Write> Write for Visible<W> {
    /// Takes whole lines only, as the log writes them: a part of a line may end inside a character.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let mut shown = String::with_capacity(text.len());
        for char in text.chars() {
            if char.is_ascii() || !locktopus_protocol::text::is_hidden(char) {
                shown.push(char);
            } else if self.format == LogFormat::Json {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            } else {
                shown.extend(char.escape_unicode());
            }
        }
        self.output.write_all(shown.as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
