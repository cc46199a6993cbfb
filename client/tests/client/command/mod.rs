//! The command `locktopus`, as a process.

mod bench;
#[cfg(target_os = "linux")]
mod jobs;
mod listing;
mod pages;
mod process;
mod run;
mod usage;
