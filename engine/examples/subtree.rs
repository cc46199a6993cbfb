//! A tree of resources: children apart, a parent over all of them, and who waits for whom.
//!
//! ```sh
//! cargo run -p locktopus-engine --example subtree
//! ```

use locktopus_engine::{LockError, LockManager, Resource};

fn main() -> Result<(), LockError> {
    let locks = LockManager::new();
    let alice = locks.lock([Resource::write(["docs", "alice", "cv"])])?;
    let bob = locks.lock([Resource::write(["docs", "bob"]), Resource::read(["fonts"])])?;
    println!(
        "children are apart: {} {}",
        alice.is_acquired(),
        bob.is_acquired()
    );

    let backup = locks.lock([Resource::read(["docs"])])?;
    let carol = locks.lock([Resource::write(["docs", "carol"])])?;
    println!("the backup waits for writers below, Carol for the backup:");
    for request in locks.requests() {
        let resources: Vec<String> = request
            .resources
            .iter()
            .map(|resource| format!("{:?} {}", resource.mode, resource.path))
            .collect();
        println!(
            "  {} {:?} {} waits for {:?}",
            request.token,
            request.state,
            resources.join(", "),
            request.waits_for
        );
    }

    alice.release();
    bob.release();
    println!(
        "backup acquired: {}, Carol: {}",
        backup.is_acquired(),
        carol.is_acquired()
    );
    backup.release();
    println!("Carol acquired: {}", carol.is_acquired());
    Ok(())
}
