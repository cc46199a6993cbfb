//! Writing and reading the encoding that the head of the module `path` describes.

use super::{ESCAPE, INLINE, Path, Repr, TERMINATOR};
use std::borrow::Cow;

pub(super) fn decode(segment: &[u8]) -> Cow<'_, str> {
    if !segment.contains(&ESCAPE) {
        // Never lossy: the bytes came from a `str`, and were cut only at terminators.
        return String::from_utf8_lossy(segment);
    }
    let mut text = Vec::with_capacity(segment.len());
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        text.push(match *byte {
            ESCAPE => bytes.next().map_or(0, |escaped| escaped - 1),
            plain => plain,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

/// Collects encoded bytes, in place while they fit.
#[derive(Default)]
pub(super) struct Encoder {
    inline: [u8; INLINE],
    len: usize,
    spilled: Vec<u8>,
    pub(super) depth: u32,
}

impl Encoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.spilled.is_empty() && end <= INLINE {
            self.inline[self.len..end].copy_from_slice(bytes);
        } else {
            if self.spilled.is_empty() {
                self.spilled.reserve(end.max(2 * INLINE));
                self.spilled.extend_from_slice(&self.inline[..self.len]);
            }
            self.spilled.extend_from_slice(bytes);
        }
        self.len = end;
    }

    pub(super) fn push_segment(&mut self, segment: &str) {
        let bytes = segment.as_bytes();
        let end = self.len + bytes.len();
        if end < INLINE {
            // A loop over a few bytes is cheaper than a call to compare and one to copy them.
            let mut is_plain = true;
            for (to, byte) in self.inline[self.len..end].iter_mut().zip(bytes) {
                *to = *byte;
                is_plain &= *byte > ESCAPE;
            }
            if is_plain {
                self.inline[end] = TERMINATOR;
                self.len = end + 1;
                self.depth += 1;
                return;
            }
            // The escaped segment is longer, so it replaces all these bytes.
        }
        if bytes.iter().all(|byte| *byte > ESCAPE) {
            self.push(bytes);
        } else {
            for byte in bytes {
                match *byte {
                    low @ (TERMINATOR | ESCAPE) => self.push(&[ESCAPE, low + 1]),
                    plain => self.push(&[plain]),
                }
            }
        }
        self.push(&[TERMINATOR]);
        self.depth = self.depth.saturating_add(1);
    }

    pub(super) fn finish(self) -> Path {
        Path(if self.len <= INLINE {
            Repr::Inline {
                len: self.len as u8,
                depth: self.depth as u8,
                bytes: self.inline,
            }
        } else {
            Repr::Shared {
                len: self.len,
                bytes: self.spilled.into(),
                depth: self.depth,
            }
        })
    }
}
