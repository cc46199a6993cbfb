//! Paths: the encoding reads back, and paths compare and contain each other as their lists of segments do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use locktopus_engine::Path;

fuzz_target!(|pair: (Vec<String>, Vec<String>)| {
    let (some, others) = pair;
    let (path, other) = (Path::from(&some), Path::from(&others));
    assert!(path.segments().eq(some.iter().map(String::as_str)));
    assert_eq!(path.depth(), some.len());
    assert_eq!(path.cmp(&other), some.cmp(&others));
    assert_eq!(path == other, some == others);
    assert_eq!(path.contains(&other), others.starts_with(&some));
});
