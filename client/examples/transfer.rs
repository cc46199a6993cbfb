//! Transfers of money between two accounts each, while an auditor checks the total.
//!
//! ```sh
//! cargo run -p locktopus-client --example transfer -- ws://127.0.0.1:9009
//! ```
//!
//! The bank has no transactions: a transfer reads two balances, computes, and writes two balances. Each transfer locks
//! its two accounts as one set, so that two transfers cannot deadlock. The auditor locks all of `accounts` for read: it
//! waits for transfers that are under way, and new ones wait for it.

use locktopus_client::{Client, DEFAULT_URL, Error, Resource};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const ACCOUNTS: usize = 5;
const BEGIN: i64 = 100;
const HOSTS: usize = 4;
const TRANSFERS: usize = 25;

/// Balances that any host can read and write, one at a time.
type Bank = Arc<Vec<AtomicI64>>;

#[tokio::main]
#[allow(dead_code, reason = "the tests call `run`")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or(DEFAULT_URL)).await
}

/// Runs the example against this server.
pub(crate) async fn run(url: &str) -> Result<(), Error> {
    let bank: Bank = Arc::new((0..ACCOUNTS).map(|_| AtomicI64::new(BEGIN)).collect());
    let mut hosts = vec![];
    for number in 0..HOSTS {
        // Each host has a client of its own, as on another machine.
        let client = Client::connect(url).await?;
        hosts.push(tokio::spawn(host(number, client, Arc::clone(&bank))));
    }
    let auditor = Client::connect(url).await?;
    for _ in 0..5 {
        let lock = auditor.lock([Resource::read(["accounts"])]).await?;
        println!("the auditor counts {}", total(&bank));
        assert_eq!(total(&bank), BEGIN * ACCOUNTS as i64);
        lock.release().await?;
    }
    for host in hosts {
        host.await.expect("no panic")?;
    }
    println!("in the end there are {}", total(&bank));
    assert_eq!(total(&bank), BEGIN * ACCOUNTS as i64);
    Ok(())
}

async fn host(number: usize, client: Client, bank: Bank) -> Result<(), Error> {
    for transfer in 0..TRANSFERS {
        let from = (number + transfer) % ACCOUNTS;
        let to = (from + 1 + transfer % (ACCOUNTS - 1)) % ACCOUNTS;
        let account = |number: usize| Resource::write(["accounts".to_owned(), number.to_string()]);
        let lock = client.lock([account(from), account(to)]).await?;

        let (rich, poor) = (
            bank[from].load(Ordering::SeqCst),
            bank[to].load(Ordering::SeqCst),
        );
        let amount = 10.min(rich);
        tokio::task::yield_now().await;
        bank[from].store(rich - amount, Ordering::SeqCst);
        tokio::task::yield_now().await;
        bank[to].store(poor + amount, Ordering::SeqCst);

        lock.release().await?;
    }
    Ok(())
}

fn total(bank: &Bank) -> i64 {
    bank.iter()
        .map(|balance| balance.load(Ordering::SeqCst))
        .sum()
}
