//! The loads that `bench` puts on a server: the values of its flag `--mode`.

use std::fmt;
use std::str::FromStr;

/// The load of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Uncontended,
    Contended,
    Handoff,
    Idle,
    Held(usize),
}

impl FromStr for Load {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Load, &'static str> {
        const ALLOWED: &str = "allowed are uncontended, contended, handoff, idle and held:N";
        Ok(match text {
            "uncontended" => Load::Uncontended,
            "contended" => Load::Contended,
            "handoff" => Load::Handoff,
            "idle" => Load::Idle,
            other => {
                let held = other.strip_prefix("held:").ok_or(ALLOWED)?;
                Load::Held(held.parse().map_err(|_| ALLOWED)?)
            }
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Uncontended => f.write_str("uncontended"),
            Load::Contended => f.write_str("contended"),
            Load::Handoff => f.write_str("handoff"),
            Load::Idle => f.write_str("idle"),
            Load::Held(held) => write!(f, "held:{held}"),
        }
    }
}
