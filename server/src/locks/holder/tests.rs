use super::*;
use crate::locks::Namespaces;
use crate::metrics::Metrics;
use crate::work::Queues;
use futures_util::FutureExt as _;
use locktopus_engine::Stats;

fn operator() -> (SocketAddr, Party) {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    (address, Party::of_address(address.ip()))
}

/// Namespaces whose queues run only when a test says so.
fn namespaces() -> Namespaces {
    let metrics = Arc::new(Metrics::new());
    let queues = Arc::new(Queues::new(1, &metrics));
    let journal = Journal {
        metrics,
        log_locks: false,
    };
    Namespaces::new(0, 1, journal, queues)
}

/// A holder in the namespace `n`.
fn join(all: &Namespaces, id: u64, abandon_timeout: Duration) -> Arc<Holder> {
    let client = Client {
        id,
        address: operator().0,
        party: operator().1,
        name: None,
        abandon_timeout,
    };
    all.join("n", client, ()).expect("open")
}

/// Requests the path `a` for write.
fn enqueue(holder: &Arc<Holder>) -> (u64, bool) {
    let resources = vec![protocol::Resource::write(["a"])];
    let entered = holder.enqueue(resources, Weight::Light).now_or_never();
    entered.expect("at once").expect("sent").expect("open");
    holder.entered()
}

/// A holder with a lock, a holder that waits for that lock, and their tokens.
fn two(all: &Namespaces) -> ([Arc<Holder>; 2], [u64; 2]) {
    let [held, waiting] = [1, 2].map(|id| join(all, id, Duration::ZERO));
    let (first, acquired) = enqueue(&held);
    assert!(acquired);
    let (second, acquired) = enqueue(&waiting);
    assert!(!acquired && second > first);
    ([held, waiting], [first, second])
}

fn stats(all: &Namespaces) -> Stats {
    let namespace = all.get("n").expect("it has holders");
    namespace.locks.stats()
}

fn release(holder: &Arc<Holder>) {
    assert_eq!(holder.release().now_or_never(), Some(Some(())), "at once");
}

/// Revokes a lock that ends at once.
fn revoke(holder: &Arc<Holder>, token: u64) -> Option<RequestState> {
    let (state, left) = holder.revoke(token, operator())?;
    assert_eq!(left.now_or_never(), Some(Some(())), "at once");
    Some(state)
}

#[test]
fn a_release_grants_the_waiting_request_of_another_holder() {
    let all = namespaces();
    let ([held, waiting], [_, second]) = two(&all);
    assert!(waiting.granted().now_or_never().is_none());
    release(&held);
    assert!(held.current().is_none());
    assert!(waiting.granted().now_or_never().is_some());
    assert_eq!(waiting.current().expect("held").0, second);
    assert!(waiting.granted().now_or_never().is_none(), "once");
}

#[test]
fn a_revoked_lock_has_ended_when_the_call_returns() {
    let all = namespaces();
    let ([held, waiting], [first, second]) = two(&all);
    assert_eq!(revoke(&held, second), None, "not its token");
    assert_eq!(revoke(&held, first), Some(RequestState::Acquired));
    assert_eq!(revoke(&held, first), None, "only once");
    assert!(held.current().is_none());
    assert!(waiting.granted().now_or_never().is_some());
    assert!(held.revoked().now_or_never().is_some());
    assert!(held.revoked().now_or_never().is_some(), "until the release");
    release(&held);
    assert!(held.revoked().now_or_never().is_none());
    assert_eq!(held.journal().metrics.revoked.get(), 1);
}

#[test]
fn a_revoked_request_is_withdrawn_even_if_its_grant_was_not_noticed() {
    let all = namespaces();
    let ([held, waiting], [_, second]) = two(&all);
    release(&held);
    let state = revoke(&waiting, second);
    assert_eq!(state, Some(RequestState::Acquired), "it was granted");
    assert!(waiting.granted().now_or_never().is_none());
    assert_eq!(stats(&all).acquired, 0);
    let metrics = &waiting.journal().metrics;
    assert_eq!((metrics.grants.get(), metrics.withdrawals.get()), (2, 0));
}

#[test]
fn a_revocation_does_not_concern_the_next_lock() {
    let all = namespaces();
    let ([held, _waiting], [first, _]) = two(&all);
    assert!(revoke(&held, first).is_some());
    // The client has released it in the same moment, and requests the next one.
    release(&held);
    let (next, _) = enqueue(&held);
    assert!(held.revoked().now_or_never().is_none());
    assert_eq!(revoke(&held, first), None);
    assert_eq!(held.current().expect("next").0, next);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lock_is_kept_for_the_timeout_or_until_it_is_revoked() {
    let all = namespaces();
    let timeout = Duration::from_secs(60);
    for revoked in [false, true] {
        let holder = join(&all, 1, timeout);
        let (token, _) = enqueue(&holder);
        holder.disconnect();
        let start = Instant::now();
        let operator = async {
            sleep(timeout / 2).await;
            assert_eq!(stats(&all).acquired, 1);
            assert_eq!(holder.remaining(), Some(timeout / 2));
            revoked.then(|| revoke(&holder, token))
        };
        tokio::join!(holder.abandon(), operator);
        let kept = if revoked { timeout / 2 } else { timeout };
        assert!(start.elapsed() >= kept && start.elapsed() < kept + timeout / 4);
        assert_eq!(
            (stats(&all).acquired, holder.current().is_none()),
            (0, true)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_and_a_revoked_lock_are_not_abandoned() {
    let all = namespaces();
    let ([held, waiting], [first, _]) = two(&all);
    revoke(&held, first);
    let start = Instant::now();
    // Granted in the engine, but its client was not told.
    waiting.abandon().await;
    held.abandon().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(stats(&all).acquired, 0);
    for holder in [held, waiting] {
        assert_eq!(holder.journal().metrics.abandoned.get(), 0);
    }
}

/// Far more than a first slice of work.
const WIDE: usize = 4096;

/// Requests many paths below `wide` for write, which takes several turns.
fn enqueue_wide(holder: &Arc<Holder>) -> Soon<Result<(), LockError>> {
    let path = |number: usize| protocol::Resource::write(["wide".to_owned(), number.to_string()]);
    holder.enqueue((0..WIDE).map(path).collect(), Weight::Light)
}

fn run_turns(all: &Namespaces) -> u64 {
    let turns = &all.journal.metrics.turns;
    let before = turns.get();
    while all.queues.turn() {}
    turns.get() - before
}

/// Acquires a wide lock.
fn lock_wide(all: &Namespaces, holder: &Arc<Holder>) -> u64 {
    let entered = enqueue_wide(holder);
    run_turns(all);
    assert_eq!(entered.now_or_never(), Some(Some(Ok(()))));
    let (token, acquired) = holder.entered();
    assert!(acquired);
    token
}

#[test]
fn a_wide_request_enters_in_turns() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::ZERO);
    let mut entered = enqueue_wide(&holder);
    assert!((&mut entered).now_or_never().is_none());
    assert!(holder.current().is_none());
    assert!(run_turns(&all) >= 1);
    assert_eq!(entered.now_or_never(), Some(Some(Ok(()))));
    assert!(holder.entered().1);
    assert_eq!(stats(&all).resources, WIDE);
}

#[test]
fn a_request_whose_connection_ends_while_it_enters_leaves_nothing_behind() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::from_secs(60));
    let entered = enqueue_wide(&holder);
    drop(entered);
    release(&holder);
    drop(holder);
    assert!(all.get("n").is_some(), "the job keeps the namespace");
    let namespace = all.get("n").expect("it has a holder");
    run_turns(&all);
    assert_eq!(namespace.locks.requests().count(), 0);
    assert!(all.get("n").is_none());
    assert_eq!(all.journal.metrics.jobs.get(), 0);
}

#[test]
fn a_request_that_has_entered_unseen_is_withdrawn_at_the_end_of_its_connection() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::from_secs(60));
    drop(enqueue_wide(&holder));
    run_turns(&all);
    assert_eq!(stats(&all).acquired, 1, "it is granted");
    let left = holder.abandon().now_or_never();
    assert!(left.is_none(), "it is not kept, but it takes several turns");
    run_turns(&all);
    assert_eq!(stats(&all).acquired, 0);
    assert_eq!(all.journal.metrics.abandoned.get(), 0);
}

#[test]
fn a_request_whose_connection_ends_during_its_last_step_is_withdrawn() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::from_secs(60));
    let resources = vec![protocol::Resource::write(["a"])];
    drop(holder.enqueue(resources, Weight::Heavy));
    release(&holder);
    // The job has looked before that, and goes on.
    let path = locktopus_engine::Resource::write(["a"]);
    let pending = holder.namespace().locks.enqueue([path]).expect("open");
    assert_eq!(holder.settle(Ok(pending), Instant::now()), Ok(()));
    assert!(holder.current().is_none());
    assert_eq!(stats(&all).acquired, 0);
}

#[test]
fn a_refused_request_is_answered_by_its_job() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::ZERO);
    holder.namespace().locks.close();
    let refused = holder.enqueue(vec![protocol::Resource::write(["a"])], Weight::Heavy);
    run_turns(&all);
    assert_eq!(refused.now_or_never(), Some(Some(Err(LockError::Closed))));
    assert!(holder.current().is_none());
    release(&holder);
    assert_eq!(all.journal.metrics.jobs.get(), 0);
}

#[test]
fn a_revoked_wide_lock_has_ended_when_the_result_resolves() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::ZERO);
    let token = lock_wide(&all, &holder);
    let (state, mut left) = holder.revoke(token, operator()).expect("its lock");
    assert_eq!(state, RequestState::Acquired);
    assert!((&mut left).now_or_never().is_none());
    assert!(holder.revoked().now_or_never().is_some());
    assert_eq!(stats(&all).acquired, 1, "it is still in the table");
    run_turns(&all);
    assert!(left.now_or_never().is_some());
    assert_eq!(stats(&all).acquired, 0);
}

#[test]
fn a_request_that_is_revoked_before_it_is_announced_keeps_its_token() {
    let all = namespaces();
    let holder = join(&all, 1, Duration::ZERO);
    drop(enqueue_wide(&holder));
    run_turns(&all);
    let (token, _) = holder.current().expect("it has entered");
    assert!(holder.revoke(token, operator()).is_some());
    assert_eq!(holder.entered(), (token, false));
    assert!(holder.revoked().now_or_never().is_some());
}

/// The claim of the queues: a release that lets many requests move on does not take the thread of its connection.
#[test]
fn a_release_is_answered_before_the_requests_behind_it_are_served() {
    const WAITING: u64 = 300;
    let all = namespaces();
    let holder = join(&all, 1, Duration::ZERO);
    let (_, acquired) = enqueue(&holder);
    assert!(acquired);
    let waiting: Vec<_> = (2..2 + WAITING)
        .map(|id| join(&all, id, Duration::ZERO))
        .collect();
    for holder in &waiting {
        let path = protocol::Resource::read(["a"]);
        let entered = holder.enqueue(vec![path], Weight::Light).now_or_never();
        entered.expect("at once").expect("sent").expect("open");
        assert!(!holder.entered().1);
    }
    release(&holder);
    assert!(stats(&all).waiting > 0 && all.journal.metrics.jobs.get() == 1);
    run_turns(&all);
    assert_eq!(stats(&all).waiting, 0);
}
