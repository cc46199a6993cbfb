//! The values of flags and variables: each error says what is allowed.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

fn allowed<T>(value: Option<T>, what: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("allowed is {what}"))
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let host = text.trim_start_matches('[').trim_end_matches(']');
    let host = Some(host).filter(|host| !host.is_empty());
    allowed(host.map(str::to_owned), "an address or a name")
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    let path = Some(text).filter(|text| !text.is_empty());
    allowed(path.map(PathBuf::from), "the path of a file")
}

pub(super) fn number<T: TryFrom<usize>, const MIN: usize, const MAX: usize>(
    text: &str,
) -> Result<T, String> {
    let number = whole_number(text).filter(|number| (MIN..=MAX).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    allowed(number, &format!("a number from {MIN} to {MAX}"))
}

pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    let time = whole_number(text).map(Duration::from_millis);
    allowed(time, "a whole number of milliseconds, 0 or more")
}

pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = whole_number(text).map(Duration::from_secs);
    allowed(time, "a whole number of seconds, 0 or more")
}

/// Reads seconds, up to a year: such times do not overflow a clock.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 31_536_000.0;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| plain && *seconds <= YEAR);
    let time = seconds.map(Duration::from_secs_f64);
    allowed(
        time,
        "a number of seconds such as 15 or 0.5, up to 31536000",
    )
}

pub(super) fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim();
    let (scheme, host) = origin.split_once("://").unwrap_or_default();
    let named = !scheme.is_empty() && !host.is_empty() && !host.contains('/');
    let origin = (named || origin == "*").then(|| origin.to_ascii_lowercase());
    allowed(origin, "an origin such as https://example.com, or *")
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    let value = match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    };
    allowed(value, "true, 1, yes, y, false, 0, no or n")
}

/// Reads a number of digits only; Rust's own parser also accepts a plus sign.
pub(crate) fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
