//! Waiting for an event: as a future, or by blocking the thread.

use crate::event::{Event, Subscriber};
use crate::sync::{Arc, AtomicBool, Ordering, park, spin_until, thread};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// A task or thread that waits for an event.
pub(crate) struct Waiter {
    waker: Waker,
    /// Cleared when its future goes away or moves to another task.
    live: AtomicBool,
}

impl Waiter {
    fn is_live(&self) -> bool {
        // Relaxed: only its own future clears it, and a waiter that is woken too often does no harm.
        self.live.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if self.is_live() {
            self.waker.wake_by_ref();
        }
    }
}

impl Subscriber for Arc<Waiter> {
    fn is_live(&self) -> bool {
        Waiter::is_live(self)
    }
}

/// Waiters to wake, in the order of their grants, once no guard is held: waking runs the code of an
/// executor, which may call back.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Arc<Waiter>>);

impl Wakes {
    pub(crate) fn add(&mut self, waiters: impl Iterator<Item = Arc<Waiter>>) {
        self.0.extend(waiters);
    }

    /// Wakes them all, even if a waker panics; its panic goes on afterwards, unless one is under way.
    pub(crate) fn wake(self) {
        let mut panic = None;
        for waiter in self.0 {
            // Unwind safe: nothing of ours is half done while a waker runs.
            let woken = catch_unwind(AssertUnwindSafe(move || {
                waiter.wake();
                drop(waiter);
            }));
            panic = panic.or(woken.err());
        }
        if let Some(panic) = panic
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

/// Resolves when the event has happened.
pub(crate) struct Happened<'a> {
    event: &'a Event<Arc<Waiter>>,
    /// Who is subscribed for this future.
    waiter: Option<Arc<Waiter>>,
}

impl<'a> Happened<'a> {
    pub(crate) fn new(event: &'a Event<Arc<Waiter>>) -> Happened<'a> {
        Happened {
            event,
            waiter: None,
        }
    }

    fn unsubscribe(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.live.store(false, Ordering::Relaxed);
            if !self.event.has_happened() {
                self.event.bury();
            }
        }
    }
}

impl Future for Happened<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.event.has_happened() {
            return Poll::Ready(());
        }
        let waker = context.waker();
        if matches!(&self.waiter, Some(waiter) if waiter.waker.will_wake(waker)) {
            return Poll::Pending;
        }
        self.unsubscribe();
        let waiter = Arc::new(Waiter {
            waker: waker.clone(),
            live: AtomicBool::new(true),
        });
        self.waiter = Some(Arc::clone(&waiter));
        match self.event.subscribe(waiter) {
            None => Poll::Pending,
            Some(missed) => {
                // Others that nobody else will wake may be among them.
                let mut wakes = Wakes::default();
                wakes.add(missed);
                wakes.wake();
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Happened<'_> {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

impl fmt::Debug for Happened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Happened")
            .field("happened", &self.event.has_happened())
            .finish()
    }
}

/// Unparks the thread that blocks.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until the event has happened or the deadline has passed; whether it happened.
pub(crate) fn block_on(event: &Event<Arc<Waiter>>, deadline: Option<Instant>) -> bool {
    if spin_until(|| event.has_happened()) {
        return true;
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut happened = pin!(Happened::new(event));
    while happened.as_mut().poll(&mut context).is_pending() {
        if !park(deadline) {
            return event.has_happened();
        }
    }
    true
}
