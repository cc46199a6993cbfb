//! Long answers: pages whose size the clients decide, such as the list of locks.
//!
//! ```text
//!   asked ──waits for a right──► made, on a thread of its own ──► sent ──► the right is given back
//!     │ PATIENCE                                                   │ DEADLINE
//!     └──► 503 `busy`                                              └──► the socket is closed
//! ```
//!
//! # Invariants
//! A1. A right is taken before the work begins, and given back when the memory of the answer is freed. hyper frees the
//!     memory when the socket has taken the last byte, or when it drops the connection. So a client that asks and
//!     hangs up, or asks again before it has read, uses as many rights as answers of it are in memory.
//! A2. A right is given back [`DEADLINE`] after the work has begun at the latest, or when the work ends if that takes
//!     longer: the deadline closes the connection, also if its client reads a byte now and then.
//!
//! The pool [`answers`](crate::shares::Shares) has the rights. Its size bounds the memory of all long answers; each
//! answer bounds itself.

use super::Site;
use super::answers::{Answer, Refusal, content};
use crate::metrics::Metrics;
use crate::shares::{Party, Taken};
use hyper::body::Bytes;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a request waits for the right to an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer may take, from the right to its last byte.
const DEADLINE: Duration = Duration::from_secs(10);

/// The size at which a long answer ends, in bytes. Its last entry can exceed it.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;

/// Makes a long answer on a thread of its own: its work is bounded, but too long for a thread of the runtime.
///
/// `cut` closes the connection of the client.
pub(super) async fn answer(
    site: &Site,
    party: Party,
    cut: &CancellationToken,
    kind: &'static str,
    work: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Answer, Refusal> {
    let shares = &site.shared.shares;
    let waiting = shares.waiting_answers.try_take(party, 1);
    let waiting = waiting.map_err(|refused| Refusal::no_place(refused, "long answers"))?;
    let right = timeout(PATIENCE, shares.answers.take(party, 1)).await;
    let right = right.map_err(|_| Refusal::busy())?;
    drop(waiting);
    let in_time = close_after_deadline(site, cut.clone());
    let metrics = Arc::clone(&site.shared.metrics);
    let made = spawn_blocking(move || Kept::new(work(), metrics, in_time, right));
    match made.await {
        Ok(kept) => Ok(content(kind, Bytes::from_owner(kept))),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(Refusal::shutting_down()),
    }
}

/// Closes the connection after the deadline, unless the guard is dropped before.
fn close_after_deadline(site: &Site, cut: CancellationToken) -> DropGuard {
    let freed = CancellationToken::new();
    let guard = freed.clone().drop_guard();
    let slow = site.shared.metrics.answers_cut.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = freed.cancelled() => {}
            () = sleep(DEADLINE) => {
                slow.inc();
                cut.cancel();
            }
        }
    });
    guard
}

/// The memory of a long answer, with its right.
struct Kept {
    text: Vec<u8>,
    metrics: Arc<Metrics>,
    _in_time: DropGuard,
    _right: Taken,
}

impl Kept {
    fn new(mut text: Vec<u8>, metrics: Arc<Metrics>, in_time: DropGuard, right: Taken) -> Kept {
        text.shrink_to_fit();
        metrics.answer_made(text.capacity());
        Kept {
            text,
            metrics,
            _in_time: in_time,
            _right: right,
        }
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.metrics.answer_freed(self.text.capacity());
    }
}
