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
    let holder = locks.lock(printer())?;

    let impatient = locks.lock(printer())?;
    let in_time = impatient.wait_timeout(Duration::from_millis(10));
    println!(
        "acquired within 10 ms: {in_time}; still in line: {}",
        locks.stats().waiting
    );
    impatient.release();
    println!(
        "tried while it is held: {:?}",
        locks.try_lock(printer())?.map(|lock| lock.token())
    );

    // Queued here, in this order, whatever the threads do.
    let jobs = (1..=3)
        .map(|job| Ok((job, locks.lock(printer())?)))
        .collect::<Result<Vec<_>, LockError>>()?;
    thread::scope(|scope| {
        for (job, lock) in jobs {
            scope.spawn(move || {
                lock.wait();
                println!("job {job} prints under token {}", lock.token());
            });
        }
        holder.release();
    });
    Ok(())
}
