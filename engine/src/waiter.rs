//! Waiting for an event: as a task, or by blocking the thread.

use crate::budget::Budget;
use crate::event::{Event, Garbage, Single, Subscriber};
use crate::sync::{Arc, AtomicBool, Ordering, park, spin_until, thread};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// A task or thread that waits for an event.
pub(crate) struct Waiter {
    waker: Waker,
    /// Set when its task stops waiting or polls with another waker.
    retired: AtomicBool,
}

impl Waiter {
    pub(crate) fn new(waker: Waker) -> Waiter {
        Waiter {
            waker,
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn retire(&self) {
        // Relaxed: only its own task retires it, and one wake too many does no harm.
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        if !self.retired.load(Ordering::Relaxed) {
            self.waker.wake_by_ref();
        }
    }
}

impl Subscriber for Waiter {
    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

/// Repeats a step until it returns `true`, even if wakers panic in it. The first panic continues afterwards, unless
/// the thread is already panicking.
pub(crate) fn finish(mut step: impl FnMut() -> bool) {
    let mut panic = None;
    loop {
        // Unwind safe: no operation of the engine is half done while a waker runs.
        match catch_unwind(AssertUnwindSafe(&mut step)) {
            Ok(true) => break,
            Ok(false) => {}
            Err(next) => panic = panic.or(Some(next)),
        }
    }
    if let Some(panic) = panic
        && !std::thread::panicking()
    {
        resume_unwind(panic);
    }
}

/// An event that tasks wait for.
pub(crate) trait Awaited {
    fn is_set(&self) -> bool;

    /// Adds a waiter. Ready if the event is set.
    fn subscribe(&self, waiter: Arc<Waiter>) -> Poll<()>;

    /// Forgets a retired waiter. Others may still wait for the event, so its chain must not fill up.
    fn forget(&self);
}

/// One task or thread at a time waits for the grant of a request.
impl Awaited for Single<Waiter> {
    fn is_set(&self) -> bool {
        self.is_set()
    }

    fn subscribe(&self, waiter: Arc<Waiter>) -> Poll<()> {
        match self.subscribe(waiter) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn forget(&self) {
        drop(self.take());
    }
}

/// Many tasks may wait for the close of a lock manager.
impl Awaited for Event<Waiter> {
    fn is_set(&self) -> bool {
        self.is_set()
    }

    fn subscribe(&self, waiter: Arc<Waiter>) -> Poll<()> {
        let Some(place) = self.announce() else {
            return Poll::Ready(());
        };
        let Some(mut missed) = self.enter(place, waiter, &mut Garbage::default()) else {
            return Poll::Pending;
        };
        // There may be other waiters among them, and no other thread will wake these.
        finish(|| {
            missed.by_ref().for_each(|waiter| waiter.wake());
            true
        });
        Poll::Ready(())
    }

    fn forget(&self) {
        let mut garbage = Garbage::default();
        if let Some(mut purge) = self.retire(&mut garbage) {
            purge.step(self, &mut Budget::unlimited(), &mut garbage);
        }
    }
}

/// The state of a task between its polls of an event: its one waiter among the subscribers.
#[derive(Default)]
pub(crate) struct Subscription(Option<Arc<Waiter>>);

impl Subscription {
    /// Ready once the event is set. The latest waker is the one to wake.
    pub(crate) fn poll(&mut self, event: &impl Awaited, context: &mut Context<'_>) -> Poll<()> {
        if event.is_set() {
            self.retire(event);
            return Poll::Ready(());
        }
        let waker = context.waker();
        if matches!(&self.0, Some(waiter) if waiter.waker.will_wake(waker)) {
            return Poll::Pending;
        }
        self.retire(event);
        let waiter = Arc::new(Waiter::new(waker.clone()));
        self.0 = Some(Arc::clone(&waiter));
        let subscribed = event.subscribe(waiter);
        if subscribed.is_ready() {
            self.retire(event);
        }
        subscribed
    }

    fn waker(&self) -> Option<&Waker> {
        self.0.as_ref().map(|waiter| &waiter.waker)
    }

    /// Ends the subscription.
    fn retire(&mut self, event: &impl Awaited) {
        if let Some(waiter) = self.0.take() {
            waiter.retire();
            if !event.is_set() {
                event.forget();
            }
        }
    }
}

/// Resolves when an event is set.
pub(crate) struct Wait<'a, E: Awaited> {
    event: &'a E,
    subscription: Subscription,
}

impl<'a, E: Awaited> Wait<'a, E> {
    pub(crate) fn new(event: &'a E) -> Wait<'a, E> {
        Wait {
            event,
            subscription: Subscription::default(),
        }
    }
}

impl<E: Awaited> Future for Wait<'_, E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        self.subscription.poll(event, context)
    }
}

impl<E: Awaited> Drop for Wait<'_, E> {
    fn drop(&mut self) {
        self.subscription.retire(self.event);
    }
}

/// Unparks the thread that blocks.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until the event is set or the deadline has passed. Without a deadline the wait has no limit.
///
/// After the deadline the subscription is again the one of the task that waited before.
pub(crate) fn block_on(
    event: &impl Awaited,
    subscription: &mut Subscription,
    deadline: Option<Instant>,
) {
    if spin_until(|| event.is_set()) {
        return;
    }
    let before = subscription.waker().cloned();
    let polls = pin!(poll_fn(|context| subscription.poll(event, context)));
    if block_on_future(polls, deadline).is_none() {
        match before {
            Some(task) => drop(subscription.poll(event, &mut Context::from_waker(&task))),
            None => subscription.retire(event),
        }
    }
}

/// Blocks the thread until the future is ready; `None` after the deadline.
pub(crate) fn block_on_future<F: Future>(
    mut future: Pin<&mut F>,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if !park(deadline) => return None,
            Poll::Pending => {}
        }
    }
}
