//! The command `locktopus`, as a process.

#[cfg(target_os = "linux")]
mod jobs;
mod listing;
mod pages;
mod process;
mod run;
mod usage;
