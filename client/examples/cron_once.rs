//! Many hosts start the same job at the same time, and one of them runs it.
//!
//! ```sh
//! cargo run -p locktopus-client --example cron_once -- ws://127.0.0.1:9009
//! ```
//!
//! A host that does not get the lock at once has nothing to do: another host runs the job. A host that gets the lock
//! checks whether the job has already run, since a late host finds the lock free again. It stops if the lock is lost,
//! since another host may start the job then. The same in a crontab, without a program:
//! `locktopus run -w cron/nightly --try -E 0 -- ./nightly`.

use locktopus_client::{Client, DEFAULT_URL, Error, Options, Resource};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const HOSTS: usize = 6;

#[tokio::main]
#[allow(dead_code, reason = "the tests call `run`")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or(DEFAULT_URL)).await
}

/// Runs the example against this server.
pub(crate) async fn run(url: &str) -> Result<(), Error> {
    // Shared by all hosts, as a table of finished jobs would be.
    let runs = Arc::new(AtomicU32::new(0));
    let mut hosts = vec![];
    for number in 0..HOSTS {
        let mut options = Options::new(url)?;
        options.client_name = Some(format!("host {number}"));
        hosts.push(tokio::spawn(host(number, options, Arc::clone(&runs))));
    }
    for host in hosts {
        host.await.expect("no panic")?;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    Ok(())
}

async fn host(number: usize, options: Options, runs: Arc<AtomicU32>) -> Result<(), Error> {
    let client = Client::connect(options).await?;
    let Some(lock) = client
        .try_lock([Resource::write(["cron", "nightly"])])
        .await?
    else {
        println!("host {number}: another runs the job");
        return Ok(());
    };
    if runs.load(Ordering::SeqCst) > 0 {
        println!("host {number}: the job is done");
        return lock.release().await;
    }
    println!("host {number}: runs the job with token {:?}", lock.token());
    tokio::select! {
        () = job() => {
            runs.fetch_add(1, Ordering::SeqCst);
            lock.release().await
        }
        lost = lock.lost() => {
            println!("host {number}: stopped, with {:?} left", lost.time_left());
            Err(lost.reason().clone())
        }
    }
}

async fn job() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
