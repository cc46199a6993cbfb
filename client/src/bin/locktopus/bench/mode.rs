//! The modes of `bench`.

use std::fmt;
use std::str::FromStr;

/// The load of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Uncontended,
    Contended,
    Handoff,
    Idle,
    Held(usize),
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Mode, &'static str> {
        const ALLOWED: &str = "allowed are uncontended, contended, handoff, idle and held:N";
        Ok(match text {
            "uncontended" => Mode::Uncontended,
            "contended" => Mode::Contended,
            "handoff" => Mode::Handoff,
            "idle" => Mode::Idle,
            other => {
                let held = other.strip_prefix("held:").ok_or(ALLOWED)?;
                Mode::Held(held.parse().map_err(|_| ALLOWED)?)
            }
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Uncontended => f.write_str("uncontended"),
            Mode::Contended => f.write_str("contended"),
            Mode::Handoff => f.write_str("handoff"),
            Mode::Idle => f.write_str("idle"),
            Mode::Held(held) => write!(f, "held:{held}"),
        }
    }
}
