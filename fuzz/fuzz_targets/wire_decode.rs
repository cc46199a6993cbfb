//! Arbitrary frames: decoding never panics, and a decoded message reads back from its own encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use locktopus_protocol::v1::{MAX_ERROR_BYTES, Request, Response, fit_error};

fuzz_target!(|frame: &[u8]| {
    match Request::decode(frame) {
        Ok(request) => assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request)),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && fit_error(&text).len() <= MAX_ERROR_BYTES);
        }
    }
    if let Ok(response) = Response::decode(frame) {
        assert_eq!(Response::decode(response.encode().as_bytes()), Ok(response));
    }
});
