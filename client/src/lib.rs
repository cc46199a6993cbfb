#![doc = include_str!("../README.md")]
//!
//! # Structure
//! ```text
//! Client ──► connection (a task that owns a socket) ──► stream   (TCP, TLS)
//!    │           ├──────────────────────────────────► protocol (a crate: the messages)
//!    ├──► guard  ├──► pool
//!    │      └────┴─────┴──► checkout ──────────────► keepalive (does the server answer, how long does it keep a lock)
//!    └──► pages  (HTTP) ────────────────────────────► stream
//! ```
//!
//! # Features
//! | feature | |
//! |---|---|
//! | `tls` | `wss://` and `https://`, with rustls and ring |
//! | `pages` | `Client::locks`, `Client::status` and `Client::release_by_force`, with hyper |
//! | `cli` | the command `locktopus`; includes `pages` |
//!
//! There are no default features.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod checkout;
mod client;
mod connection;
mod error;
mod guard;
mod keepalive;
mod options;
#[cfg(feature = "pages")]
mod pages;
mod pool;
mod stream;

pub use checkout::Lost;
pub use client::Client;
pub use error::{Detail, Error};
pub use guard::{Guard, Pending};
pub use locktopus_protocol as protocol;
pub use options::{DEFAULT_NAMESPACE, DEFAULT_URL, Options};
#[cfg(feature = "pages")]
pub use pages::{Clients, Filter, LockPages};
pub use protocol::{Mode, Resource};
