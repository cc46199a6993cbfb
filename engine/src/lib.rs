//! A lock-free, in-process lock manager.
//!
//! A request names a *set* of resources, each for read or for write. A resource is a [`Path`] in a
//! tree, and locking a path locks its whole subtree. The set is granted as a whole, and conflicting
//! requests are granted strictly first in, first out.
//!
//! ```
//! use locktopus_engine::{LockManager, Resource};
//! use std::thread;
//!
//! let locks = LockManager::new();
//! let lock = locks.blocking_lock([Resource::write(["user", "it", "42"]), Resource::read(["reports"])])?;
//!
//! let next = locks.enqueue([Resource::read(["user", "it"])])?; // takes its place in line
//! assert!(!next.is_acquired()); // it waits for the write below `user/it`
//! let next = thread::scope(|scope| {
//!     let waits = scope.spawn(|| next.wait()); // or `next.await`, in any runtime
//!     lock.release();
//!     waits.join().unwrap()
//! });
//! assert!(next.token() > 1);
//! # Ok::<(), locktopus_engine::LockError>(())
//! ```
//!
//! | | takes its place in line | returns |
//! |---|---|---|
//! | [`lock`](LockManager::lock)`(set).await` | at the first poll | a [`Lock`] |
//! | [`blocking_lock`](LockManager::blocking_lock)`(set)` | at the call | a [`Lock`], once it is granted |
//! | [`blocking_lock_timeout`](LockManager::blocking_lock_timeout)`(set, timeout)` | at the call | a [`Lock`], or `None` after the timeout |
//! | [`try_lock`](LockManager::try_lock)`(set)` | only if the set is free | a [`Lock`] or `None`, at once |
//! | [`enqueue`](LockManager::enqueue)`(set)` | at the call | a [`Pending`], at once |
//!
//! A set that is locked again and again is best [prepared](LockManager::prepare): the locks of a [`PreparedSet`] are the
//! fastest.
//!
//! For code that must not be kept busy, each operation with much to do has a form in steps of bounded length:
//! [`enqueue_in_steps`](LockManager::enqueue_in_steps), [`Lock::release_in_steps`], [`Lock::narrow_in_steps`],
//! [`Pending::withdraw_in_steps`] and [`LockManager::close_in_steps`].
//!
//! A [`Lock`] is held, always; dropping it releases it. A [`Pending`] is a place in line, and becomes a
//! [`Lock`] when it is awaited or blocked on; dropping it withdraws the request. [`Lock::narrow`] keeps a part of a lock
//! under the same token.
//!
//! [`Lock::wanted`] tells a holder that other requests wait for its lock.
//! [`Pending::blockers`] lists the requests that a request has to wait for, and [`LockManager::requests`] all of them.
//!
//! # Guarantees
//!
//! Two requests *conflict* if a path of one contains, or equals, a path of the other and at least
//! one of the two is for write. A request is *outstanding* from the moment it has its token until it is
//! released or withdrawn.
//!
//! 1. **Order.** No two requests have the same [token](Lock::token), and a request that is made later than a
//!    conflicting one has the larger token. The tokens of requests that do not conflict are in no particular order.
//! 2. **Grant.** A request is granted exactly when no conflicting request with a smaller token is
//!    outstanding: not before, and not later than the end of the operation that made it possible. For an operation in
//!    steps that is the end of its [`Work`].
//! 3. **Atomicity.** A set is granted as a whole, and a waiting request holds nothing. So requests cannot
//!    deadlock, as long as each is released without waiting for another.
//! 4. **Withdrawal.** A waiting request can be dropped at any moment. From then on it delays no request.
//! 5. **Lock-freedom.** No operation waits for a thread that is suspended in the middle of another
//!    operation. Only the calls that wait for a grant wait: awaiting a future, [`Pending::wait`],
//!    [`Pending::wait_timeout`] and the `blocking_` methods. (The allocator may lock; the engine has no
//!    influence on that.)
//! 6. **Cost.** No cost grows linearly with the requests that do not conflict, with the readers that share a
//!    path, or with the queue that is joined. The memory of a request comes back when the request ends.
//!
//! A thread or task that panics while it holds a lock releases it by unwinding. There is no poisoning.
//!
//! # How it works, in short
//!
//! Each outstanding request has an entry for each of its resources in an ordered table, a concurrent
//! skiplist keyed by path. A request inserts its entries, publishes itself, and draws its ticket from a
//! clock; a thread that meets a published request without a ticket draws one for it. Then the request walks
//! the part of the table where conflicts can be: the ancestors of its path, the path, and its subtree,
//! which is one range. At the first earlier request it leaves a *watch* there and returns. When that request is
//! released, the walk goes on from where it stopped, and at its end the request is granted. Each source
//! file argues why its part is correct; begin with `entries.rs`.
//!
//! # Requests that rest
//!
//! A request that was granted at once may *rest* when it is released. Its entries stay in the table, and the next lock of
//! the same set takes the request up again, with a new token. Some tokens are drawn ahead for it. While it rests it is
//! not outstanding: it delays no other request, and it is neither listed nor counted. Counters tell whether anything was
//! inserted near its resources since it was alone there. If not, the next lock is granted without a look at the table.
//! `reuse/mod.rs` has the argument.
//!
//! # Trade-offs
//!
//! - Strict order is not the fastest order: a large waiting request keeps back later, smaller
//!   requests that conflict with it, although they could be served meanwhile.
//! - Two threads in an otherwise empty table are slower together than one alone, because they
//!   write the same few cache lines. Beside a thousand held locks they are faster.
//! - A release advances all requests that waited for it on the releasing thread, before it returns, unless it is done
//!   in steps: about 0.1 µs for each that is granted.
//! - Locks are not reentrant: a request never conflicts with itself, but a second request of the same
//!   thread is another request, and waits for the first.
//! - Memory is reclaimed by epochs (`crossbeam-epoch`): freed memory goes back to the allocator
//!   after some more operations, not at once.
//!
//! # Features
//!
//! `serde`: `Serialize` and `Deserialize` for [`Path`], [`Mode`] and [`Resource`], `Serialize` for
//! [`Stats`] and [`RequestInfo`].

mod arms;
mod backlog;
mod blockers;
mod budget;
mod clock;
mod counters;
mod entries;
mod error;
mod event;
mod home;
mod key;
mod last;
mod listing;
mod lock;
mod manager;
mod narrow;
mod options;
mod path;
mod request;
mod resource;
mod reuse;
mod stats;
mod sync;
mod table;
mod waiter;
mod walk;
mod walker;
mod wanted;
mod work;

pub use blockers::Blockers;
pub use error::{BadPlace, LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES, NarrowError};
pub use listing::{Place, Requests};
pub use lock::{Lock, Pending};
pub use manager::LockManager;
pub use options::Options;
pub use path::Path;
pub use resource::{Mode, Resource};
pub use reuse::{PreparedLock, PreparedPending, PreparedSet};
pub use stats::{RequestInfo, RequestState, Stats};
pub use wanted::Wanted;
pub use work::{Entering, Work};

/// The examples of the README are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
