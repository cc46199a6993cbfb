#![doc = include_str!("../README.md")]
//!
//! # The rooms
//! ```text
//! Client ──► connection (a task that owns a socket) ──► stream   (TCP, TLS)
//!    │           ├──────────────────────────────────► protocol (a crate: the messages)
//!    ├──► guard  ├──► pool
//!    │      └────┴─────┴──► lease ─────────────────► pulse    (is the server there? until when is a lock kept?)
//! ```
//!
//! # Features
//! `tls` adds `wss://`, with rustls and ring. `cli` is the command `locktopus`. There are no default features.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod connection;
mod error;
mod guard;
mod lease;
mod options;
mod pool;
mod pulse;
mod stream;

pub use client::Client;
pub use error::Error;
pub use guard::{Guard, Pending};
pub use lease::Lost;
pub use locktopus_protocol as protocol;
pub use options::{DEFAULT_NAMESPACE, DEFAULT_URL, Options};
pub use protocol::{Mode, Resource};
