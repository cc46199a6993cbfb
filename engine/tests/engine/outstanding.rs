//! An outstanding request in either form, for checks that keep both forms in one list.

use super::{Lock, Pending, Resource};

#[derive(Debug)]
pub(crate) enum Outstanding {
    /// In line or granted.
    Pending(Pending),
    Held(Lock),
}

impl Outstanding {
    pub(crate) fn token(&self) -> u64 {
        match self {
            Outstanding::Pending(pending) => pending.token(),
            Outstanding::Held(lock) => lock.token(),
        }
    }

    pub(crate) fn is_acquired(&self) -> bool {
        match self {
            Outstanding::Pending(pending) => pending.is_acquired(),
            Outstanding::Held(_) => true,
        }
    }

    pub(crate) fn resources(&self) -> &[Resource] {
        match self {
            Outstanding::Pending(pending) => pending.resources(),
            Outstanding::Held(lock) => lock.resources(),
        }
    }

    /// The same request, as a lock if it was granted.
    pub(crate) fn converted(self) -> Outstanding {
        match self {
            Outstanding::Pending(pending) => {
                pending.try_acquired().map_or_else(Into::into, Into::into)
            }
            held => held,
        }
    }
}

impl From<Pending> for Outstanding {
    fn from(pending: Pending) -> Outstanding {
        Outstanding::Pending(pending)
    }
}

impl From<Lock> for Outstanding {
    fn from(lock: Lock) -> Outstanding {
        Outstanding::Held(lock)
    }
}
