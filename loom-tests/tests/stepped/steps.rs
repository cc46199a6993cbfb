//! A step: nothing happens, or the thread is suspended, or another virtual thread goes on.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

thread_local! {
    static SUSPENSION: RefCell<Option<Suspension>> = const { RefCell::new(None) };
    static IS_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Suspends a thread at one of its steps.
pub(crate) struct Suspension {
    /// The number of steps to take before.
    pub(crate) steps: usize,
    /// Told at the suspension. Dropped without a message if the operation has fewer steps.
    pub(crate) suspended: Sender<()>,
    /// The thread goes on after a message, or when the sender is dropped.
    pub(crate) resume: Receiver<()>,
}

/// Runs an operation that is suspended at one of its steps.
pub(crate) fn suspend<R>(suspension: Suspension, operation: impl FnOnce() -> R) -> R {
    SUSPENSION.set(Some(suspension));
    let result = operation();
    // The thread takes more steps: at its end it leaves the memory reclamation.
    SUSPENSION.set(None);
    result
}

/// Reclaims memory without steps.
///
/// Reclamation drops the requests of earlier lock managers, on any thread that pins. If these drops took
/// steps, a thread could be suspended in them and never in its own operation, and the steps of a history
/// would depend on the histories before it.
pub(crate) fn without_steps<R>(reclaim: impl FnOnce() -> R) -> R {
    let was_off = IS_OFF.replace(true);
    let result = reclaim();
    IS_OFF.set(was_off);
    result
}

/// Called before every access to shared state.
pub(crate) fn step() {
    // The unwinding after a failed check takes no steps.
    if IS_OFF.get() || thread::panicking() {
        return;
    }
    if generator::is_generator() {
        #[allow(
            deprecated,
            reason = "its successor needs a scope, which is not at hand here"
        )]
        generator::yield_with(false);
        return;
    }
    SUSPENSION.with_borrow_mut(|suspension| match suspension {
        None => {}
        Some(Suspension {
            steps: 0,
            suspended,
            resume,
        }) => {
            suspended
                .send(())
                .expect("the test waits for the suspension");
            // An error means that the test has failed, and the test reports that itself.
            let _ = resume.recv();
            *suspension = None;
        }
        Some(later) => later.steps -= 1,
    });
}
