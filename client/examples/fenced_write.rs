//! The late write of a holder that was paused for too long, with and without a fencing token.
//!
//! ```sh
//! cargo run -p locktopus-client --example fenced_write -- ws://127.0.0.1:9009
//! ```
//!
//! ```text
//! slow   lock (token 1) ── reads 0 ── paused, its network is gone ···················· writes 1
//! server                              ······ abandon timeout: released
//! fast                                        lock (token 2) ── reads 0, writes 1 ──
//! ```
//!
//! After two increments the value is 1: an update is lost, though each writer held the lock when it read. A store that
//! keeps the largest token it has seen refuses the late write.

use locktopus_client::{Client, DEFAULT_URL, Error, Options, Resource};
use std::time::Duration;

/// Short, so that the example does not take long.
const ABANDON_TIMEOUT: Duration = Duration::from_millis(100);

/// A value, and the largest token of a write.
#[derive(Default)]
struct Store {
    value: u32,
    token: Option<u64>,
}

impl Store {
    /// Accepts every write.
    fn write(&mut self, value: u32) {
        self.value = value;
    }

    /// Refuses a write whose token is smaller than the largest.
    fn write_fenced(&mut self, value: u32, token: u64) -> Result<(), u64> {
        match self.token {
            Some(newest) if token < newest => Err(newest),
            _ => {
                self.token = Some(token);
                self.value = value;
                Ok(())
            }
        }
    }
}

#[tokio::main]
#[allow(dead_code, reason = "the tests call `run`")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or(DEFAULT_URL)).await
}

/// Runs the example against this server.
pub(crate) async fn run(url: &str) -> Result<(), Error> {
    for fenced in [false, true] {
        let mut store = Store::default();
        let slow = lock_and_stall(url).await?;
        let seen_by_slow = store.value;

        // The server grants the next lock after the abandon timeout.
        let client = Client::connect(url).await?;
        let fast = client.lock([Resource::write(["store"])]).await?;
        let fast_token = fast.token().expect("a server whose ids are tokens");
        if fenced {
            store
                .write_fenced(store.value + 1, fast_token)
                .expect("the newest");
        } else {
            store.write(store.value + 1);
        }
        fast.release().await?;

        // The slow writer continues, and does not know that its lock is lost.
        if fenced {
            match store.write_fenced(seen_by_slow + 1, slow) {
                Ok(()) => unreachable!("{slow} is less than {fast_token}"),
                Err(newest) => {
                    println!(
                        "with tokens: {slow} is refused, since {newest} is larger; the slow writer starts over"
                    );
                    store
                        .write_fenced(store.value + 1, newest + 1)
                        .expect("the newest");
                }
            }
            println!("with tokens: two increments make {}", store.value);
            assert_eq!(store.value, 2);
        } else {
            store.write(seen_by_slow + 1);
            println!("without tokens: two increments make {}", store.value);
            assert_eq!(store.value, 1);
        }
    }
    Ok(())
}

/// Takes the lock on a runtime of its own, like another program, whose network then fails. Returns the token: the
/// program does not know that it will lose the lock.
async fn lock_and_stall(url: &str) -> Result<u64, Error> {
    let mut options = Options::new(url)?;
    options.abandon_timeout = ABANDON_TIMEOUT;
    let program = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let lock = runtime.block_on(async {
            let client = Client::connect(options).await?;
            client.lock([Resource::write(["store"])]).await
        });
        // The socket is closed with the runtime, without a release.
        runtime.shutdown_background();
        lock.map(|lock| lock.token().expect("a server whose ids are tokens"))
    };
    tokio::task::spawn_blocking(program)
        .await
        .expect("no panic")
}
