//! Locktopus, the lock service: a thin WebSocket front-end for [`locktopus_engine`].
//!
//! ```text
//! main ──► server ──► http ─────► ws ────────► locks ─────► locktopus_engine
//!                     accept      connection   namespaces
//!                     routes      v1 (pure)    holder ────► work
//!                     pages       keepalive    entry        driver ──► queue (pure)
//!                     access       (pure)
//!                     query       socket ──► stream
//!                     answers
//! ```
//!
//! A request enters the lock table, and a lock leaves it, in steps. What does not fit into the first slice of its
//! connection is a job of `work`. A job holds all that it needs, so it does not depend on the end of the connection.
//!
//! Arrows go one way: `locks` knows neither HTTP nor WebSockets. `work` knows no locks. All of them use `config`,
//! `metrics`, `polls`, `shares` and `shared`.

mod config;
mod error;
mod http;
mod locks;
mod metrics;
mod polls;
mod secrets;
mod server;
mod shared;
mod shares;
mod work;
mod ws;

pub use config::{Command, Config, LogFormat, parse};
pub use error::ConfigError;
pub use http::query;
pub use metrics::count_dropped_log_lines;
pub use secrets::Secrets;
pub use server::{run, run_with_secrets};
pub use ws::v1;
