//! The library and the command, against a real server and against scripted servers. All tests are one binary, so that
//! it is linked once.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

#[cfg(feature = "cli")]
mod command;
mod common;
mod examples;
mod frames;
mod locks;
#[cfg(feature = "tls")]
mod tls;
