//! Paths as arrays of strings.

use super::Path;
use ::serde::de::{SeqAccess, Visitor};
use ::serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// As an array of strings.
impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.segments())
    }
}

/// From an array of strings.
impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
        struct Segments;

        impl<'de> Visitor<'de> for Segments {
            type Value = Path;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Path, A::Error> {
                std::iter::from_fn(|| seq.next_element::<Cow<'de, str>>().transpose()).collect()
            }
        }

        deserializer.deserialize_seq(Segments)
    }
}
