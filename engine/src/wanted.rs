//! [`Wanted`]: the holder of a lock learns that another request waits for it.

use crate::arms::{Arm, RELEASED, WANTED};
use crate::budget::Budget;
use crate::clock::LIMIT;
use crate::request::Request;
use crate::reuse::Home;
use crate::sync::{Arc, pin};
use crate::table::Table;
use crate::waiter::block_on_future;
use crate::walk::Cursor;
use crate::walker::{Found, Walker};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Tells the holder of a [`Lock`](crate::Lock) that other requests wait for it. Made by
/// [`Lock::wanted`](crate::Lock::wanted).
///
/// As a future it resolves to `true` when a conflicting request begins to wait for the lock, or when one waits already
/// at the time of `wanted`. Then it can be awaited again, for the next one. It resolves to `false` once the lock is
/// released.
///
/// A request that waits for several locks waits for one of them at a time. So a lock is told of it when the request
/// comes to that lock, at the latest when the lock is the last in its way. A request behind another one in the same
/// line waits for that one. If both wait for this lock only, the second one comes to it when the first one is withdrawn.
///
/// No request is missed, and several may be told as one. A request that is told may have been withdrawn since, and one
/// request may be told more than once.
///
/// A lock may have any number of these. It keeps them when it is narrowed. Each costs a request that begins to wait
/// for the lock about a microsecond, and the release of the lock, too. A lock without them costs nothing more.
///
/// # Cancel safety
/// Polling by reference loses nothing: what was told and not returned yet is returned by the next poll. It remembers one
/// waker: the waker of the latest poll.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
/// use std::thread;
///
/// let locks = LockManager::new();
/// let lock = locks.blocking_lock([Resource::write(["cache"])])?;
/// let mut wanted = lock.wanted();
/// thread::scope(|scope| {
///     let other = scope.spawn(|| locks.blocking_lock([Resource::read(["cache", "7"])]));
///     assert!(wanted.wait()); // or `(&mut wanted).await`, in any runtime
///     lock.release();
///     other.join().unwrap()
/// })?;
/// assert!(!wanted.wait()); // the lock is gone
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
#[must_use = "a `Wanted` does nothing unless it is polled or waited for"]
pub struct Wanted {
    space: Home,
    token: u64,
    arm: Arc<Arm>,
    is_released: bool,
}

impl Wanted {
    /// For the lock of a request.
    pub(crate) fn new(space: Home, request: &Request) -> Wanted {
        let arm = Arc::new(Arm::new());
        space.arm(&arm, request);
        Wanted {
            space,
            token: request.token(),
            arm,
            is_released: false,
        }
    }

    /// Blocks the thread until a conflicting request begins to wait for the lock, or until the lock is released. Returns
    /// whether it is wanted; `false` once it is released.
    ///
    /// Do not call this in async code: it stalls every task of the runtime's thread.
    pub fn wait(&mut self) -> bool {
        block_on_future(Pin::new(self), None).unwrap_or(false)
    }

    /// As [`wait`](Wanted::wait), until about `timeout` has passed: then the result is `None`. A zero timeout looks and
    /// does not block.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<bool> {
        // `None`: the deadline lies beyond the end of the clock.
        let deadline = Instant::now().checked_add(timeout);
        let wanted = block_on_future(Pin::new(&mut *self), deadline);
        if wanted.is_none() {
            self.arm.forget();
        }
        wanted
    }
}

impl Table {
    /// Arms the lock of a request.
    fn arm(&self, arm: &Arc<Arm>, request: &Request) {
        self.arms.add(request.token(), arm, &pin());
        // The watches of a narrowed lock may still be those of the request before.
        let may_be_watched = request.released.arm() | request.has_waited();
        if may_be_watched && self.is_waited_for(request) {
            // Its task has not looked yet.
            drop(arm.tell(WANTED));
        }
    }

    /// Whether a later request conflicts with a held lock: such a request waits.
    pub(crate) fn is_waited_for(&self, request: &Request) -> bool {
        // Meets all outstanding requests.
        let mut walker = Walker::of_set(&request.resources, 2 * LIMIT, Walker::ALL_BIRTHS);
        let (guard, budget) = (pin(), &mut Budget::unlimited());
        let mut cursor = Cursor::START;
        loop {
            match self
                .entries
                .next_blocker(&mut walker, &self.clock, cursor, budget, &guard)
            {
                Found::Nothing => return false,
                Found::Blocker(_, _, ticket) if ticket > request.token() => return true,
                Found::Blocker(at, ..) | Found::Paused(at) => cursor = at,
            }
        }
    }
}

impl Future for Wanted {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let told = match self.is_released {
            true => RELEASED,
            false => self.arm.look(context.waker()),
        };
        if told == 0 {
            return Poll::Pending;
        }
        self.arm.forget();
        self.is_released = told & RELEASED != 0;
        Poll::Ready(told == WANTED)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.space.arms.remove(self.token, &self.arm, &pin());
        self.arm.forget();
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("token", &self.token)
            .field("is_released", &self.is_released)
            .finish_non_exhaustive()
    }
}
