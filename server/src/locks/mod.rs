//! Namespaces with their lock managers, and the holders of locks. Knows neither HTTP nor WebSockets.

mod convert;
mod entry;
mod holder;
mod journal;
mod namespaces;

pub(crate) use convert::from_engine;
pub(crate) use holder::{Client, Holder};
pub(crate) use journal::Journal;
pub(crate) use namespaces::{Namespace, Namespaces, NotJoined};
