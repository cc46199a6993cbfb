//! The unit of locking: a path, and the mode in which it is locked.

use crate::json::{Object, null_as_default, quote};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

/// The mode in which a path is locked.
///
/// v1 has only these two modes, so a `match` on them can be exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Shared with other reads.
    Read,
    /// Exclusive.
    Write,
}

impl Mode {
    fn parse(text: &str) -> Result<Mode, String> {
        match text.to_ascii_lowercase().as_str() {
            "read" | "r" => Ok(Mode::Read),
            "write" | "w" => Ok(Mode::Write),
            _ => Err(format!(
                "unknown type {}; allowed are read and write",
                quote(text)
            )),
        }
    }
}

/// Reads `read` and `write` in any case, and `r` and `w` for short.
impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Mode::parse(&text).map_err(D::Error::custom)
    }
}

/// A path to lock, with its whole subtree, and the mode.
///
/// Its JSON is `{"type":"write","path":["a","b"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Resource {
    /// The mode in which the path is locked.
    #[serde(rename = "type")]
    pub mode: Mode,
    /// The segments of the path. An empty list is the root, and so is a JSON member that is missing or null.
    pub path: Vec<String>,
}

impl Resource {
    /// A path to lock for read, shared with other reads.
    ///
    /// # Examples
    /// ```
    /// use locktopus_protocol::Resource;
    ///
    /// assert_eq!(Resource::read(["a", "b"]).path, ["a", "b"]);
    /// let everything = Resource::read([""; 0]);
    /// assert!(everything.path.is_empty());
    /// ```
    pub fn read(path: impl IntoIterator<Item = impl Into<String>>) -> Resource {
        Resource {
            mode: Mode::Read,
            path: path.into_iter().map(Into::into).collect(),
        }
    }

    /// A path to lock for write, exclusively.
    pub fn write(path: impl IntoIterator<Item = impl Into<String>>) -> Resource {
        Resource {
            mode: Mode::Write,
            ..Resource::read(path)
        }
    }
}

/// The members of a resource, before the mode is checked.
#[derive(Deserialize)]
pub(crate) struct Members<'a> {
    #[serde(rename = "type", borrow)]
    mode: Cow<'a, str>,
    #[serde(default, deserialize_with = "null_as_default")]
    path: Vec<String>,
}

impl Members<'_> {
    pub(crate) fn check(self) -> Result<Resource, String> {
        let mode = Mode::parse(&self.mode)?;
        let path = self.path;
        Ok(Resource { mode, path })
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Resource, D::Error> {
        let Object(members) = Object::<Members<'de>>::deserialize(deserializer)?;
        members.check().map_err(D::Error::custom)
    }
}
