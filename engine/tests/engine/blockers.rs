//! The requests that another one waits for. The oracle compares them after every step of random histories.

use super::{enqueue, lock, set};
use locktopus_engine::{
    Blockers, LockError, LockManager, Pending, RequestInfo, RequestState, Resource,
};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

fn tokens(blockers: Blockers) -> Vec<u64> {
    blockers.map(|request| request.token).collect()
}

#[test]
fn request_with_several_conflicting_resources_is_returned_once() {
    let locks = LockManager::new();
    let held = lock(&locks, "w:a/1 w:a/2 r:b");
    let reader = lock(&locks, "r:c/d");
    let waiting = enqueue(&locks, "w:a r:b w:c");
    let beside = lock(&locks, "w:x");
    assert_eq!(tokens(waiting.blockers()), [held.token(), reader.token()]);
    let before = locks.blockers_before(waiting.token(), waiting.resources().to_vec());
    assert_eq!(tokens(before.unwrap()), [held.token(), reader.token()]);
    let info = waiting.blockers().next().unwrap();
    assert_eq!((info.state, info.waits_for), (RequestState::Acquired, None));
    assert_eq!(info.resources, held.resources());
    drop((held, reader));
    assert!(waiting.is_acquired());
    assert!(tokens(waiting.blockers()).is_empty());
    drop(beside);
}

#[test]
fn new_set_would_wait_for_all_that_are_in_line() {
    let locks = LockManager::new();
    let first = lock(&locks, "r:a");
    let second = enqueue(&locks, "w:a");
    let of = |text| tokens(locks.blockers_of(set(text)).unwrap());
    assert_eq!(of("r:a"), [second.token()]);
    assert_eq!(of("w:a/b"), [second.token(), first.token()]);
    assert!(of("w:b").is_empty());
    assert_eq!(locks.stats().last_token, 2);
    assert_eq!(
        locks.blockers_of(Vec::<Resource>::new()).unwrap_err(),
        LockError::NoResources
    );
    locks.close();
    assert_eq!(
        locks.blockers_of(set("w:a")).unwrap_err(),
        LockError::Closed
    );
    let before = |token| tokens(locks.blockers_before(token, set("w:a")).unwrap());
    assert_eq!(before(2), [1]);
    assert_eq!(before(u64::MAX), [2, 1]);
    assert!(before(0).is_empty());
}

#[test]
fn resolved_pending_has_no_blockers() {
    let locks = LockManager::new();
    let mut pending = enqueue(&locks, "w:a");
    let mut context = Context::from_waker(Waker::noop());
    let lock = pin!(&mut pending).poll(&mut context);
    assert!(lock.is_ready());
    assert!(pending.blockers().is_complete());
    assert_eq!(pending.blockers().count(), 0);
    assert!(pending.blockers().root_holder().is_none());
}

#[test]
fn budget_cuts_the_blockers_and_a_new_one_continues_them() {
    let locks = LockManager::new();
    let _children: Vec<Pending> = (0..200)
        .map(|i| enqueue(&locks, &format!("w:a/{i}")))
        .collect();
    let parent = enqueue(&locks, "w:a");
    let mut blockers = parent.blockers().within(0);
    let mut count = blockers.by_ref().count();
    assert!((1..=2).contains(&count) && !blockers.is_complete());
    let mut parts = 1;
    while !blockers.is_complete() {
        blockers = blockers.within(20);
        count += blockers.by_ref().count();
        parts += 1;
        assert!(parts < 1000, "the blockers come to their end");
    }
    assert_eq!(count, 200);
    assert!(parts > 5, "{parts}");
}

#[test]
fn root_of_a_long_queue_is_found_in_two_links() {
    let locks = LockManager::new();
    let reader = lock(&locks, "r:a/b");
    let queue: Vec<Pending> = (0..10_000).map(|_| enqueue(&locks, "w:a")).collect();
    let below = enqueue(&locks, "r:a/b/c");
    for waiting in [&queue[9_999], &queue[5_000], &queue[0], &below] {
        let root = waiting.blockers().within(10).root_holder().unwrap();
        assert_eq!(
            (root.token, root.state),
            (reader.token(), RequestState::Acquired)
        );
    }
    let blockers = locks.blockers_before(reader.token(), reader.resources().to_vec());
    assert!(blockers.unwrap().root_holder().is_none());
}

#[test]
fn way_to_the_root_is_cut_at_the_budget_and_goes_on_from_there() {
    let locks = LockManager::new();
    let pair = |i: usize| [i, i + 1].map(|i| Resource::write([format!("{i:04}")]));
    let way: Vec<Pending> = (0..1000).map(|i| locks.enqueue(pair(i)).unwrap()).collect();
    let mut at: RequestInfo = way[999].blockers().within(5).root_holder().unwrap();
    let mut parts = 1;
    while at.state == RequestState::Waiting {
        let blockers = locks.blockers_before(at.token, at.resources).unwrap();
        let next = blockers.within(5).root_holder().unwrap();
        assert!(next.token < at.token, "each part makes progress");
        at = next;
        parts += 1;
    }
    assert_eq!(at.token, way[0].token());
    assert!(parts > 50, "{parts}");
    let whole = way[999].blockers().root_holder().unwrap();
    assert_eq!(whole, at);
}
