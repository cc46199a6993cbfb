//! The command `locktopus`, as a process.

mod bench;
mod deadline;
#[cfg(target_os = "linux")]
mod guardian;
#[cfg(target_os = "linux")]
mod jobs;
mod listing;
mod pages;
mod process;
mod run;
#[cfg(target_os = "linux")]
mod terminal;
mod usage;

#[cfg(feature = "tls")]
pub(crate) use process::locktopus;
