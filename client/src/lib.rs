//! The client side of Locktopus, the lock service.
//!
//! So far this crate holds the messages of the wire, in [`protocol`], which the server uses too.

pub mod protocol;
