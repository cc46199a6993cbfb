use super::*;
use futures_util::FutureExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

fn party(address: [u8; 4]) -> Party {
    Party::of_address(address.into())
}

/// Queues for one thread, which run only when a test says so.
fn queues() -> Queues {
    Queues::new(1, &Arc::new(Metrics::new()))
}

/// A counter, and a job that counts its steps and takes this many.
fn counting(steps: u32) -> (Arc<AtomicU32>, impl FnMut() -> bool + Send + 'static) {
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let job = move || counter.fetch_add(1, Ordering::Relaxed) + 1 == steps;
    (count, job)
}

#[test]
fn a_turn_ends_at_its_limit_and_the_job_goes_on_later() {
    let queues = queues();
    let (count, mut job) = counting(3);
    queues.push(0, party(A), move || {
        thread::sleep(TURN);
        job()
    });
    for expected in 1..=3 {
        assert!(queues.turn());
        assert_eq!(count.load(Ordering::Relaxed), expected);
    }
    assert!(!queues.turn(), "it is done");
    assert_eq!(queues.desks[0].metrics.turns.get(), 3);
    assert_eq!(queues.desks[0].metrics.jobs.get(), 0);
}

#[test]
fn short_steps_share_a_turn() {
    let queues = queues();
    let (count, job) = counting(10_000);
    queues.push(0, party(A), job);
    while queues.turn() {}
    assert_eq!(count.load(Ordering::Relaxed), 10_000);
    assert!(queues.desks[0].metrics.turns.get() < 1_000);
}

#[test]
fn a_job_that_panics_does_not_end_its_queue() {
    let queues = queues();
    let panicking = queues.run(0, party(A), Weight::Heavy, || panic!("a test"));
    let (count, job) = counting(1);
    queues.push(0, party(A), job);
    while queues.turn() {}
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(panicking.now_or_never(), Some(None::<()>));
}

#[test]
fn work_whose_result_is_not_awaited_any_more_is_left_out() {
    let queues = queues();
    let (count, job) = counting(1);
    drop(queues.run(0, party(A), Weight::Heavy, job));
    while queues.turn() {}
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

/// A job that never ends by itself, and the flag that ends it.
fn endless() -> (Arc<AtomicBool>, impl FnMut() -> bool + Send + 'static) {
    /// Some seconds: without the flag the job fails.
    const STEPS: u32 = 200_000;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut steps = 0;
    let job = move || {
        steps += 1;
        assert!(steps < STEPS, "the runtime does nothing else");
        thread::sleep(TURN / 20);
        stopped.load(Ordering::Relaxed)
    };
    (stop, job)
}

/// Some bytes to and fro over TCP.
async fn echo() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        for _ in 0..10 {
            let byte = stream.read_u8().await.expect("a byte");
            stream.write_u8(byte).await.expect("sent");
        }
    });
    let mut stream = TcpStream::connect(address).await.expect("connects");
    for byte in 0..10 {
        stream.write_u8(byte).await.expect("sent");
        assert_eq!(stream.read_u8().await.expect("a byte"), byte);
    }
    serving.await.expect("no panic");
}

async fn io_goes_on() {
    let metrics = Arc::new(Metrics::new());
    let queues = Queues::start(&metrics);
    let (stop, job) = endless();
    queues.push(0, party(A), job);
    let (stop_other, job) = endless();
    queues.push(1, party(B), job);
    echo().await;
    assert_eq!(metrics.jobs.get(), 2, "in the meantime");
    // The echo waits about 40 times for the I/O of the runtime: after each turn, not after many.
    assert!(metrics.turns.get() < 1_000, "{}", metrics.turns.get());
    stop.store(true, Ordering::Relaxed);
    stop_other.store(true, Ordering::Relaxed);
    while metrics.jobs.get() > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn io_and_other_tasks_go_on_between_turns_on_one_thread() {
    io_goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn io_and_other_tasks_go_on_between_turns_on_several_threads() {
    io_goes_on().await;
}

#[tokio::test]
async fn huge_work_runs_aside_one_at_a_time() {
    let queues = Queues::start(&Arc::new(Metrics::new()));
    let running = Arc::new(AtomicU32::new(0));
    let (stop, mut job) = endless();
    let count = Arc::clone(&running);
    let first = queues.run(0, party(A), Weight::Huge, move || {
        count.fetch_add(1, Ordering::Relaxed);
        while !job() {}
        count.fetch_sub(1, Ordering::Relaxed);
    });
    let count = Arc::clone(&running);
    let second = queues.run(1, party(B), Weight::Huge, move || {
        count.load(Ordering::Relaxed)
    });
    echo().await;
    let heavy = queues.run(0, party(A), Weight::Heavy, || "done meanwhile");
    assert_eq!(heavy.await, Some("done meanwhile"));
    stop.store(true, Ordering::Relaxed);
    assert_eq!((first.await, second.await), (Some(()), Some(0)));
}

#[test]
fn jobs_are_dropped_with_the_runtime_and_so_are_later_ones() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let queues = runtime.block_on(async { Queues::start(&Arc::new(Metrics::new())) });
    let kept = Arc::new(());
    for _ in 0..2 {
        let keep = Arc::clone(&kept);
        queues.push(0, party(A), move || Arc::strong_count(&keep) == 0);
    }
    drop(runtime);
    assert_eq!(Arc::strong_count(&kept), 1);
    let keep = Arc::clone(&kept);
    queues.push(0, party(A), move || Arc::strong_count(&keep) == 0);
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(queues.desks[0].metrics.jobs.get(), 0);
}

#[tokio::test]
async fn the_drivers_end_with_the_queues() {
    let metrics = Arc::new(Metrics::new());
    let queues = Queues::start(&metrics);
    let (_, job) = counting(1);
    queues.push(0, party(A), job);
    drop(queues);
    while Arc::strong_count(&metrics) > 1 {
        yield_now().await;
    }
}
