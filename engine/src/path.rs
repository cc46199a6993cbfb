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
//! Source: order-preserving tuple encodings such as FoundationDB's; differs in escaping two low
//! bytes instead of one, so that no escape is ever followed by a terminator.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const TERMINATOR: u8 = 0x00;
const ESCAPE: u8 = 0x01;

/// Encoded bytes up to this many are stored inside the `Path`; longer ones are shared on the heap.
const INLINE: usize = 29;

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
    /// The first `len` bytes are the path, so that an ancestor shares its descendant's allocation.
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

    /// Whether the path is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether `other` is this path or lies below it, so that a lock of this path covers `other`.
    #[must_use]
    pub fn contains(&self, other: &Path) -> bool {
        other.as_bytes().starts_with(self.as_bytes())
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
            let len = self.as_bytes().len();
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
        let (own, others) = (self.as_bytes(), other.as_bytes());
        while let Some(next) = self.next_prefix(prefix) {
            let segment = prefix.len..next.len;
            if others.get(segment.clone()) != Some(&own[segment]) {
                break;
            }
            prefix = next;
        }
        prefix
    }

    /// Whether `other` begins with the prefix.
    pub(crate) fn begins(&self, prefix: Prefix, other: &Path) -> bool {
        other.as_bytes().starts_with(&self.as_bytes()[..prefix.len])
    }

    /// Whether the path sorts behind `other`, which begins with the prefix.
    pub(crate) fn is_behind(&self, prefix: Prefix, other: &Path) -> bool {
        self.as_bytes()[prefix.len..] > other.as_bytes()[prefix.len..]
    }

    /// Whether `other` is the prefix.
    pub(crate) fn is_at(&self, prefix: Prefix, other: &Path) -> bool {
        *other.as_bytes() == self.as_bytes()[..prefix.len]
    }

    /// Becomes a prefix of the path that it was made from. It shares the bytes of that path and can become a
    /// longer prefix later.
    pub(crate) fn cut(&mut self, prefix: Prefix) {
        match &mut self.0 {
            // Both casts fit: a prefix is no longer and no deeper than the path.
            Repr::Inline { len, depth, .. } => {
                (*len, *depth) = (prefix.len as u8, prefix.depth as u8);
            }
            Repr::Shared { len, depth, .. } => {
                (*len, *depth) = (prefix.len, prefix.depth as u32);
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

fn decode(segment: &[u8]) -> Cow<'_, str> {
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
struct Encoder {
    inline: [u8; INLINE],
    len: usize,
    spilled: Vec<u8>,
    depth: u32,
}

impl Encoder {
    fn push(&mut self, bytes: &[u8]) {
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

    fn push_segment(&mut self, segment: &str) {
        let bytes = segment.as_bytes();
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

    fn finish(self) -> Path {
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

impl<S: AsRef<str>> FromIterator<S> for Path {
    fn from_iter<I: IntoIterator<Item = S>>(segments: I) -> Path {
        let mut encoder = Encoder {
            inline: [0; INLINE],
            len: 0,
            spilled: Vec::new(),
            depth: 0,
        };
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
    fn eq(&self, other: &Path) -> bool {
        self.as_bytes() == other.as_bytes()
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
    fn cmp(&self, other: &Path) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
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

#[cfg(feature = "serde")]
mod serde_impls {
    use super::Path;
    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::borrow::Cow;
    use std::fmt;

    /// As an array of strings.
    impl Serialize for Path {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.segments())
        }
    }

    /// From an array of strings.
    impl<'de> Deserialize<'de> for Path {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
            struct Segments;

            impl<'de> Visitor<'de> for Segments {
                type Value = Path;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an array of strings")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Path, A::Error> {
                    std::iter::from_fn(|| seq.next_element::<Cow<'de, str>>().transpose()).collect()
                }
            }

            deserializer.deserialize_seq(Segments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_32_bytes() {
        assert_eq!(size_of::<Path>(), 32);
    }

    #[test]
    fn prefixes_of_inline_and_shared_paths_are_the_ancestors() {
        for middle in ["b", "a-segment-that-spills-out-of-the-place-inside"] {
            let segments = ["a", middle, "c"];
            let path = Path::from(segments);
            let mut cut = path.clone();
            let mut prefix = Prefix::ROOT;
            for depth in [0, 1, 1, 2, 3] {
                let ancestor = Path::from(&segments[..depth]);
                prefix = path.grow(prefix, depth);
                cut.cut(prefix);
                assert_eq!((&cut, cut.depth()), (&ancestor, depth));
                assert_eq!(path.grow(Prefix::ROOT, depth), prefix);
                assert!(path.is_at(prefix, &ancestor) && path.begins(prefix, &ancestor));
                assert_eq!(path.shared(Prefix::ROOT, &ancestor), prefix);
                let sibling: Path = ancestor.segments().chain(["x".into()]).collect();
                assert!(!path.is_at(prefix, &sibling) && path.begins(prefix, &sibling));
                assert_eq!(path.shared(prefix, &sibling), prefix);
            }
        }
    }

    #[test]
    fn a_path_of_exactly_the_inline_size_and_one_more_read_back() {
        for bytes in [INLINE - 1, INLINE] {
            let text = "x".repeat(bytes);
            assert_eq!(
                Path::from([&text]).segments().next(),
                Some(text.as_str().into())
            );
        }
    }
}
