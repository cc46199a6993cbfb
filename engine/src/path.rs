//! Paths: places in the tree of resources.
//!
//! # Encoding
//! A path is kept as bytes in which each segment ends with `00`. Inside a segment, `00` is written
//! `01 01` and `01` is written `01 02`; every other byte stands for itself. Hence
//!
//! - P1. a path's bytes are a prefix of another's exactly when it is that path or an ancestor of it;
//! - P2. comparing bytes compares paths segment by segment, a parent before its children, because
//!   the terminator is smaller than any byte of a segment;
//! - P3. the bytes can be read back without loss.
//!
//! P1 and P2 make the subtree of a path one contiguous range of the ordered lock table.
//!
//! # Representation
//! - P4. a path of at most 29 bytes is inline, also if it was cut from a longer one; a longer path is shared;
//! - P5. the bytes of an inline path are zero beyond its end.
//!
//! So a path has one representation, and two inline paths compare as four big-endian words and then by length: the
//! words tell them apart at the first byte that differs, and if one path ends before that byte, its zero is not
//! larger than the byte of the other. The number of bytes with which they begin alike follows from the same words.
//!
//! Source: order-preserving tuple encodings such as FoundationDB's; differs in escaping two low
//! bytes instead of one, so that no escape is ever followed by a terminator.

mod encoding;
#[cfg(feature = "serde")]
mod serde;
#[cfg(test)]
mod tests;

use encoding::{Encoder, decode};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const TERMINATOR: u8 = 0x00;
const ESCAPE: u8 = 0x01;

/// Encoded bytes up to this many are stored inside the `Path`; longer ones are shared on the heap.
const INLINE: usize = 29;

/// Where the words of an inline path begin. The last two overlap, so that they end with the bytes.
const WORDS: [usize; 4] = [0, 8, 16, INLINE - 8];

/// The big-endian word that begins at this byte. Words compare as their bytes do.
#[inline]
fn word(bytes: &[u8; INLINE], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A place in the tree of resources: a list of string segments, from the root down.
///
/// Locking a path locks its whole subtree. The empty path is the root, and its subtree is everything.
/// Segments are arbitrary UTF-8: they may be empty and may contain any character, also `/` and NUL.
///
/// A `Path` is 32 bytes. Up to 29 encoded bytes (the text, and one more byte for each segment) are stored
/// in place, and cloning copies them. Longer paths are shared, and cloning increments a counter.
///
/// # Examples
/// ```
/// use locktopus_engine::Path;
///
/// let path = Path::from(["user", "it", "42"]);
/// assert_eq!(format!("{path:?}"), r#"["user", "it", "42"]"#);
/// assert_eq!(Path::from("user/it/42".split('/')), path);
/// assert!(Path::from(["user"]).contains(&path));
/// assert!(Path::root().contains(&path));
/// ```
pub struct Path(Repr);

impl Clone for Path {
    #[inline]
    fn clone(&self) -> Path {
        match &self.0 {
            // One copy of the whole, instead of one for each field.
            Repr::Inline { len, depth, bytes } => Path(Repr::Inline {
                len: *len,
                depth: *depth,
                bytes: *bytes,
            }),
            Repr::Shared { bytes, len, depth } => Path(Repr::Shared {
                bytes: Arc::clone(bytes),
                len: *len,
                depth: *depth,
            }),
        }
    }
}

#[derive(Clone)]
enum Repr {
    Inline {
        len: u8,
        depth: u8,
        bytes: [u8; INLINE],
    },
    /// The first `len` bytes are the path, so that a long ancestor shares its descendant's allocation.
    Shared {
        bytes: Arc<[u8]>,
        len: usize,
        depth: u32,
    },
}

impl Path {
    /// The root: the whole space of paths.
    #[must_use]
    pub const fn root() -> Path {
        Path(Repr::Inline {
            len: 0,
            depth: 0,
            bytes: [0; INLINE],
        })
    }

    /// The number of segments; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        match &self.0 {
            Repr::Inline { depth, .. } => usize::from(*depth),
            Repr::Shared { depth, .. } => *depth as usize,
        }
    }

    /// Whether the bytes are stored in place.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self.0, Repr::Inline { .. })
    }

    /// Whether the path is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether `other` is this path or lies below it, so that a lock of this path covers `other`.
    #[must_use]
    #[inline]
    pub fn contains(&self, other: &Path) -> bool {
        match self.alike_inline(other) {
            Some(alike) => alike == self.len(),
            None => other.as_bytes().starts_with(self.as_bytes()),
        }
    }

    /// The segments, from the root down.
    ///
    /// A segment is borrowed unless it contains U+0000 or U+0001.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.as_bytes()
            .split_inclusive(|byte| *byte == TERMINATOR)
            .map(|segment| decode(&segment[..segment.len() - 1]))
    }

    /// The encoded bytes; see the head of this module.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes, .. } => &bytes[..usize::from(*len)],
            Repr::Shared { bytes, len, .. } => &bytes[..*len],
        }
    }

    /// The number of encoded bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline { len, .. } => usize::from(*len),
            Repr::Shared { len, .. } => *len,
        }
    }

    /// The number of bytes with which two inline paths begin alike.
    #[inline]
    fn alike_inline(&self, other: &Path) -> Option<usize> {
        let (
            Repr::Inline { bytes, len, .. },
            Repr::Inline {
                bytes: others,
                len: other_len,
                ..
            },
        ) = (&self.0, &other.0)
        else {
            return None;
        };
        let shorter = usize::from(*len.min(other_len));
        for at in WORDS {
            let differ = word(bytes, at) ^ word(others, at);
            if differ != 0 {
                // They may differ behind the end of the shorter one.
                return Some(shorter.min(at + differ.leading_zeros() as usize / 8));
            }
        }
        Some(shorter)
    }

    /// The path with these encoded bytes; `None` if they are not the encoding of a path.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Path> {
        let segments = bytes.split_inclusive(|byte| *byte == TERMINATOR);
        // Decoding tolerates errors. Each path has one encoding, so the comparison shows them.
        let path: Path = segments
            .map(|segment| decode(&segment[..segment.len() - 1]))
            .collect();
        (path.as_bytes() == bytes).then_some(path)
    }

    /// The prefix of the first `depth` segments, from a shorter prefix on.
    pub(crate) fn grow(&self, prefix: Prefix, depth: usize) -> Prefix {
        if depth == self.depth() {
            let len = self.len();
            return Prefix { depth, len };
        }
        (prefix.depth..depth).fold(prefix, |prefix, _| {
            self.next_prefix(prefix).unwrap_or(prefix)
        })
    }

    /// The prefix that is longer by one segment.
    fn next_prefix(&self, prefix: Prefix) -> Option<Prefix> {
        let mut rest = self.as_bytes()[prefix.len..].iter();
        let segment = rest.position(|byte| *byte == TERMINATOR)?;
        Some(Prefix {
            depth: prefix.depth + 1,
            len: prefix.len + segment + 1,
        })
    }

    /// The longest prefix that `other` begins with, too, if it begins with `prefix`.
    pub(crate) fn shared(&self, mut prefix: Prefix, other: &Path) -> Prefix {
        let alike = self.alike_inline(other).unwrap_or_else(|| {
            let (own, others) = (
                &self.as_bytes()[prefix.len..],
                &other.as_bytes()[prefix.len..],
            );
            prefix.len
                + own
                    .iter()
                    .zip(others)
                    .take_while(|(own, other)| own == other)
                    .count()
        });
        while let Some(next) = self.next_prefix(prefix)
            && next.len <= alike
        {
            prefix = next;
        }
        prefix
    }

    /// Whether `other` begins with the prefix.
    #[inline]
    pub(crate) fn begins(&self, prefix: Prefix, other: &Path) -> bool {
        match self.alike_inline(other) {
            Some(alike) => alike >= prefix.len,
            None => other.as_bytes().starts_with(&self.as_bytes()[..prefix.len]),
        }
    }

    /// Whether `other` is the prefix.
    #[inline]
    pub(crate) fn is_at(&self, prefix: Prefix, other: &Path) -> bool {
        prefix.len == other.len() && self.begins(prefix, other)
    }

    /// Becomes a prefix of a path.
    pub(crate) fn cut(&mut self, path: &Path, prefix: Prefix) {
        if matches!(path.0, Repr::Inline { len, .. } if usize::from(len) == prefix.len) {
            // One copy of the whole, and no bytes to count.
            *self = path.clone();
            return;
        }
        // The casts fit: a prefix is no deeper than the path, and each segment has a byte.
        if prefix.len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..prefix.len].copy_from_slice(&path.as_bytes()[..prefix.len]);
            let (len, depth) = (prefix.len as u8, prefix.depth as u8);
            self.0 = Repr::Inline { len, depth, bytes };
            return;
        }
        let Repr::Shared { bytes: shared, .. } = &path.0 else {
            unreachable!("an inline path has no longer prefix");
        };
        match &mut self.0 {
            Repr::Shared { bytes, len, depth } if Arc::ptr_eq(bytes, shared) => {
                (*len, *depth) = (prefix.len, prefix.depth as u32);
            }
            own => {
                *own = Repr::Shared {
                    bytes: Arc::clone(shared),
                    len: prefix.len,
                    depth: prefix.depth as u32,
                };
            }
        }
    }
}

/// A prefix of a path: an ancestor, or the path itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The number of its segments.
    pub(crate) depth: usize,
    /// The number of its encoded bytes.
    pub(crate) len: usize,
}

impl Prefix {
    pub(crate) const ROOT: Prefix = Prefix { depth: 0, len: 0 };
}

impl<S: AsRef<str>> FromIterator<S> for Path {
    fn from_iter<I: IntoIterator<Item = S>>(segments: I) -> Path {
        let mut encoder = Encoder::default();
        for segment in segments {
            encoder.push_segment(segment.as_ref());
        }
        encoder.finish()
    }
}

/// From anything that iterates over string segments: an array, a slice, a `Vec`, a `split`.
impl<I> From<I> for Path
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    fn from(segments: I) -> Path {
        segments.into_iter().collect()
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::root()
    }
}

impl PartialEq for Path {
    #[inline]
    fn eq(&self, other: &Path) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Path {}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Path) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Segment by segment, by the bytes of their UTF-8; a parent before its children.
impl Ord for Path {
    #[inline]
    fn cmp(&self, other: &Path) -> Ordering {
        let (
            Repr::Inline { bytes, len, .. },
            Repr::Inline {
                bytes: others,
                len: other_len,
                ..
            },
        ) = (&self.0, &other.0)
        else {
            return self.as_bytes().cmp(other.as_bytes());
        };
        for at in WORDS {
            let (own, other) = (word(bytes, at), word(others, at));
            if own != other {
                return own.cmp(&other);
            }
        }
        len.cmp(other_len)
    }
}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments()).finish()
    }
}
