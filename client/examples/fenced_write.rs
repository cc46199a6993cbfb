//! What a holder does that is paused for too long, with and without a fencing token.
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
//! Two increments and the value is 1: an update is lost, though each of the two held the lock. A store
//! that remembers the largest token it has seen refuses the late write.

use locktopus_client::{Client, DEFAULT_URL, Error, Options, Resource};
use std::time::Duration;

/// Short, so that the example is.
const ABANDON_TIMEOUT: Duration = Duration::from_millis(100);

/// A value, and the largest token that came with a write.
#[derive(Default)]
struct Store {
    value: u32,
    token: Option<u64>,
}

impl Store {
    /// Takes whatever comes.
    fn write(&mut self, value: u32) {
        self.value = value;
    }

    /// Refuses what is older than the newest.
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

/// The example, on this server.
pub(crate) async fn run(url: &str) -> Result<(), Error> {
    for fenced in [false, true] {
        let mut store = Store::default();
        let slow = lock_and_stall(url).await?;
        let seen_by_slow = store.value;

        // The server gives the lock to the next after the abandon timeout.
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

        // The slow one goes on as if nothing had been.
        if fenced {
            match store.write_fenced(seen_by_slow + 1, slow) {
                Ok(()) => unreachable!("{slow} is less than {fast_token}"),
                Err(newest) => {
                    println!(
                        "with tokens: {slow} is refused, since {newest} was there; it starts over"
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

/// Takes the lock in a program of its own, so to speak, whose network then ends without a word.
/// It returns with the token: the program does not know that its lock is going to be lost.
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
        // The socket is closed with the runtime; nobody tells the server of a release.
        runtime.shutdown_background();
        lock.map(|lock| lock.token().expect("a server whose ids are tokens"))
    };
    tokio::task::spawn_blocking(program)
        .await
        .expect("no panic")
}
