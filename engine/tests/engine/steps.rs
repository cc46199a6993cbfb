//! Operations in steps: random interleavings of the steps of several works and entering requests with plain operations,
//! against a naive oracle; and the promises of single works.
//!
//! Properties, of every interleaving:
//! 1. after each step, no request is granted before all earlier conflicting requests have left;
//! 2. when no work and no entering request is left, a request is granted exactly if no earlier conflicting one is
//!    outstanding, as after the plain operations;
//! 3. a waiting request is counted and listed, and can be withdrawn between any two steps;
//! 4. a work that has left delays no new request;
//! 5. at the end no request is left.

use super::narrow::{Narrower, expected, narrower};
use super::outstanding::Outstanding;
use super::waiting::{Task, block_on, poll_with};
use super::{enqueue, lock, set};
use locktopus_engine::{Entering, Lock, LockError, LockManager, Path, Pending, Resource, Work};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Wake, Waker};

#[derive(Debug, Clone)]
enum Step {
    Enqueue(Vec<Resource>),
    Enter(Vec<Resource>),
    /// A step of an entering request, by an index that is taken modulo their number. The second number is a budget.
    Go(usize, usize),
    /// Withdraws an entering request, at once or in steps.
    GiveUp(usize, bool),
    /// Releases or withdraws an outstanding request, at once or in steps.
    End(usize, bool),
    /// Narrows a granted request, at once or in steps.
    Narrow(usize, Narrower, bool),
    Work(usize, usize),
    DropWork(usize),
}

fn resource() -> impl Strategy<Value = Resource> {
    let segment = prop::sample::select(vec!["a", "b"]);
    let path = prop::collection::vec(segment, 0..4).prop_map(Path::from);
    (path, any::<bool>()).prop_map(|(path, is_write)| {
        if is_write {
            Resource::write(path)
        } else {
            Resource::read(path)
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let set = || prop::collection::vec(resource(), 1..5);
    let index = any::<usize>;
    prop_oneof![
        3 => set().prop_map(Step::Enqueue),
        3 => set().prop_map(Step::Enter),
        8 => (index(), 0..4_usize).prop_map(|(index, budget)| Step::Go(index, budget)),
        1 => (index(), any::<bool>()).prop_map(|(index, steps)| Step::GiveUp(index, steps)),
        5 => (index(), prop::bool::weighted(0.8)).prop_map(|(index, steps)| Step::End(index, steps)),
        4 => (index(), narrower(resource()), prop::bool::weighted(0.8))
            .prop_map(|(index, how, steps)| Step::Narrow(index, how, steps)),
        10 => (index(), 0..4_usize).prop_map(|(index, budget)| Step::Work(index, budget)),
        1 => index().prop_map(Step::DropWork),
    ]
}

#[derive(Default)]
struct World {
    locks: LockManager,
    /// In the order of their tokens, each with the set that was asked for.
    outstanding: Vec<(Vec<Resource>, Outstanding)>,
    entering: Vec<(Vec<Resource>, Entering)>,
    works: Vec<Work>,
}

fn conflict(some: &[Resource], others: &[Resource]) -> bool {
    some.iter()
        .any(|one| others.iter().any(|other| one.conflicts_with(other)))
}

fn pick<T>(all: &mut Vec<T>, index: usize) -> Option<T> {
    let count = all.len();
    (count > 0).then(|| all.swap_remove(index % count))
}

impl World {
    fn entered(&mut self, set: Vec<Resource>, pending: Pending) {
        let token = pending.token();
        let at = self
            .outstanding
            .partition_point(|(_, one)| one.token() < token);
        self.outstanding.insert(at, (set, pending.into()));
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Enqueue(set) => {
                let pending = self.locks.enqueue(set.clone()).expect("open");
                self.entered(set, pending);
            }
            Step::Enter(set) => {
                let entering = self.locks.enqueue_in_steps(set.clone()).expect("open");
                self.entering.push((set, entering));
            }
            Step::Go(index, budget) => {
                if let Some((set, mut entering)) = pick(&mut self.entering, index) {
                    match entering.step(budget) {
                        None => self.entering.push((set, entering)),
                        Some(entered) => {
                            let (pending, work) = entered.expect("open");
                            self.entered(set, pending);
                            self.works.push(work);
                        }
                    }
                }
            }
            Step::GiveUp(index, in_steps) => {
                if let Some((_, entering)) = pick(&mut self.entering, index)
                    && in_steps
                {
                    self.works.push(entering.withdraw_in_steps());
                }
            }
            Step::End(index, in_steps) => {
                let count = self.outstanding.len();
                if count > 0 {
                    let (_, request) = self.outstanding.remove(index % count);
                    match request.converted() {
                        Outstanding::Pending(pending) if in_steps => {
                            self.works.push(pending.withdraw_in_steps());
                        }
                        Outstanding::Held(lock) if in_steps => {
                            self.works.push(lock.release_in_steps());
                        }
                        at_once => drop(at_once),
                    }
                }
            }
            Step::Narrow(index, how, in_steps) => {
                let count = self.outstanding.len();
                if count > 0 {
                    let (held, request) = self.outstanding.remove(index % count);
                    let entered = match request.converted() {
                        Outstanding::Held(lock) => self.narrow(lock, held, &how, in_steps),
                        waits => (held, waits),
                    };
                    self.outstanding.insert(index % count, entered);
                }
            }
            Step::Work(index, budget) => {
                if let Some(mut work) = pick(&mut self.works, index) {
                    let had_left = work.has_left();
                    let is_done = work.step(budget);
                    assert!(work.has_left() >= (had_left || is_done));
                    assert_eq!(is_done, work.is_done());
                    if !is_done {
                        self.works.push(work);
                    }
                }
            }
            Step::DropWork(index) => drop(pick(&mut self.works, index)),
        }
    }

    fn narrow(
        &mut self,
        mut lock: Lock,
        held: Vec<Resource>,
        how: &Narrower,
        in_steps: bool,
    ) -> (Vec<Resource>, Outstanding) {
        let set = how.narrow(&held);
        let answer = expected(&held, &set);
        if in_steps {
            let work = lock.narrow_in_steps(set.clone());
            assert_eq!(work.as_ref().err(), answer.as_ref().err());
            self.works.extend(work);
        } else {
            assert_eq!(lock.narrow(set.clone()), answer);
        }
        (if answer.is_ok() { set } else { held }, lock.into())
    }

    fn check(&self) {
        let is_idle = self.works.is_empty() && self.entering.is_empty();
        let mut waiting = 0;
        for (index, (set, request)) in self.outstanding.iter().enumerate() {
            let mut earlier = self.outstanding[..index].iter();
            let is_blocked = earlier.any(|(other, _)| conflict(other, set));
            let is_acquired = request.is_acquired();
            assert!(!(is_acquired && is_blocked), "granted too early");
            assert!(!is_idle || is_acquired || is_blocked, "granted too late");
            waiting += usize::from(!is_acquired);
        }
        let stats = self.locks.stats();
        assert!(stats.waiting >= waiting);
        let tokens: Vec<u64> = self
            .outstanding
            .iter()
            .map(|(_, one)| one.token())
            .collect();
        let mut listed: Vec<u64> = self.locks.requests().map(|one| one.token).collect();
        listed.sort_unstable();
        assert!(
            tokens
                .iter()
                .all(|token| listed.binary_search(token).is_ok())
        );
        if is_idle {
            assert_eq!(listed, tokens);
            assert_eq!(
                (stats.acquired, stats.waiting),
                (tokens.len() - waiting, waiting)
            );
        }
    }
}

fn run(steps: Vec<Step>) {
    let mut world = World::default();
    for step in steps {
        world.run(step);
        world.check();
    }
    while !world.entering.is_empty() {
        world.run(Step::Go(0, 0));
        world.check();
    }
    while !world.works.is_empty() {
        world.run(Step::Work(0, 0));
        world.check();
    }
    while !world.outstanding.is_empty() {
        world.run(Step::End(0, false));
        world.check();
    }
    assert_eq!(world.locks.stats().resources, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn steps_in_any_order_end_in_the_same_grants(steps in prop::collection::vec(step(), 0..80)) {
        run(steps);
    }
}

fn finish(mut work: Work) -> usize {
    (1..1_000_000).find(|_| work.step(0)).expect("it ends")
}

#[test]
fn a_lock_is_held_until_its_work_has_left() {
    let locks = LockManager::new();
    let (holder, waiter) = (lock(&locks, "w:a w:b w:c"), enqueue(&locks, "w:c"));
    let mut work = holder.release_in_steps();
    assert!(!work.has_left() && !work.is_done());
    let mut steps = 0;
    while !work.has_left() {
        assert_eq!(locks.stats().acquired, 1);
        assert_eq!(locks.requests().count(), 2);
        assert!(!waiter.is_acquired());
        work.step(0);
        steps += 1;
    }
    assert!(steps >= 3, "one step for each entry, not {steps}");
    while !work.step(0) {}
    assert!(waiter.is_acquired());
}

#[test]
fn a_dropped_work_grants_all_waiters() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let readers: Vec<Pending> = (0..100).map(|_| enqueue(&locks, "r:a")).collect();
    let mut work = holder.release_in_steps();
    for _ in 0..50 {
        work.step(0);
    }
    assert!(!readers.iter().all(Pending::is_acquired));
    drop(work);
    assert!(readers.iter().all(Pending::is_acquired));
}

#[test]
fn waiters_are_granted_in_their_order() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let readers: Vec<Pending> = (0..100).map(|_| enqueue(&locks, "r:a")).collect();
    let mut work = holder.release_in_steps();
    while !work.step(0) {
        let granted = readers.iter().filter(|one| one.is_acquired()).count();
        assert!(readers[..granted].iter().all(Pending::is_acquired));
    }
}

#[test]
fn a_request_is_withdrawn_while_a_work_holds_its_watch() {
    let locks = LockManager::new();
    let holder = lock(&locks, "w:a");
    let mut readers: Vec<Pending> = (0..10).map(|_| enqueue(&locks, "r:a")).collect();
    let writer = enqueue(&locks, "w:a");
    let mut work = holder.release_in_steps();
    while !work.has_left() {
        work.step(0);
    }
    let last = readers.pop().expect("ten readers");
    assert!(!last.is_acquired());
    last.withdraw();
    assert!(finish(work) > 5);
    assert!(readers.iter().all(Pending::is_acquired) && !writer.is_acquired());
    drop(readers);
    assert!(writer.is_acquired());
}

/// Other waiters may be woken in a later step.
#[test]
fn a_panic_in_a_waker_leaves_the_rest_in_the_work() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from the waker");
        }
    }
    for budget in [0, 1_000_000] {
        let locks = LockManager::new();
        let holder = lock(&locks, "w:a");
        let mut readers: Vec<Pending> = (0..4).map(|_| enqueue(&locks, "r:a")).collect();
        let panics = Waker::from(Arc::new(Panics));
        assert!(poll_with(&panics, pin!(&mut readers[1])).is_pending());
        let tasks = [Task::new(), Task::new()];
        for (task, reader) in tasks.iter().zip(&mut readers[2..]) {
            assert!(task.poll(pin!(reader)).is_pending());
        }
        let mut work = holder.release_in_steps();
        let mut panicked = 0;
        while !work.is_done() {
            let step = catch_unwind(AssertUnwindSafe(|| work.step(budget)));
            panicked += usize::from(step.is_err());
        }
        assert_eq!(panicked, 1);
        assert!(readers.iter().all(Pending::is_acquired));
        assert!(tasks.iter().all(|task| task.wakeups() == 1));
    }
}

#[test]
fn an_entering_request_delays_others_only_once_it_has_its_place() {
    let locks = LockManager::new();
    let mut entering = locks.enqueue_in_steps(set("w:a w:b w:c")).expect("open");
    assert!(entering.step(0).is_none());
    let other = lock(&locks, "w:a w:c");
    let (pending, work) = loop {
        if let Some(entered) = entering.step(0) {
            break entered.expect("open");
        }
    };
    assert!(work.is_done() && !pending.is_acquired());
    assert!(pending.token() > other.token());
    finish(other.release_in_steps());
    assert!(pending.is_acquired());
}

#[test]
fn a_request_that_pauses_in_its_first_walk_is_listed_as_waiting() {
    let locks = LockManager::new();
    // Writes at the depth of the request, so that its walk searches for each of its paths.
    let beside = lock(&locks, "w:z");
    let mut entering = locks.enqueue_in_steps(set("r:a r:b r:c")).expect("open");
    let mut was_waiting = false;
    while entering.step(0).is_none() {
        let mut listed = locks.requests().filter(|one| one.resources.len() == 3);
        if let Some(entering) = listed.next() {
            assert_eq!(entering.waits_for, None);
            assert_eq!(locks.stats().waiting, 1);
            was_waiting = true;
        }
    }
    assert!(was_waiting);
    assert_eq!(locks.stats().waiting, 0);
    drop(beside);
}

#[test]
fn a_dropped_entering_leaves_nothing() {
    for in_steps in [false, true] {
        for steps in 0..5 {
            let locks = LockManager::new();
            let mut entering = locks
                .enqueue_in_steps(set("w:a w:b r:c w:d"))
                .expect("open");
            for _ in 0..steps {
                assert!(entering.step(0).is_none());
            }
            if in_steps {
                finish(entering.withdraw_in_steps());
            } else {
                drop(entering);
            }
            assert_eq!(locks.stats().resources, 0);
            let free = lock(&locks, "w:");
            drop(free);
        }
    }
}

#[test]
fn a_request_that_is_closed_out_while_it_enters_leaves_nothing() {
    let locks = LockManager::new();
    let mut entering = locks.enqueue_in_steps(set("w:a w:b r:c")).expect("open");
    assert!(entering.step(0).is_none());
    finish(locks.close_in_steps());
    let refused = (0..100).find_map(|_| entering.step(0)).expect("it ends");
    assert_eq!(refused.expect_err("closed"), LockError::Closed);
    assert_eq!(locks.stats().resources, 0);
    assert!(locks.enqueue_in_steps(set("w:a")).is_err());
    block_on(locks.drained());
}

#[test]
fn a_close_in_steps_wakes_every_task_that_waits_for_the_drained_manager() {
    let locks = LockManager::new();
    let task = Task::new();
    let mut waits: Vec<_> = (0..100).map(|_| Box::pin(locks.drained())).collect();
    for wait in &mut waits {
        assert!(task.poll(wait.as_mut()).is_pending());
    }
    let mut work = locks.close_in_steps();
    assert!(work.has_left() && locks.is_closed());
    assert!(!work.step(10));
    assert!((1..50).contains(&task.wakeups()), "some of the tasks");
    while !work.step(10) {}
    assert_eq!(task.wakeups(), 100);
}

#[test]
fn steps_and_works_may_move_between_threads() {
    fn may_move<T: Send + 'static>() {}
    may_move::<Work>();
    may_move::<Entering>();
}
