//! Mutations: deliberate defects, one for each thing that the protocol needs. Switched on for the
//! models of one thread of the machine, each must make some model or property fail.
//!
//! Where each stands in the engine's source is in `mutations.rs`.

use std::cell::Cell;

macro_rules! mutations {
    ($($(#[doc = $why:literal])+ $name:ident { $($edit:tt)+ })+) => {
        /// What is left out or done wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[doc = $why])+ $name,)+
        }
    };
}

include!("../mutations.rs");

thread_local! {
    static MUTATION: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Whether this mutation is switched on.
pub fn is_on(mutation: Mutation) -> bool {
    MUTATION.get() == Some(mutation)
}

/// What the build script puts in the place of a part that a mutation replaces.
#[macro_export]
macro_rules! switch {
    ($mutation:ident { $($instead:tt)* } else { $($part:tt)* }) => {
        if $crate::is_on($crate::Mutation::$mutation) { $($instead)* } else { $($part)* }
    };
}

/// Runs something with a mutation switched on.
pub fn with<R>(mutation: Mutation, run: impl FnOnce() -> R) -> R {
    struct Off;

    impl Drop for Off {
        fn drop(&mut self) {
            MUTATION.set(None);
        }
    }

    MUTATION.set(Some(mutation));
    let _off = Off;
    run()
}
