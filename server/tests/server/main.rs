//! Tests of the server over real sockets, and of its command as a process. Names of tests are claims.

mod access;
mod common;
mod config;
mod faults;
mod hostile;
mod locks;
mod long_answers;
mod pages;
mod process;
mod protocol;
mod refusals;
mod revocation;
mod shares;
mod shutdown;
mod work;
