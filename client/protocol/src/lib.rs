#![doc = include_str!("../README.md")]

mod json;
pub mod pages;
pub mod path;
mod resource;
pub mod text;
pub mod v1;

pub use resource::{Mode, Resource};
