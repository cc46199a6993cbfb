//! Mutations: deliberate defects, one for each thing that the protocol needs. Switched on for the
//! models of one thread of the machine, each must make some model or property fail.

use std::cell::Cell;

/// What is left out or done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A request may get a ticket while some of its entries are missing.
    PublishedFromTheStart,
    /// Who meets a published request without a ticket takes it for a later one.
    NoHelping,
    /// A release takes the chain of its watchers before it marks the request as released.
    TakeBeforeHappening,
    /// Who has pushed a watch does not look whether the request was released meanwhile.
    NoLookAfterPush,
    /// A watch is pushed without the announcement that makes the release look for it.
    NoAnnouncement,
    /// The dead stay in the chains, however many.
    NoPurge,
    /// A withdrawn request does not report its watch as dead.
    NoBurial,
    /// A purge drops what was pushed since it looked.
    PurgeForgetsTheNew,
    /// Who meets a published request without a ticket waits for its owner to draw one.
    WaitForTheTicket,
    /// Entries are removed after those who waited were advanced.
    RemoveAfterAdvancing,
    /// A walk goes on with the next span instead of the rest of the one where it stopped.
    ResumePastTheSpan,
    /// Drawing from the clock orders nothing.
    RelaxedDraw,
    /// The look at the next entry replaces the search, even if others drew tickets meanwhile.
    AlwaysShortcut,
    /// A depth is marked after its entry got a ticket, so that it is not looked up in time.
    MarkAfterPublishing,
    /// A grant that came too late for a withdrawal is counted, too.
    CountEveryGrant,
}

thread_local! {
    static MUTATION: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Whether this mutation is switched on.
pub(crate) fn is_on(mutation: Mutation) -> bool {
    MUTATION.get() == Some(mutation)
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

macro_rules! mutated {
    ($mutation:ident) => {
        crate::seams::is_on(crate::seams::Mutation::$mutation)
    };
}
