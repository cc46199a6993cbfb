//! The floor: a raw skiplist, with the key that the engine had in version 0.2.0.
//!
//! The key is kept as it was, so that the floor does not move when the engine compares its paths in another way.

use crossbeam_skiplist::SkipMap;
use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::Arc;

const INLINE: usize = 29;

/// A path as in version 0.2.0: its bytes, each segment with a zero byte at its end.
pub(crate) enum OldPath {
    Inline {
        len: u8,
        depth: u8,
        bytes: [u8; INLINE],
    },
    Shared {
        bytes: Arc<[u8]>,
        len: usize,
        depth: u32,
    },
}

impl OldPath {
    /// Without escapes: no segment of a bench has a byte below 2.
    pub(crate) fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> OldPath {
        let (mut text, mut depth) = (Vec::new(), 0);
        for segment in segments {
            text.extend_from_slice(segment.as_ref().as_bytes());
            text.push(0);
            depth += 1;
        }
        let len = text.len();
        let mut bytes = [0; INLINE];
        if len > INLINE {
            let bytes = text.into();
            return OldPath::Shared { bytes, len, depth };
        }
        bytes[..len].copy_from_slice(&text);
        OldPath::Inline {
            len: len as u8,
            depth: depth as u8,
            bytes,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            OldPath::Inline { len, bytes, .. } => &bytes[..usize::from(*len)],
            OldPath::Shared { bytes, len, .. } => &bytes[..*len],
        }
    }
}

impl Clone for OldPath {
    #[inline]
    fn clone(&self) -> OldPath {
        match self {
            OldPath::Inline { len, depth, bytes } => OldPath::Inline {
                len: *len,
                depth: *depth,
                bytes: *bytes,
            },
            OldPath::Shared { bytes, len, depth } => OldPath::Shared {
                bytes: Arc::clone(bytes),
                len: *len,
                depth: *depth,
            },
        }
    }
}

/// Orders by path, then the youngest first.
#[derive(Clone)]
struct OldKey {
    path: OldPath,
    birth: u64,
    identity: usize,
}

impl Ord for OldKey {
    fn cmp(&self, other: &OldKey) -> Ordering {
        self.path
            .as_bytes()
            .cmp(other.path.as_bytes())
            .then_with(|| other.birth.cmp(&self.birth))
            .then_with(|| self.identity.cmp(&other.identity))
    }
}

impl PartialOrd for OldKey {
    fn partial_cmp(&self, other: &OldKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OldKey {
    fn eq(&self, other: &OldKey) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for OldKey {}

/// A raw skiplist.
pub(crate) struct Floor(SkipMap<OldKey, u64>);

impl Floor {
    pub(crate) fn with(paths: impl IntoIterator<Item = OldPath>) -> Floor {
        let map = SkipMap::new();
        for (path, birth) in paths.into_iter().zip(0..) {
            let identity = 1 + birth as usize;
            map.insert(
                OldKey {
                    path,
                    birth,
                    identity,
                },
                0,
            );
        }
        Floor(map)
    }

    /// Inserts and removes one key, as a request that is born now would.
    pub(crate) fn insert_and_remove(&self, path: &OldPath, births: &mut u64) {
        *births += 1;
        let key = OldKey {
            path: path.clone(),
            birth: *births,
            identity: 1,
        };
        black_box(self.0.insert(key.clone(), 0));
        black_box(self.0.remove(&key));
    }
}
