//! The WebSocket side: the connections of protocol v1.

mod connection;
mod keepalive;
mod limits;
mod socket;
mod stream;
pub mod v1;

pub(crate) use connection::Connection;
pub(crate) use socket::websocket_config;
