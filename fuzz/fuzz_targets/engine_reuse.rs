//! A few sets, locked again and again in all ways, compared with a naive oracle after every operation. Few requests can
//! rest, and each rests as soon as it may.
//!
//! Properties:
//! 1. a request is granted exactly when no earlier, conflicting request is outstanding;
//! 2. a try succeeds exactly when that is so for a new request;
//! 3. the token of a request is larger than those of all conflicting requests that were made before it, and a restored
//!    request has its own;
//! 4. statistics and listing have the outstanding requests and no resting one;
//! 5. after the close each new request is refused, and when the last one has ended the manager has drained.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use locktopus_engine::{
    Lock, LockError, LockManager, Options, Path, Pending, PreparedLock, PreparedPending,
    PreparedSet, Resource,
};
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::slice;
use std::task::{Context, Waker};

#[path = "../../engine/tests/engine/outstanding.rs"]
mod outstanding;
use outstanding::Outstanding;

#[derive(Debug, Arbitrary)]
struct Input {
    places: u8,
    sets: Vec<Vec<Wish>>,
    operations: Vec<Operation>,
}

/// An index is taken modulo the number of things that it chooses from.
#[derive(Debug, Arbitrary)]
enum Operation {
    Enqueue(u8),
    TryLock(u8),
    /// Enters in steps, all at once.
    Enter(u8),
    /// Locks and releases a set several times.
    Again(u8, u8),
    /// Turns a granted request into a lock.
    Convert(u8),
    /// Narrows a lock to one resource at or below a resource of it.
    Narrow(u8, Wish),
    End(u8),
    /// Restores a set with a token so much above the last one.
    Restore(u8, u8),
    Skip(u8),
    /// Locks a prepared set; the guard lives until the matching `Back`.
    Prepared(u8, Way),
    Back(Ending),
    Close,
}

#[derive(Debug, Arbitrary)]
enum Way {
    Enqueue,
    Try,
    /// Blocks, if it would not wait.
    Lock,
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Ending {
    Drop,
    /// Turns a granted request into a lock before.
    Convert,
    /// Leaks the guard. The next use of the prepared set ends the request.
    Leak,
}

#[derive(Debug, Arbitrary)]
struct Wish {
    write: bool,
    /// Two bits a segment, up to the first `3`.
    path: u8,
}

impl Wish {
    fn below(&self, above: &Path) -> Resource {
        let segments = (0..4)
            .map(|i| self.path >> (2 * i) & 3)
            .take_while(|bits| *bits != 3)
            .map(|bits| ["a", "b", ""][usize::from(bits)].to_owned());
        let above = above.segments().map(|segment| segment.into_owned());
        let path: Path = above.chain(segments).collect();
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

enum Guard<'a> {
    Pending(PreparedPending<'a>),
    Held(PreparedLock<'a>),
}

impl Guard<'_> {
    fn token(&self) -> u64 {
        match self {
            Guard::Pending(pending) => pending.token(),
            Guard::Held(lock) => lock.token(),
        }
    }

    fn is_acquired(&self) -> bool {
        match self {
            Guard::Pending(pending) => pending.is_acquired(),
            Guard::Held(_) => true,
        }
    }
}

/// The guards of prepared sets that live, the youngest first.
struct Frame<'a> {
    guard: &'a Guard<'a>,
    outer: Option<&'a Frame<'a>>,
}

struct Prepared {
    set: PreparedSet,
    resources: Vec<Resource>,
    /// The token of a request whose guard was leaked.
    leaked: Option<u64>,
}

struct Entry {
    set: Vec<Resource>,
    token: u64,
    /// `None` for the request of a prepared set.
    handle: Option<Outstanding>,
    /// The number of its resources, without those that another one covers.
    resources: usize,
}

struct World {
    locks: LockManager,
    sets: Vec<Vec<Resource>>,
    /// The outstanding requests, in the order in which they were made.
    outstanding: Vec<Entry>,
    /// All requests so far.
    made: Vec<(Vec<Resource>, u64)>,
    is_closed: bool,
}

impl World {
    fn set(&self, index: u8) -> Vec<Resource> {
        self.sets[usize::from(index) % self.sets.len()].clone()
    }

    fn is_free(&self, set: &[Resource]) -> bool {
        !(self.outstanding.iter()).any(|one| conflict(&one.set, set))
    }

    /// Notes a new request.
    fn add(&mut self, set: Vec<Resource>, request: Outstanding) {
        let (token, resources) = (request.token(), request.resources().len());
        self.add_entry(Entry {
            set,
            token,
            handle: Some(request),
            resources,
        });
    }

    fn add_entry(&mut self, entry: Entry) {
        let Entry { set, token, .. } = &entry;
        assert!(!self.is_closed);
        let conflicting = self.made.iter().filter(|(other, _)| conflict(other, set));
        for (_, earlier) in conflicting {
            assert!(earlier < token);
        }
        self.made.push((set.clone(), *token));
        self.outstanding.push(entry);
    }

    /// Notes the answer to a request that only a close can refuse.
    fn entered(&mut self, set: Vec<Resource>, answer: Result<Pending, LockError>) {
        match answer {
            Ok(pending) => self.add(set, pending.into()),
            Err(error) => assert!(self.is_closed && error == LockError::Closed),
        }
    }

    /// Whether a try is as the oracle says; after the close it may be refused in two ways.
    fn check_try<T>(&self, set: &[Resource], answer: Result<Option<T>, LockError>) -> Option<T> {
        match answer {
            Ok(tried) => {
                assert_eq!(tried.is_some(), self.is_free(set) && !self.is_closed);
                tried
            }
            Err(error) => {
                assert!(self.is_closed && error == LockError::Closed);
                None
            }
        }
    }

    fn forget(&mut self, token: u64) {
        self.outstanding.retain(|one| one.token != token);
    }

    fn pick(&self, index: u8) -> Option<usize> {
        let count = self.outstanding.len();
        (count > 0).then(|| usize::from(index) % count)
    }

    fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Enqueue(index) => {
                let set = self.set(index);
                let answer = self.locks.enqueue(&set);
                self.entered(set, answer);
            }
            Operation::Enter(index) => {
                let set = self.set(index);
                let entering = self.locks.enqueue_in_steps(set.clone());
                let entered = entering.and_then(|mut entering| {
                    let mut steps = (0..1_000).filter_map(|_| entering.step(0));
                    steps.next().expect("it ends").map(|(pending, _)| pending)
                });
                self.entered(set, entered);
            }
            Operation::TryLock(index) => {
                let set = self.set(index);
                let answer = self.locks.try_lock(&set);
                if let Some(lock) = self.check_try(&set, answer) {
                    self.add(set, lock.into());
                }
            }
            Operation::Again(index, times) => {
                let set = self.set(index);
                for _ in 0..times % 16 {
                    let answer = self.locks.enqueue(&set);
                    self.entered(set.clone(), answer);
                    if !self.is_closed {
                        let again = self.outstanding.pop().expect("just added");
                        let is_acquired = again.handle.is_some_and(|one| one.is_acquired());
                        assert_eq!(is_acquired, self.is_free(&set));
                    }
                }
            }
            Operation::Convert(index) => {
                if let Some(index) = self.pick(index) {
                    let entry = &mut self.outstanding[index];
                    entry.handle = entry.handle.take().map(Outstanding::converted);
                }
            }
            Operation::Narrow(index, ref part) => {
                if let Some(index) = self.pick(index) {
                    self.outstanding[index].narrow(part);
                }
            }
            Operation::End(index) => {
                if let Some(index) = self.pick(index)
                    && self.outstanding[index].handle.is_some()
                {
                    self.outstanding.remove(index);
                }
            }
            Operation::Restore(index, above) => {
                let (set, above) = (self.set(index), u64::from(above % 4));
                let token = self.locks.stats().last_token + above;
                match self.locks.restore(token, set.clone()) {
                    Err(LockError::TokenOutOfRange { .. }) => assert!(above == 0),
                    answer => {
                        assert!(
                            self.is_closed || answer.as_ref().is_ok_and(|one| one.token() == token)
                        );
                        self.entered(set, answer);
                    }
                }
            }
            Operation::Skip(count) => {
                let last = self.locks.stats().last_token + u64::from(count);
                assert_eq!(self.locks.skip_to(last).is_err(), self.is_closed);
            }
            Operation::Close => {
                self.locks.close();
                self.is_closed = true;
            }
            Operation::Prepared(..) | Operation::Back(_) => {}
        }
    }

    fn check(&self, mut frame: Option<&Frame<'_>>) {
        let mut guards = Vec::new();
        while let Some(Frame { guard, outer }) = frame {
            guards.push(guard);
            frame = *outer;
        }
        let mut acquired = 0;
        for (index, one) in self.outstanding.iter().enumerate() {
            let mut earlier = self.outstanding[..index].iter();
            let is_free = !earlier.any(|other| conflict(&other.set, &one.set));
            acquired += usize::from(is_free);
            if let Some(handle) = &one.handle {
                assert_eq!((handle.token(), handle.is_acquired()), (one.token, is_free));
            } else if let Some(guard) = guards.iter().find(|guard| guard.token() == one.token) {
                assert_eq!(guard.is_acquired(), is_free);
            }
        }
        let stats = self.locks.stats();
        let resources = self.outstanding.iter().map(|one| one.resources).sum();
        let counts = (stats.acquired, stats.waiting, stats.resources);
        assert_eq!(
            counts,
            (acquired, self.outstanding.len() - acquired, resources)
        );
        let mut listed: Vec<u64> = self.locks.requests().map(|request| request.token).collect();
        let mut tokens: Vec<u64> = self.outstanding.iter().map(|one| one.token).collect();
        listed.sort_unstable();
        tokens.sort_unstable();
        assert_eq!(listed, tokens);
    }

    /// Runs the operations up to the `Back` that ends the guard of the frame.
    fn run_all(
        &mut self,
        operations: &mut slice::Iter<'_, Operation>,
        prepared: &mut [Prepared],
        frame: Option<&Frame<'_>>,
    ) -> Ending {
        while let Some(operation) = operations.next() {
            match operation {
                Operation::Back(ending) if frame.is_some() => return *ending,
                Operation::Prepared(index, way) if !prepared.is_empty() => {
                    let index = usize::from(*index) % prepared.len();
                    prepared.swap(0, index);
                    if let Some((one, others)) = prepared.split_first_mut() {
                        self.run_prepared(one, way, operations, others, frame);
                    }
                }
                other => self.run(other),
            }
            self.check(frame);
        }
        Ending::Drop
    }

    /// Locks a prepared set, and runs the operations while the guard lives.
    fn run_prepared(
        &mut self,
        one: &mut Prepared,
        way: &Way,
        operations: &mut slice::Iter<'_, Operation>,
        others: &mut [Prepared],
        outer: Option<&Frame<'_>>,
    ) {
        if let Some(token) = one.leaked.take() {
            self.forget(token);
        }
        let count = one.set.resources().len();
        let guard = match way {
            Way::Try => {
                let answer = one.set.try_lock();
                self.check_try(&one.resources, answer).map(Guard::Held)
            }
            Way::Lock if self.is_free(&one.resources) => {
                one.set.blocking_lock().ok().map(Guard::Held)
            }
            Way::Lock | Way::Enqueue => one.set.enqueue().ok().map(Guard::Pending),
        };
        let Some(guard) = guard else {
            assert!(self.is_closed || matches!(way, Way::Try));
            return;
        };
        let token = guard.token();
        self.add_entry(Entry {
            set: one.resources.clone(),
            token,
            handle: None,
            resources: count,
        });
        let frame = Frame {
            guard: &guard,
            outer,
        };
        self.check(Some(&frame));
        match self.run_all(operations, others, Some(&frame)) {
            Ending::Leak => {
                mem::forget(guard);
                one.leaked = Some(token);
                return;
            }
            Ending::Convert => {
                if let Guard::Pending(pending) = guard {
                    let is_acquired = pending.is_acquired();
                    assert_eq!(pending.try_acquired().is_ok(), is_acquired);
                }
            }
            Ending::Drop => drop(guard),
        }
        self.forget(token);
    }
}

impl Entry {
    /// Narrows a held lock.
    fn narrow(&mut self, part: &Wish) {
        let Some(Outstanding::Held(lock)) = &mut self.handle else {
            return;
        };
        let above = &self.set[usize::from(part.path >> 6) % self.set.len()];
        let below = part.below(&above.path);
        let read = Resource::read(below.path.clone());
        let is_write = (self.set.iter())
            .any(|old| old.path.contains(&below.path) && old.conflicts_with(&read));
        let is_covered = below == read || is_write;
        assert_eq!(lock.narrow([below.clone()]).is_ok(), is_covered);
        if is_covered {
            (self.set, self.resources) = (vec![below], 1);
        }
    }
}

fuzz_target!(|input: Input| {
    let sets = input.sets.iter().filter(|set| !set.is_empty()).take(6);
    let resources = |set: &Vec<Wish>| -> Vec<Resource> {
        (set.iter().take(3).map(|wish| wish.below(&Path::root()))).collect()
    };
    let sets: Vec<Vec<Resource>> = sets.map(resources).collect();
    if sets.is_empty() {
        return;
    }
    let options = Options::new()
        .places(usize::from(input.places % 16))
        .eager();
    let locks = LockManager::with(options);
    let prepare = |resources: &Vec<Resource>| Prepared {
        set: locks.prepare(resources).expect("not empty"),
        resources: resources.clone(),
        leaked: None,
    };
    // Two of each: the request of one can rest while the other is locked.
    let mut prepared: Vec<Prepared> = sets.iter().chain(&sets).map(prepare).collect();
    let mut world = World {
        locks: locks.clone(),
        sets,
        outstanding: Vec::new(),
        made: Vec::new(),
        is_closed: false,
    };
    let mut operations = input.operations[..input.operations.len().min(100)].iter();
    world.run_all(&mut operations, &mut prepared, None);
    for one in prepared {
        drop(one.set);
        if let Some(token) = one.leaked {
            world.forget(token);
        }
        world.check(None);
    }
    world.run(&Operation::Close);
    while world.outstanding.pop().is_some() {
        world.check(None);
    }
    assert_eq!(locks.stats().resources, 0);
    let mut context = Context::from_waker(Waker::noop());
    let mut drained = pin!(locks.drained());
    assert!((0..1_000).any(|_| drained.as_mut().poll(&mut context).is_ready()));
});
