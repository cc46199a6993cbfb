//! What happens at a step: nothing, or the thread is suspended, or another virtual thread runs.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Receiver, Sender};

thread_local! {
    static OFF: Cell<bool> = const { Cell::new(false) };
    static SUSPENSION: RefCell<Option<Suspension>> = const { RefCell::new(None) };
}

/// Suspends its thread at a step.
pub(crate) struct Suspension {
    /// How many steps to take before.
    pub(crate) steps: usize,
    pub(crate) suspended: Sender<()>,
    pub(crate) resume: Receiver<()>,
}

/// Runs an operation that is suspended at one of its steps, if it has so many.
pub(crate) fn suspended<R>(suspension: Suspension, operation: impl FnOnce() -> R) -> R {
    SUSPENSION.set(Some(suspension));
    let result = operation();
    // The end of the thread takes steps, too, when it leaves the memory reclamation.
    SUSPENSION.set(None);
    result
}

/// Runs something of which no step counts: the reclamation of memory.
///
/// It drops the requests of earlier managers, on whichever thread pins next. As steps of that thread they
/// would come before its own: a thread could be suspended only in these, and a history could not be
/// repeated.
pub(crate) fn without_steps<R>(run: impl FnOnce() -> R) -> R {
    let before = OFF.replace(true);
    let result = run();
    OFF.set(before);
    result
}

/// Called before every access to what threads share.
pub(crate) fn step() {
    // What unwinds after a failed check goes straight on.
    if std::thread::panicking() || OFF.get() {
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
