use super::*;
use proptest::collection::SizeRange;
use proptest::prelude::*;
use std::collections::hash_map::DefaultHasher;

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
            cut.cut(&path, prefix);
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

fn ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == TERMINATOR).count()
}

/// A path of any bytes, which need not be the encoding of a path.
fn of_bytes(bytes: &[u8]) -> Path {
    let mut encoder = Encoder::default();
    encoder.push(bytes);
    encoder.depth = ends(bytes) as u32;
    encoder.finish()
}

/// Bytes at the limits of their order, also some that are in no path.
fn bytes(count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(vec![0x00, 0x01, 0x02, b'a', 0x7f, 0x80, 0xff]);
    prop::collection::vec(byte, count)
}

/// Two lists of bytes that often begin alike, and whose lengths are often about the inline size.
fn pairs() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let tail = || prop_oneof![bytes(0..4), bytes(0..40)];
    let shared = prop_oneof![bytes(INLINE - 1..=INLINE + 2), bytes(0..40)];
    (shared, tail(), tail())
        .prop_map(|(shared, one, other)| ([&*shared, &*one].concat(), [shared, other].concat()))
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn paths_compare_as_their_bytes((one, other) in pairs()) {
        let (path, another) = (of_bytes(&one), of_bytes(&other));
        prop_assert_eq!(path.cmp(&another), one.cmp(&other));
        prop_assert_eq!(path == another, one == other);
        prop_assert_eq!(path.contains(&another), other.starts_with(&one));
    }

    #[test]
    fn prefixes_compare_as_their_bytes((one, other) in pairs()) {
        let one = [&*one, &[TERMINATOR]].concat();
        let (mut path, another) = (of_bytes(&one), of_bytes(&other));
        let alike = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let (mut prefix, mut shared) = (Prefix::ROOT, Prefix::ROOT);
        for len in (0..=one.len()).filter(|len| *len == 0 || one[len - 1] == TERMINATOR) {
            let depth = ends(&one[..len]);
            prefix = path.grow(prefix, depth);
            prop_assert_eq!(prefix, Prefix { depth, len });
            prop_assert_eq!(path.grow(Prefix::ROOT, depth), prefix);
            prop_assert_eq!(path.begins(prefix, &another), alike >= len);
            prop_assert_eq!(path.is_at(prefix, &another), other == one[..len]);
            if alike >= len {
                shared = prefix;
            }
        }
        for depth in 0..=shared.depth {
            prop_assert_eq!(path.shared(path.grow(Prefix::ROOT, depth), &another), shared);
        }
        // Cut paths, which may have the same bytes as a path that was made of them.
        let cut_at = one.len().min(INLINE + 1);
        path.cut(&of_bytes(&one), Prefix { depth: 0, len: cut_at });
        prop_assert_eq!(path.contains(&another), other.starts_with(&one[..cut_at]));
        prop_assert_eq!(another.contains(&path), one[..cut_at].starts_with(&other));
    }

    #[test]
    fn a_prefix_is_represented_as_the_path_of_its_bytes((long, other) in pairs(), len in 0..70_usize) {
        let path = of_bytes(&long);
        let len = len.min(long.len());
        for mut cut in [Path::root(), path.clone(), of_bytes(&other)] {
            cut.cut(&path, Prefix { depth: 0, len });
            let same = of_bytes(&long[..len]);
            match (&cut.0, &same.0) {
                (Repr::Inline { bytes, .. }, Repr::Inline { bytes: others, .. }) => {
                    prop_assert_eq!(bytes, others);
                    prop_assert!(bytes[len..].iter().all(|byte| *byte == 0));
                }
                (Repr::Shared { .. }, Repr::Shared { .. }) => prop_assert!(len > INLINE),
                _ => prop_assert!(false, "{} bytes have two representations", len),
            }
            prop_assert_eq!((&cut, hash(&cut)), (&same, hash(&same)));
            prop_assert_eq!(cut.cmp(&of_bytes(&other)), long[..len].cmp(&other));
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
