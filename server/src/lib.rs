//! Locktopus, the lock service: a thin WebSocket front-end for [`locktopus_engine`].
//!
//! ```text
//! main ──► server ──► http ─────► ws ────────► locks ──► locktopus_engine
//!                     accept      connection   namespaces
//!                     routes      v1 (pure)    holder
//!                     pages       keepalive (pure)
//!                     access      socket ──► stream
//!                     query
//!                     answers
//! ```
//!
//! Arrows go one way: `locks` knows neither HTTP nor WebSockets. All of them use `config`, `metrics` and `shared`.

mod config;
mod error;
mod http;
mod locks;
mod metrics;
mod secrets;
mod server;
mod shared;
mod shares;
mod ws;

pub use config::{Command, Config, LogFormat, parse};
pub use error::ConfigError;
pub use http::query;
pub use metrics::count_dropped_log_lines;
pub use secrets::Secrets;
pub use server::{run, run_with_secrets};
pub use ws::v1;
