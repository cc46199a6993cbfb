//! How a lock manager is made.

use crate::clock::LIMIT;
use crate::sync::PLACES;

/// How a lock manager is made; see [`LockManager::with`](crate::LockManager::with).
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Options};
///
/// let locks = LockManager::with(Options::new().last_token(41).places(64));
/// assert_eq!(locks.stats().last_token, 41);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) last_token: u64,
    pub(crate) places: usize,
    pub(crate) is_eager: bool,
}

impl Options {
    /// Tokens start at 1, and there are 1,024 places.
    pub fn new() -> Options {
        Options {
            last_token: 0,
            places: PLACES,
            is_eager: false,
        }
    }

    /// Tokens start after this one. So a manager can replace another one, since fencing tokens must never go back.
    ///
    /// # Panics
    /// If `last_token` is 2⁶¹ or more. Tokens have 62 bits, so at least 2⁶¹ of them are left.
    pub fn last_token(self, last_token: u64) -> Options {
        assert!(last_token < LIMIT, "the last token must be below 2^61");
        Options { last_token, ..self }
    }

    /// The number of places for requests that rest, rounded up to a multiple of four.
    ///
    /// A set that is locked again and again rests in a place between two locks, and its next lock neither allocates nor
    /// touches the lock table. A place takes 48 bytes; a request that rests takes about 400 bytes and 200 for each
    /// further resource. With more places, more sets can rest, and a lock of the root has more of them in its way. With
    /// 0, only [prepared sets](crate::PreparedSet) rest.
    pub fn places(self, places: usize) -> Options {
        Options { places, ..self }
    }

    /// Each request rests at its first release, if a place is free. For tests: it is slower, and reaches more states.
    #[doc(hidden)]
    pub fn eager(self) -> Options {
        Options {
            is_eager: true,
            ..self
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}
