//! Operations compared with a naive oracle after every step: all grants, and the statistics.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use locktopus_engine::{Lock, LockManager, Path, Pending, Resource};

#[path = "../../engine/tests/engine/outstanding.rs"]
mod outstanding;
use outstanding::Outstanding;

#[derive(Debug, Arbitrary)]
enum Operation {
    Enqueue(Vec<Wish>),
    TryLock(Vec<Wish>),
    /// Releases or withdraws an outstanding request.
    End(u8),
    /// Turns a granted request into a lock.
    Convert(u8),
}

#[derive(Debug, Arbitrary)]
struct Wish {
    write: bool,
    /// Two bits a segment, up to the first `3`.
    path: u16,
}

impl Wish {
    fn resource(&self) -> Resource {
        let segments = (0..8)
            .map(|i| self.path >> (2 * i) & 3)
            .take_while(|bits| *bits != 3);
        let path = Path::from(segments.map(|bits| ["a", "b", ""][usize::from(bits)]));
        if self.write {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    }
}

fn conflict(some: &[Resource], others: &[Resource]) -> bool {
    some.iter()
        .any(|one| others.iter().any(|other| one.conflicts_with(other)))
}

/// The outstanding requests in the order of their tokens, each with the set that was asked for.
fn check(locks: &LockManager, outstanding: &[(Vec<Resource>, Outstanding)]) {
    let mut acquired = 0;
    for (index, (set, lock)) in outstanding.iter().enumerate() {
        let blocked = outstanding[..index]
            .iter()
            .any(|(other, _)| conflict(other, set));
        assert_eq!(lock.is_acquired(), !blocked);
        acquired += usize::from(!blocked);
    }
    let stats = locks.stats();
    assert_eq!(
        (stats.acquired, stats.waiting),
        (acquired, outstanding.len() - acquired)
    );
    let resources = outstanding
        .iter()
        .map(|(_, one)| one.resources().len())
        .sum();
    assert_eq!(stats.resources, resources);
}

fuzz_target!(|operations: Vec<Operation>| {
    let locks = LockManager::new();
    let mut outstanding: Vec<(Vec<Resource>, Outstanding)> = Vec::new();
    for operation in operations.iter().take(100) {
        let set = match operation {
            Operation::Enqueue(wishes) | Operation::TryLock(wishes) => {
                wishes.iter().take(5).map(Wish::resource).collect()
            }
            Operation::End(_) | Operation::Convert(_) => Vec::new(),
        };
        match operation {
            Operation::End(index) if !outstanding.is_empty() => {
                drop(outstanding.remove(usize::from(*index) % outstanding.len()));
            }
            Operation::Convert(index) if !outstanding.is_empty() => {
                let index = usize::from(*index) % outstanding.len();
                let (set, request) = outstanding.remove(index);
                outstanding.insert(index, (set, request.converted()));
            }
            Operation::End(_) | Operation::Convert(_) => {}
            _ if set.is_empty() => assert!(locks.enqueue(set).is_err()),
            Operation::Enqueue(_) => {
                let pending = locks.enqueue(set.clone()).expect("open");
                assert!(
                    outstanding
                        .last()
                        .is_none_or(|(_, last)| last.token() < pending.token())
                );
                outstanding.push((set, pending.into()));
            }
            Operation::TryLock(_) => {
                let free = outstanding.iter().all(|(other, _)| !conflict(other, &set));
                let tried = locks.try_lock(set.clone()).expect("open");
                assert_eq!(tried.is_some(), free);
                outstanding.extend(tried.map(|lock| (set, lock.into())));
            }
        }
        check(&locks, &outstanding);
    }
    let listed = locks.requests().count();
    assert_eq!(listed, outstanding.len());
    drop(outstanding);
    assert_eq!(locks.stats().resources, 0);
});
