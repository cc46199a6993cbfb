//! The switches of the mutations. `mutations.rs` has their places in the engine's source.

use std::cell::Cell;

macro_rules! mutations {
    ($($(#[doc = $why:literal])+ $name:ident { $($edit:tt)+ })+) => {
        /// A deliberate defect of the engine. Some model or property must fail if it is switched on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[doc = $why])+ $name,)+
        }
    };
}

include!("../mutations.rs");

thread_local! {
    /// All threads of a model run on one thread of the machine, and see the same switch.
    static MUTATION: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Whether this mutation is switched on for the thread.
pub fn is_on(mutation: Mutation) -> bool {
    MUTATION.get() == Some(mutation)
}

/// The code that the build script writes in the place of an edit.
#[macro_export]
macro_rules! switch {
    ($mutation:ident { $($instead:tt)* } else { $($part:tt)* }) => {
        if $crate::is_on($crate::Mutation::$mutation) { $($instead)* } else { $($part)* }
    };
}

/// Runs a check with a mutation switched on for the thread.
pub fn with<R>(mutation: Mutation, check: impl FnOnce() -> R) -> R {
    struct Off;

    impl Drop for Off {
        fn drop(&mut self) {
            MUTATION.set(None);
        }
    }

    MUTATION.set(Some(mutation));
    let _off = Off;
    check()
}
