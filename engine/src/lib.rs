//! A lock-free, in-process lock manager.
//!
//! A request names a *set* of resources, each for read or for write. A resource is a [`Path`] in a
//! tree, and locking a path locks its whole subtree. The set is granted as a whole, conflicting
//! requests strictly first in, first out.
//!
//! ```
//! use locktopus_engine::{LockManager, Resource};
//! use std::thread;
//!
//! let locks = LockManager::new();
//! let mine = locks.lock([Resource::write(["user", "it", "42"]), Resource::read(["reports"])])?;
//! assert!(mine.is_acquired());
//!
//! let next = locks.lock([Resource::read(["user", "it"])])?;
//! assert!(!next.is_acquired()); // it waits for the write below
//! thread::scope(|scope| {
//!     scope.spawn(|| next.wait()); // or `next.acquired().await`, in any runtime
//!     mine.release();
//! });
//! assert!(next.is_acquired() && next.token() > 1);
//! # Ok::<(), locktopus_engine::LockError>(())
//! ```
//!
//! # What it promises
//!
//! Two requests *conflict* if a path of one contains, or equals, a path of the other and at least
//! one of the two is for write.
//!
//! 1. **Order.** Every request has a place in one total order, its [token](Lock::token).
//! 2. **Grant.** A request is granted exactly when no conflicting request with a smaller token is
//!    outstanding: not before, and not later.
//! 3. **Atomicity.** A set is granted as a whole; nothing is held while a request waits. So there
//!    is no deadlock among requests that are each released without waiting for another.
//! 4. **Withdrawal.** A request that waits can be dropped at any moment, and then delays nobody.
//! 5. **Lock-freedom.** No operation waits for a thread that is suspended in the middle of another.
//!    Only [`Lock::wait`], [`Lock::wait_timeout`] and [`Lock::acquired`] wait, for the grant. (The
//!    allocator may lock; that is beyond us.)
//! 6. **Cost.** Nothing grows linearly with the requests that do not conflict, with the readers
//!    that share a path, or with the queue that is joined. Memory comes back when a request ends.
//!
//! # How it works, in short
//!
//! Each outstanding request is an entry in an ordered table, a concurrent skiplist keyed by path.
//! A request inserts its entries, publishes itself, and draws its ticket from a clock; whoever
//! meets a published request without a ticket draws one for it. Then it walks the part of the table
//! where conflicts can be: the ancestors of its path, the path, and its subtree, which is one
//! range. At the first earlier request it leaves a *watch* there and returns; when that request is
//! released, the walk goes on from where it stopped, and at its end the request is granted. The
//! sources say why this is right, each file for its part: `entries.rs` first.
//!
//! # Trade-offs
//!
//! - Strict order is not the fastest order: a large request that waits keeps back later, smaller
//!   ones that conflict with it, though they could be served meanwhile.
//! - Two threads in an otherwise empty table are slower together than one alone, because they
//!   write the same few cache lines. Beside a thousand held locks they are faster.
//! - A release grants all that it makes possible on the releasing thread: about 0.1 µs for each
//!   request, before it returns.
//! - Nothing is recursive: a request never conflicts with itself, but a second request of the same
//!   thread is another request, and waits for the first.
//! - Memory is reclaimed by epochs (`crossbeam-epoch`): what was freed goes back to the allocator
//!   after some more operations, not at once.
//!
//! # Features
//!
//! `serde`: `Serialize` and `Deserialize` for [`Path`], [`Mode`] and [`Resource`], `Serialize` for
//! [`Stats`] and [`RequestInfo`].

mod clock;
mod cursor;
mod entries;
mod error;
mod event;
mod lock;
mod manager;
mod notation;
mod path;
mod request;
mod resource;
mod stats;
mod sync;
mod table;
mod waiter;

pub use error::{LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
pub use lock::{Acquired, Lock};
pub use manager::LockManager;
pub use notation::ParsePathError;
pub use path::Path;
pub use resource::{Mode, Resource};
pub use stats::{RequestInfo, RequestState, Stats};

/// The examples of the README are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
