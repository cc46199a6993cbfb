//! A tree of resources: separate children, a parent above all of them, and which request waits for which.
//!
//! ```sh
//! cargo run -p locktopus-engine --example subtree
//! ```

use locktopus_engine::{LockError, LockManager, Resource};

fn main() -> Result<(), LockError> {
    let locks = LockManager::new();
    let alice = locks.enqueue([Resource::write(["docs", "alice", "cv"])])?;
    let bob = locks.enqueue([Resource::write(["docs", "bob"]), Resource::read(["fonts"])])?;
    println!(
        "separate children are granted at once: {} {}",
        alice.is_acquired(),
        bob.is_acquired()
    );

    let backup = locks.enqueue([Resource::read(["docs"])])?;
    let carol = locks.enqueue([Resource::write(["docs", "carol"])])?;
    println!("the backup waits for the writers below it, and Carol waits for the backup:");
    for request in locks.requests() {
        let resources: Vec<String> = request
            .resources
            .iter()
            .map(|resource| format!("{:?} {:?}", resource.mode, resource.path))
            .collect();
        println!(
            "  {} {:?} {} waits for {:?}",
            request.token,
            request.state,
            resources.join(", "),
            request.waits_for
        );
    }

    alice.wait().release();
    bob.wait().release();
    println!(
        "backup acquired: {}, Carol: {}",
        backup.is_acquired(),
        carol.is_acquired()
    );
    backup.wait().release();
    println!("Carol acquired: {}", carol.is_acquired());
    Ok(())
}
