//! What happens at a step: nothing, or the thread is suspended, or another virtual thread runs.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, Sender};

thread_local! {
    static SUSPENSION: RefCell<Option<Suspension>> = const { RefCell::new(None) };
}

/// Suspends its thread at a step.
pub(crate) struct Suspension {
    /// How many steps to take before.
    pub(crate) steps: usize,
    pub(crate) suspended: Sender<()>,
    pub(crate) resume: Receiver<()>,
}

/// Sets what is to happen to this thread.
pub(crate) fn suspend_later(suspension: Suspension) {
    SUSPENSION.set(Some(suspension));
}

/// Called before every access to what threads share.
pub(crate) fn step() {
    // What unwinds after a failed check goes straight on.
    if std::thread::panicking() {
        return;
    }
    if generator::is_generator() {
        // In the middle of an operation; see `histories`.
        #[allow(
            deprecated,
            reason = "its successor wants a scope, which is not at hand here"
        )]
        generator::yield_with(false);
        return;
    }
    SUSPENSION.with_borrow_mut(|suspension| match suspension {
        Some(Suspension {
            steps: 0,
            suspended,
            resume,
        }) => {
            suspended.send(()).expect("somebody waits for it");
            // An error: the other has failed, and says so itself.
            let _ = resume.recv();
            *suspension = None;
        }
        Some(later) => later.steps -= 1,
        None => {}
    });
}
