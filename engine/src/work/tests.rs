use super::*;
use crate::budget::SPENT;
use crate::{LockManager, Resource};

const BUDGET: usize = 20;
/// The longest part in these tests, in nanoseconds: an entry is removed and memory reclaimed.
const LONGEST_PART: u64 = 70_000;

/// Does all steps. Each spends about its budget, and the count of the steps shows that all is counted.
fn step_to_the_end(mut step: impl FnMut() -> bool) {
    let before = SPENT.get();
    let mut steps = 0;
    let mut is_done = false;
    while !is_done {
        let before = SPENT.get();
        is_done = step();
        let spent = SPENT.get() - before;
        assert!(
            spent <= BUDGET as u64 * 1000 + LONGEST_PART,
            "a step has spent {spent} ns"
        );
        steps += 1;
    }
    assert!(steps > 5, "{steps} steps for {} ns", SPENT.get() - before);
}

fn work_to_the_end(mut work: Work) {
    step_to_the_end(|| work.step(BUDGET));
}

fn enter_to_the_end(entering: &mut Entering) {
    // Kept, since dropping it takes the request out again at once.
    let mut entered = None;
    step_to_the_end(|| {
        entered = entering.step(BUDGET);
        entered.is_some()
    });
}

fn deep(name: usize) -> Vec<Resource> {
    let segments = (0..200).map(|depth| format!("{depth}"));
    let path: Vec<String> = segments.chain([name.to_string()]).collect();
    (0..5)
        .map(|i| {
            let above: Vec<String> = [vec![i.to_string()], path.clone()].concat();
            Resource::write(above)
        })
        .collect()
}

#[test]
fn no_step_exceeds_its_budget_by_more_than_a_part_with_deep_waiters() {
    let locks = LockManager::new();
    let holder = locks.enqueue([Resource::write(Vec::<String>::new())]);
    let holder = holder.expect("open");
    let waiters: Vec<_> = (0..500)
        .map(|i| locks.enqueue(deep(i)).expect("open"))
        .collect();
    work_to_the_end(holder.withdraw_in_steps());
    assert!(waiters.iter().all(Pending::is_acquired));
    let mut entering = (locks.enqueue_in_steps((0..20).flat_map(deep))).expect("open");
    enter_to_the_end(&mut entering);
}

#[test]
fn no_step_exceeds_its_budget_by_more_than_a_part_with_100_000_waiters() {
    let locks = LockManager::new();
    let enqueue = |resource| locks.enqueue([resource]).expect("open");
    let holder = enqueue(Resource::write(["a"]));
    let readers: Vec<_> = (0..100_000)
        .map(|_| enqueue(Resource::read(["a"])))
        .collect();
    work_to_the_end(holder.withdraw_in_steps());
    assert!(readers.iter().all(Pending::is_acquired));
}

/// The purge begins when half of the waiters have been withdrawn. It keeps the others, and drops the old chain.
#[test]
fn no_step_exceeds_its_budget_by_more_than_a_part_in_a_purge_of_100_000() {
    let locks = LockManager::new();
    let enqueue = |resource| locks.enqueue([resource]).expect("open");
    let _holder = enqueue(Resource::write(["a"]));
    let readers: Vec<_> = (0..100_000)
        .map(|_| enqueue(Resource::read(["a"])))
        .collect();
    let mut longest = 0;
    for reader in readers {
        let before = SPENT.get();
        let mut work = reader.withdraw_in_steps();
        let mut steps = 0;
        while !work.is_done() {
            let before = SPENT.get();
            work.step(BUDGET);
            assert!(SPENT.get() - before <= BUDGET as u64 * 1000 + LONGEST_PART);
            steps += 1;
        }
        longest = longest.max(steps);
        assert!(SPENT.get() - before < 100_000 * 1000);
    }
    assert!(longest > 100, "a purge took only {longest} steps");
}

#[test]
fn no_step_exceeds_its_budget_by_more_than_a_part_in_a_set_of_4096() {
    let locks = LockManager::new();
    let set = || (0..4096).map(|i| Resource::write([i.to_string()]));
    let mut entering = locks.enqueue_in_steps(set()).expect("open");
    enter_to_the_end(&mut entering);
    let pending = locks.enqueue(set()).expect("open");
    work_to_the_end(pending.withdraw_in_steps());
    let mut lock = locks.blocking_lock(set()).expect("open");
    let below = (0..4096).map(|i| Resource::read([i.to_string(), "x".to_owned()]));
    work_to_the_end(lock.narrow_in_steps(below).expect("covered"));
    assert_eq!(locks.stats().resources, 4096);
}
