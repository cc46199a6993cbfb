//! The notation of paths. Properties: a written path has no control characters and reads back; any text is a path, or
//! an error that names its position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use locktopus_protocol::path::{parse, write};

fuzz_target!(|input: (Vec<String>, &str)| {
    let (segments, text) = input;
    let written = write(&segments);
    assert!(!written.chars().any(char::is_control));
    assert_eq!(parse(&written), Ok(segments));
    match parse(text) {
        Ok(path) => assert_eq!(parse(&write(&path)), Ok(path)),
        Err(error) => {
            assert!(text.is_char_boundary(error.position()));
            assert!(error.to_string().contains(" at byte "));
        }
    }
});
