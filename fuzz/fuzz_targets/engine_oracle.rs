//! Operations, whole and in steps, compared with a naive oracle after every step: no grant is too early, and when no
//! operation is under way, all grants and the statistics are as the oracle says.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use locktopus_engine::{Entering, Lock, LockManager, Path, Pending, Resource, Work};

#[path = "../../engine/tests/engine/outstanding.rs"]
mod outstanding;
use outstanding::Outstanding;

#[derive(Debug, Arbitrary)]
enum Operation {
    Enqueue(Vec<Wish>),
    TryLock(Vec<Wish>),
    /// Takes the place of a token, which is so much larger than the last one, or out of range.
    Restore(u8, Vec<Wish>),
    /// Skips so many tokens.
    Skip(u8),
    /// Releases or withdraws an outstanding request.
    End(u8),
    /// Turns a granted request into a lock.
    Convert(u8),
    /// Begins to enter a request in steps.
    Enter(Vec<Wish>),
    /// A step of an entering request, with a budget; a budget of 255 withdraws it.
    Go(u8, u8),
    /// Releases or withdraws an outstanding request in steps.
    EndInSteps(u8),
    /// Narrows a lock, at once or in steps, to paths below its own. Each number picks one of these.
    Narrow(u8, Vec<(u8, Wish)>, bool),
    /// A step of a work, with a budget; a budget of 255 drops it.
    Work(u8, u8),
}

#[derive(Debug, Arbitrary)]
struct Wish {
    write: bool,
    /// Two bits a segment, up to the first `3`.
    path: u16,
}

impl Wish {
    fn resource(&self) -> Resource {
        self.below(&Path::root())
    }

    fn below(&self, above: &Path) -> Resource {
        let segments = (0..8)
            .map(|i| self.path >> (2 * i) & 3)
            .take_while(|bits| *bits != 3)
            .map(|bits| ["a", "b", ""][usize::from(bits)].to_owned());
        let above = above.segments().map(|segment| segment.into_owned());
        let path = Path::from_iter(above.chain(segments));
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
fn check(locks: &LockManager, outstanding: &[(Vec<Resource>, Outstanding)], is_idle: bool) {
    let mut acquired = 0;
    for (index, (set, lock)) in outstanding.iter().enumerate() {
        let blocked = outstanding[..index]
            .iter()
            .any(|(other, _)| conflict(other, set));
        check_blockers(locks, outstanding, index);
        assert!(!(lock.is_acquired() && blocked));
        assert!(!is_idle || lock.is_acquired() || blocked);
        acquired += usize::from(lock.is_acquired());
    }
    if !is_idle {
        return;
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

/// All earlier, conflicting requests are blockers. A request that leaves in steps may be one as well.
fn check_blockers(locks: &LockManager, outstanding: &[(Vec<Resource>, Outstanding)], index: usize) {
    let (set, request) = &outstanding[index];
    let mut earlier = outstanding[..index].iter();
    let blockers = || (locks.blockers_before(request.token(), set.clone())).expect("not empty");
    let mut tokens: Vec<u64> = blockers().map(|one| one.token).collect();
    tokens.sort_unstable();
    assert!(tokens.is_sorted_by(|one, other| one < other));
    for (other, one) in earlier.by_ref() {
        assert!(!conflict(other, set) || tokens.contains(&one.token()));
    }
    let root = blockers().root_holder();
    assert_eq!(root.is_some(), !tokens.is_empty());
}

fn pick<T>(all: &mut Vec<T>, index: u8) -> Option<T> {
    let count = all.len();
    (count > 0).then(|| all.swap_remove(usize::from(index) % count))
}

fn set_of(wishes: &[Wish]) -> Vec<Resource> {
    wishes.iter().take(5).map(Wish::resource).collect()
}

#[derive(Default)]
struct World {
    locks: LockManager,
    outstanding: Vec<(Vec<Resource>, Outstanding)>,
    entering: Vec<(Vec<Resource>, Entering)>,
    works: Vec<Work>,
}

impl World {
    fn run(&mut self, operation: &Operation) {
        let count = self.outstanding.len();
        match operation {
            Operation::Enqueue(wishes)
            | Operation::TryLock(wishes)
            | Operation::Enter(wishes)
            | Operation::Restore(_, wishes)
                if wishes.is_empty() =>
            {
                assert!(self.locks.enqueue([] as [Resource; 0]).is_err());
            }
            Operation::Enqueue(wishes) => {
                let set = set_of(wishes);
                let pending = self.locks.enqueue(set.clone()).expect("open");
                if let Some((_, last)) = self.outstanding.last() {
                    assert!(last.token() < pending.token());
                }
                self.outstanding.push((set, pending.into()));
            }
            Operation::TryLock(wishes) => {
                let set = set_of(wishes);
                let is_free = !(self.outstanding.iter()).any(|(other, _)| conflict(other, &set));
                let tried = self.locks.try_lock(set.clone()).expect("open");
                assert!(tried.is_none() || is_free);
                assert!(tried.is_some() || !is_free || !self.is_idle());
                self.outstanding
                    .extend(tried.map(|lock| (set, lock.into())));
            }
            Operation::Restore(above, wishes) => {
                let set = set_of(wishes);
                let token = self.locks.stats().last_token + u64::from(*above);
                let restored = self.locks.restore(token, set.clone());
                assert_eq!(restored.is_ok(), *above > 0);
                self.outstanding
                    .extend(restored.ok().map(|pending| (set, pending.into())));
            }
            Operation::Skip(count) => {
                let last = self.locks.stats().last_token;
                (self.locks.skip_to(last + u64::from(*count))).expect("open");
                assert_eq!(self.locks.stats().last_token, last + u64::from(*count));
            }
            Operation::Enter(wishes) => {
                let set = set_of(wishes);
                let entering = self.locks.enqueue_in_steps(set.clone()).expect("open");
                self.entering.push((set, entering));
            }
            Operation::Go(index, budget) => {
                let Some((set, mut entering)) = pick(&mut self.entering, *index) else {
                    return;
                };
                if *budget == u8::MAX {
                    self.works.push(entering.withdraw_in_steps());
                } else if let Some(entered) = entering.step(usize::from(*budget) / 64) {
                    let (pending, work) = entered.expect("open");
                    self.outstanding.push((set, pending.into()));
                    self.outstanding.sort_by_key(|(_, one)| one.token());
                    self.works.push(work);
                } else {
                    self.entering.push((set, entering));
                }
            }
            Operation::Work(index, budget) => {
                if let Some(mut work) = pick(&mut self.works, *index)
                    && *budget < u8::MAX
                    && !work.step(usize::from(*budget) / 64)
                {
                    self.works.push(work);
                }
            }
            Operation::End(_)
            | Operation::Convert(_)
            | Operation::EndInSteps(_)
            | Operation::Narrow(..)
                if count == 0 => {}
            Operation::End(index) => {
                drop(self.outstanding.remove(usize::from(*index) % count));
            }
            Operation::Convert(index) => {
                let index = usize::from(*index) % count;
                let (set, request) = self.outstanding.remove(index);
                self.outstanding.insert(index, (set, request.converted()));
            }
            Operation::Narrow(index, parts, in_steps) => {
                let index = usize::from(*index) % count;
                let (held, request) = self.outstanding.remove(index);
                let entered = match request.converted() {
                    Outstanding::Held(lock) => self.narrow(held, lock, parts, *in_steps),
                    waits => (held, waits),
                };
                self.outstanding.insert(index, entered);
            }
            Operation::EndInSteps(index) => {
                let (_, request) = self.outstanding.remove(usize::from(*index) % count);
                self.works.push(match request {
                    Outstanding::Pending(pending) => pending.withdraw_in_steps(),
                    Outstanding::Held(lock) => lock.release_in_steps(),
                });
            }
        }
    }

    fn narrow(
        &mut self,
        held: Vec<Resource>,
        mut lock: Lock,
        parts: &[(u8, Wish)],
        in_steps: bool,
    ) -> (Vec<Resource>, Outstanding) {
        let mut is_covered = !parts.is_empty();
        let set = parts.iter().take(5).map(|(index, wish)| {
            let above = &held[usize::from(*index) % held.len()];
            let part = wish.below(&above.path);
            let read = Resource::read(part.path.clone());
            let covers =
                |old: &Resource| old.path.contains(&part.path) && old.conflicts_with(&read);
            is_covered &= part == read || held.iter().any(covers);
            part
        });
        let set: Vec<Resource> = set.collect();
        let narrowed = if in_steps {
            lock.narrow_in_steps(set.clone())
                .map(|work| self.works.push(work))
        } else {
            lock.narrow(set.clone())
        };
        assert_eq!(narrowed.is_ok(), is_covered);
        (if is_covered { set } else { held }, lock.into())
    }

    fn is_idle(&self) -> bool {
        self.works.is_empty() && self.entering.is_empty()
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut world = World::default();
    for operation in operations.iter().take(100) {
        world.run(operation);
        check(&world.locks, &world.outstanding, world.is_idle());
    }
    while !world.is_idle() {
        world.run(&Operation::Go(0, 0));
        world.run(&Operation::Work(0, 0));
        check(&world.locks, &world.outstanding, world.is_idle());
    }
    let listed = world.locks.requests().count();
    assert_eq!(listed, world.outstanding.len());
    drop(world.outstanding);
    assert_eq!(world.locks.stats().resources, 0);
});
