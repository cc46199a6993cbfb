//! Other locks: maps of locks by key, and one lock for each segment of a path.
//!
//! The maps keep no order, know no subtrees, and lock one key. Their key is the engine's own path, so no side pays
//! for another form of the key.

use crate::locks::leaf;
use crate::measure::Side;
use lockable::LockPool;
use lockmap::LockMap;
use locktopus_engine::Path;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A key that can be made from a reference, as `lockmap` demands for a lookup by reference.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(Path);

impl From<&Name> for Name {
    fn from(name: &Name) -> Name {
        name.clone()
    }
}

type KeyedLock = keyed_lock::sync::KeyedLock<Name>;

/// The maps, in which as many keys are locked as the engine holds.
pub(crate) struct Peers {
    lockmap: LockMap<Name, ()>,
    keyed_lock: KeyedLock,
    lockable: LockPool<Name>,
    name: Name,
}

impl Peers {
    /// Runs the measurement beside this number of locked keys.
    pub(crate) fn beside<T>(depth: usize, count: usize, measure: impl FnOnce(&Peers) -> T) -> T {
        let peers = Peers {
            lockmap: LockMap::new(),
            keyed_lock: KeyedLock::new(),
            lockable: LockPool::new(),
            name: Name(leaf(depth, "42x")),
        };
        let name = |i: usize| Name(leaf(depth, &i.to_string()));
        let held = (0..count).map(|i| {
            (
                peers.lockmap.entry(name(i)),
                peers.keyed_lock.lock(name(i)),
                peers.lockable.blocking_lock(name(i)),
            )
        });
        let held: Vec<_> = held.collect();
        let result = measure(&peers);
        drop(held);
        result
    }

    pub(crate) fn lockmap(&self) -> Side<'_> {
        Side::new(|| drop(black_box(self.lockmap.entry(self.name.clone()))))
    }

    pub(crate) fn lockmap_by_reference(&self) -> Side<'_> {
        Side::new(|| drop(black_box(self.lockmap.entry_by_ref(&self.name))))
    }

    pub(crate) fn keyed_lock(&self) -> Side<'_> {
        Side::new(|| drop(black_box(self.keyed_lock.lock(self.name.clone()))))
    }

    pub(crate) fn lockable(&self) -> Side<'_> {
        Side::new(|| drop(black_box(self.lockable.blocking_lock(self.name.clone()))))
    }
}

/// A lock for each segment of a path of depth 3, made beforehand: two reads and a write.
pub(crate) struct ThreeLocks<L>([L; 3]);

impl ThreeLocks<parking_lot::RwLock<()>> {
    pub(crate) fn parking_lot() -> Self {
        ThreeLocks([(); 3].map(parking_lot::RwLock::new))
    }

    pub(crate) fn side(&self) -> Side<'_> {
        let [above, parent, leaf] = &self.0;
        Side::new(|| drop(black_box((above.read(), parent.read(), leaf.write()))))
    }
}

impl ThreeLocks<tokio::sync::RwLock<()>> {
    pub(crate) fn tokio() -> Self {
        ThreeLocks([(); 3].map(tokio::sync::RwLock::new))
    }

    pub(crate) fn side(&self) -> Side<'_> {
        let [above, parent, leaf] = &self.0;
        Side::new(|| {
            let held = (
                at_once(above.read()),
                at_once(parent.read()),
                at_once(leaf.write()),
            );
            drop(black_box(held));
        })
    }
}

/// The output of a future that is ready at its first poll.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the lock is free"),
    }
}
