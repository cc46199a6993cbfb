//! Threads that block: a queue in strict order, a wait that gives up, and a try.
//!
//! ```sh
//! cargo run -p locktopus-engine --example blocking
//! ```

use locktopus_engine::{LockError, LockManager, Resource};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), LockError> {
    let locks = LockManager::new();
    let printer = || [Resource::write(["printer"])];
    let holder = locks.blocking_lock(printer())?;

    let impatient = locks.blocking_lock_timeout(printer(), Duration::from_millis(10))?;
    println!(
        "acquired within 10 ms: {}; still in line: {}",
        impatient.is_some(),
        locks.stats().waiting
    );
    println!(
        "tried while it is held: {:?}",
        locks.try_lock(printer())?.map(|lock| lock.token())
    );

    // The places in line are taken here, in this order, however the threads are scheduled.
    let jobs = (1..=3)
        .map(|job| Ok((job, locks.enqueue(printer())?)))
        .collect::<Result<Vec<_>, LockError>>()?;
    thread::scope(|scope| {
        for (job, pending) in jobs {
            scope.spawn(move || {
                let lock = pending.wait();
                println!("job {job} prints under token {}", lock.token());
            });
        }
        holder.release();
    });
    Ok(())
}
