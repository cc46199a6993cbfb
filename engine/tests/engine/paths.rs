//! Properties of paths, for arbitrary segments:
//! 1. the segments read back;
//! 2. paths compare as their lists of segments do;
//! 3. `contains` is the prefix relation of the lists of segments.

use locktopus_engine::{Path, Resource};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Short segments, many with characters that the encoding escapes. Pairs are often equal or nested.
fn segments() -> impl Strategy<Value = Vec<String>> {
    let tricky = prop::sample::select(vec![
        "",
        "a",
        "b",
        "ab",
        "/",
        "\\",
        "\0",
        "\u{1}",
        "\u{2}",
        "\0\u{1}",
        "é",
        "\u{10ffff}",
        "a/b",
        "\n",
        "a-segment-that-spills-out-of-the-place-inside",
    ]);
    let segment = prop_oneof![4 => tricky.prop_map(String::from), 1 => ".{0,12}"];
    prop::collection::vec(segment, 0..5)
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn a_path_reads_back(segments in segments()) {
        let path = Path::from(&segments);
        let back: Vec<String> = path.segments().map(Cow::into_owned).collect();
        prop_assert_eq!(&back, &segments);
        prop_assert_eq!(path.depth(), segments.len());
        prop_assert_eq!(path.is_root(), segments.is_empty());
        prop_assert_eq!(format!("{path:?}"), format!("{segments:?}"));
    }

    #[test]
    fn order_and_prefixes_are_those_of_the_segments(some in segments(), others in segments()) {
        let (path, other) = (Path::from(&some), Path::from(&others));
        prop_assert_eq!(path.cmp(&other), some.cmp(&others));
        prop_assert_eq!(path == other, some == others);
        prop_assert_eq!(path.contains(&other), others.starts_with(&some));
        prop_assert!(path != other || hash(&path) == hash(&other));
        let joined = Path::from(some.iter().chain(&others));
        prop_assert!(path.contains(&joined));
    }
}

#[test]
fn paths_come_from_any_iterator_of_strings() {
    let path = Path::from(["a", "b"]);
    assert_eq!(Path::from(vec![String::from("a"), String::from("b")]), path);
    assert_eq!("a b".split(' ').collect::<Path>(), path);
    assert_eq!(Resource::read("a.b".split('.')), Resource::read(path));
    assert_eq!(Resource::write(Path::root()), Resource::write([""; 0]));
    assert_eq!(Path::default(), Path::root());
}
