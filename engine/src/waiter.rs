//! Waiting for an event: as a task, or by blocking the thread.

use crate::budget::Budget;
use crate::event::{Event, Garbage, Subscriber, Subscribers};
use crate::sync::{Arc, AtomicBool, Ordering, park, spin_until, thread};
use std::collections::VecDeque;
use std::future::Future;
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
    fn retire(&self) {
        // Relaxed: only its own task retires it, and one wake too many does no harm.
        self.retired.store(true, Ordering::Relaxed);
    }

    fn wake(&self) {
        if !self.retired.load(Ordering::Relaxed) {
            self.waker.wake_by_ref();
        }
    }
}

impl Subscriber for Arc<Waiter> {
    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

/// The nanoseconds to wake a waiter.
const WAKE: u64 = 1000;

/// Waiters to wake, in the order of their grants. To be woken once no guard is held: waking runs the code
/// of an executor, which may call back into the engine.
#[derive(Default)]
pub(crate) struct Wakes(VecDeque<Arc<Waiter>>);

impl Wakes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts the wake-up, too.
    pub(crate) fn add(&mut self, waiter: Arc<Waiter>, budget: &mut Budget) {
        budget.spend(WAKE);
        self.0.push_back(waiter);
    }

    /// Adds waiters of tasks that no longer wait. They are dropped in their turn, which runs foreign code, too.
    pub(crate) fn add_retired(&mut self, waiters: Subscribers<Arc<Waiter>>) {
        self.0.extend(waiters.inspect(|waiter| waiter.retire()));
    }

    /// Wakes all of them. If a waker panics, the others stay.
    pub(crate) fn wake(&mut self) {
        while let Some(waiter) = self.0.pop_front() {
            waiter.wake();
        }
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

/// The state of a task between its polls of an event: its one waiter among the subscribers.
#[derive(Default)]
pub(crate) struct Subscription(Option<Arc<Waiter>>);

impl Subscription {
    /// Ready once the event is set. The latest waker is the one to wake.
    pub(crate) fn poll(
        &mut self,
        event: &Event<Arc<Waiter>>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if event.is_set() {
            self.retire(event);
            return Poll::Ready(());
        }
        let waker = context.waker();
        if matches!(&self.0, Some(waiter) if waiter.waker.will_wake(waker)) {
            return Poll::Pending;
        }
        self.retire(event);
        let waiter = Arc::new(Waiter {
            waker: waker.clone(),
            retired: AtomicBool::new(false),
        });
        self.0 = Some(Arc::clone(&waiter));
        match event.subscribe(waiter, &mut Garbage::default()) {
            None => Poll::Pending,
            Some(missed) => {
                self.retire(event);
                // There may be other waiters among them, and no other thread will wake these.
                let mut wakes = Wakes(missed.collect());
                finish(|| {
                    wakes.wake();
                    true
                });
                Poll::Ready(())
            }
        }
    }

    /// Ends the subscription. Others may still wait for the event, so its chain must not fill up.
    fn retire(&mut self, event: &Event<Arc<Waiter>>) {
        if let Some(waiter) = self.0.take() {
            waiter.retire();
            let mut garbage = Garbage::default();
            if !event.is_set()
                && let Some(mut purge) = event.retire(&mut garbage)
            {
                purge.step(event, &mut Budget::unlimited(), &mut garbage);
            }
        }
    }
}

/// Resolves when an event is set.
pub(crate) struct Wait<'a> {
    event: &'a Event<Arc<Waiter>>,
    subscription: Subscription,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(event: &'a Event<Arc<Waiter>>) -> Wait<'a> {
        Wait {
            event,
            subscription: Subscription::default(),
        }
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        self.subscription.poll(event, context)
    }
}

impl Drop for Wait<'_> {
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
pub(crate) fn block_on(event: &Event<Arc<Waiter>>, deadline: Option<Instant>) {
    if spin_until(|| event.is_set()) {
        return;
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut wait = pin!(Wait::new(event));
    while wait.as_mut().poll(&mut context).is_pending() {
        if !park(deadline) {
            return;
        }
    }
}
