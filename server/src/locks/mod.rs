//! Namespaces with their lock managers, and the holders of locks. Knows neither HTTP nor WebSockets.

mod convert;
mod holder;
mod namespaces;

pub(crate) use convert::from_engine;
pub(crate) use holder::{Client, Holder, Journal};
pub(crate) use namespaces::{Member, Namespace, Namespaces, NotJoined};
