#![cfg_attr(feature = "client", doc = include_str!("../README.md"))]
//!
//! # The rooms
//! ```text
//! Client ──► connection (a task that owns a socket) ──► stream   (TCP, TLS)
//!    │           ├──────────────────────────────────► protocol (the messages)
//!    ├──► guard  ├──► pool
//!    │      └────┴─────┴──► lease ─────────────────► pulse    (is the server there? until when is a lock kept?)
//! ```
//!
//! # Features
//! `client` (default) is the async client on tokio; without it there is only [`protocol`], which the
//! server uses too. `tls` adds `wss://`, with rustls and ring. `cli` is the command `locktopus`.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod connection;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod guard;
#[cfg(feature = "client")]
mod lease;
#[cfg(feature = "client")]
mod options;
#[cfg(feature = "client")]
mod pool;
pub mod protocol;
#[cfg(feature = "client")]
mod pulse;
#[cfg(feature = "client")]
mod stream;

#[cfg(feature = "client")]
pub use client::Client;
#[cfg(feature = "client")]
pub use error::Error;
#[cfg(feature = "client")]
pub use guard::{Guard, Pending};
#[cfg(feature = "client")]
pub use lease::Lost;
#[cfg(feature = "client")]
pub use options::{DEFAULT_NAMESPACE, DEFAULT_URL, Options};
pub use protocol::{Mode, Resource};
