//! Random histories against a naive sequential oracle, every state compared after every step.
//!
//! Properties:
//! 1. a request is granted exactly when no earlier, conflicting request is outstanding;
//! 2. `try_lock` succeeds exactly when `enqueue` would be granted at once;
//! 3. the token of a request is larger than those of all earlier conflicting requests, and a restored request has its
//!    own;
//! 4. statistics and listing agree with the handles, and a waiting request is listed with an earlier,
//!    conflicting, outstanding request as the one that it waits for;
//! 5. a request has all earlier, conflicting, outstanding requests as its blockers, each once, and its root holder is one
//!    that holds its lock and that it waits for, perhaps over others;
//! 6. a lock is narrowed exactly to a set that it covers, keeps its token, and counts as a request for that set;
//! 7. at the end no request is left.

use super::narrow::{Narrower, expected, narrower};
use super::outstanding::Outstanding;
use locktopus_engine::{Blockers, LockManager, Options, Path, RequestState, Resource};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Step {
    Enqueue(Vec<Resource>),
    /// Turns a granted request into a lock, by an index as below.
    Convert(usize),
    TryLock(Vec<Resource>),
    /// Takes the place of a token, which is so much larger than the last one, or out of range.
    Restore(u64, Vec<Resource>),
    /// Skips so many tokens.
    Skip(u64),
    /// Narrows a granted request, by an index as below.
    Narrow(usize, Narrower),
    /// Tries a prepared set, and takes its place in line for a moment, by an index as below.
    Prepared(usize),
    /// Releases or withdraws an outstanding request, by an index that is taken modulo their number.
    End(usize),
}

pub(crate) fn resource() -> impl Strategy<Value = Resource> {
    let segment = prop::sample::select(vec!["a", "b", "", "a/b"]);
    let path = prop::collection::vec(segment, 0..4).prop_map(Path::from);
    (path, any::<bool>()).prop_map(|(path, write)| {
        if write {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    })
}

/// Sets that are locked again and again, so that their requests rest.
const FEW: [&str; 6] = ["w:a", "r:a", "w:a/b", "r:b w:a/a", "r:", "w:b w:a"];

fn set() -> impl Strategy<Value = Vec<Resource>> {
    prop_oneof![
        1 => prop::collection::vec(resource(), 1..4),
        1 => prop::sample::select(&FEW[..]).prop_map(super::set),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..FEW.len()).prop_map(Step::Prepared),
        4 => set().prop_map(Step::Enqueue),
        1 => any::<usize>().prop_map(Step::Convert),
        1 => set().prop_map(Step::TryLock),
        2 => (0..4_u64, set()).prop_map(|(above, set)| Step::Restore(above, set)),
        1 => (0..3_u64).prop_map(Step::Skip),
        3 => (any::<usize>(), narrower(resource())).prop_map(|(index, how)| Step::Narrow(index, how)),
        4 => any::<usize>().prop_map(Step::End),
    ]
}

/// The outstanding requests in the order in which they were made, each with the set that was asked for.
#[derive(Default)]
struct Oracle(Vec<(Vec<Resource>, Outstanding)>);

fn conflict(some: &[Resource], others: &[Resource]) -> bool {
    some.iter()
        .any(|one| others.iter().any(|other| one.conflicts_with(other)))
}

impl Oracle {
    fn is_granted(&self, index: usize) -> bool {
        let (earlier, rest) = self.0.split_at(index);
        earlier.iter().all(|(set, _)| !conflict(set, &rest[0].0))
    }

    /// Whether the token is larger than those of all requests that conflict with the set.
    fn is_newest(&self, set: &[Resource], token: u64) -> bool {
        let is_earlier = |other: &Outstanding| other.token() < token;
        (self.0.iter()).all(|(other, request)| !conflict(other, set) || is_earlier(request))
    }

    fn check(&self, locks: &LockManager) {
        let listed: Vec<_> = locks.requests().collect();
        assert_eq!(listed.len(), self.0.len());
        let mut acquired = 0;
        for (index, (set, lock)) in self.0.iter().enumerate() {
            let info = listed.iter().find(|info| info.token == lock.token());
            let info = info.expect("it is listed");
            assert_eq!(lock.is_acquired(), self.is_granted(index));
            assert_eq!(lock.resources(), info.resources);
            acquired += usize::from(lock.is_acquired());
            let blocker = info.waits_for.map(|token| {
                self.0[..index]
                    .iter()
                    .find(|(_, other)| other.token() == token)
            });
            match (info.state, blocker) {
                (RequestState::Acquired, None) => assert!(lock.is_acquired()),
                (RequestState::Waiting, Some(Some((other, _)))) => {
                    assert!(!lock.is_acquired() && conflict(other, set));
                }
                (state, _) => panic!("listed as {state:?}, waits for {:?}", info.waits_for),
            }
        }
        let stats = locks.stats();
        assert_eq!(
            (stats.acquired, stats.waiting),
            (acquired, self.0.len() - acquired)
        );
        let resources: usize = self.0.iter().map(|(_, lock)| lock.resources().len()).sum();
        assert_eq!(stats.resources, resources);
    }
}

impl Oracle {
    fn check_blockers(&self, locks: &LockManager) {
        // For each request the earlier ones that conflict with it, and those that it waits for over any way.
        let mut all: Vec<Vec<usize>> = Vec::new();
        let mut reached: Vec<BTreeSet<usize>> = Vec::new();
        for (index, (set, request)) in self.0.iter().enumerate() {
            let is_blocker = |earlier: &usize| conflict(&self.0[*earlier].0, set);
            let blockers: Vec<usize> = (0..index).filter(is_blocker).collect();
            let further = blockers.iter().flat_map(|earlier| &reached[*earlier]);
            reached.push(blockers.iter().chain(further).copied().collect());
            all.push(blockers);

            let tokens = |blockers: Blockers| -> BTreeSet<u64> {
                let tokens: Vec<u64> = blockers.map(|one| one.token).collect();
                let once: BTreeSet<u64> = tokens.iter().copied().collect();
                assert_eq!(once.len(), tokens.len(), "each one once");
                once
            };
            let token_of = |index: &usize| self.0[*index].1.token();
            let expected: BTreeSet<u64> = all[index].iter().map(token_of).collect();
            let before = || {
                let before = locks.blockers_before(request.token(), set.iter().cloned());
                before.expect("not empty")
            };
            assert_eq!(tokens(before()), expected);
            if let Outstanding::Pending(pending) = request {
                assert_eq!(tokens(pending.blockers()), expected);
            }
            let root = before().root_holder();
            assert_eq!(root.is_some(), !expected.is_empty());
            if let Some(root) = root {
                assert_eq!(root.state, RequestState::Acquired);
                assert!(reached[index].iter().any(|one| token_of(one) == root.token));
            }
        }
    }
}

fn run(steps: Vec<Step>, options: Options) {
    let locks = LockManager::with(options);
    let mut prepared = FEW.map(|text| locks.prepare(super::set(text)).expect("not empty"));
    let mut oracle = Oracle::default();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Enqueue(set) => {
                let pending = locks
                    .enqueue(set.iter().cloned())
                    .expect("open and not empty");
                assert!(oracle.is_newest(&set, pending.token()));
                oracle.0.push((set, pending.into()));
            }
            Step::TryLock(set) => {
                let blockers = locks.blockers_of(set.iter().cloned()).expect("open");
                assert_eq!(
                    blockers.count(),
                    (oracle.0.iter().filter(|(other, _)| conflict(other, &set))).count()
                );
                let free = oracle.0.iter().all(|(other, _)| !conflict(other, &set));
                let tried = locks
                    .try_lock(set.iter().cloned())
                    .expect("open and not empty");
                assert_eq!(tried.is_some(), free);
                oracle.0.extend(tried.map(|lock| (set, lock.into())));
            }
            Step::Prepared(index) => {
                let (set, wanted) = (&mut prepared[index], super::set(FEW[index]));
                let free = oracle.0.iter().all(|(other, _)| !conflict(other, &wanted));
                let tried = set.try_lock().expect("open");
                assert_eq!(tried.is_some(), free);
                drop(tried);
                let pending = set.enqueue().expect("open");
                assert_eq!(pending.is_acquired(), free);
                assert!(oracle.is_newest(&wanted, pending.token()));
            }
            Step::Restore(above, set) => {
                let token = locks.stats().last_token + above;
                let restored = locks.restore(token, set.iter().cloned());
                assert_eq!(restored.is_ok(), above > 0);
                oracle
                    .0
                    .extend(restored.ok().map(|pending| (set, pending.into())));
            }
            Step::Skip(count) => {
                let last = locks.stats().last_token;
                locks.skip_to(last + count).expect("open and in range");
                assert_eq!(locks.stats().last_token, last + count);
            }
            Step::Convert(_) | Step::Narrow(..) | Step::End(_) if oracle.0.is_empty() => {}
            Step::Convert(index) => {
                let index = index % oracle.0.len();
                let (set, request) = oracle.0.remove(index);
                oracle.0.insert(index, (set, request.converted()));
            }
            Step::Narrow(index, how) => {
                let index = index % oracle.0.len();
                let (held, request) = oracle.0.remove(index);
                let (set, request) = match request.converted() {
                    Outstanding::Held(mut lock) => {
                        let set = how.narrow(&held);
                        let answer = lock.narrow(set.iter().cloned());
                        assert_eq!(answer, expected(&held, &set));
                        (if answer.is_ok() { set } else { held }, lock.into())
                    }
                    waits => (held, waits),
                };
                oracle.0.insert(index, (set, request));
            }
            Step::End(index) => {
                let index = index % oracle.0.len();
                drop(oracle.0.remove(index));
            }
        }
        oracle.check(&locks);
        if number % 4 == 0 {
            oracle.check_blockers(&locks);
        }
    }
    while oracle.0.pop().is_some() {
        oracle.check(&locks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn engine_and_oracle_agree_after_every_step(steps in prop::collection::vec(step(), 0..60)) {
        run(steps.clone(), Options::new());
        // Requests rest at their first release, and drive out one another.
        run(steps, Options::new().places(4).eager());
    }
}
