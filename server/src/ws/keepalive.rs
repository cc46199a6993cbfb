//! When to ping a silent peer, and when it counts as broken. Pure: the caller passes the time.
//!
//! ```text
//!   received ── interval ────► ping ──── timeout - interval without any bytes ────► broken
//!     ▲                          │
//!     └─ any bytes, also a pong ─┘
//! ```
//!
//! A peer counts as broken because it did not answer a ping, not because time has passed: after a pause of the whole
//! server it is pinged once more. Before it counts as broken, the server looks once more for bytes that have arrived.

use std::time::Duration;
use tokio::time::Instant;

/// How long the server looks for bytes at the end of the timeout.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The keepalive of one connection.
#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    /// How long the peer may take to answer a ping.
    answer_timeout: Duration,
    /// When bytes last came from the peer, or the last ping was sent; the later of the two.
    last: Instant,
    /// When the peer counts as broken, if it was pinged and has sent nothing since.
    deadline: Option<Instant>,
    /// Whether the deadline is the end of the last look.
    looking: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing is due before this time.
    At(Instant),
    /// A ping is due now.
    Ping,
    /// The peer has not answered.
    Broken,
}

impl Keepalive {
    /// `None` if the interval is zero. The timeout must be longer than the interval.
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Option<Keepalive> {
        (!interval.is_zero()).then(|| Keepalive {
            interval,
            answer_timeout: timeout.saturating_sub(interval),
            last: now,
            deadline: None,
            looking: false,
        })
    }

    /// Records when the last bytes came from the peer. To be called before [`due`](Keepalive::due).
    pub(super) fn received(&mut self, then: Instant) {
        if then >= self.last {
            (self.last, self.deadline, self.looking) = (then, None, false);
        }
    }

    /// What is due now; a ping counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        match self.deadline {
            Some(deadline) if now > deadline + self.answer_timeout / 4 => {
                // This server has paused, not the peer.
                (self.deadline, self.looking) = (None, false);
            }
            Some(deadline) if now >= deadline && self.looking => return Due::Broken,
            Some(deadline) if now >= deadline => {
                (self.deadline, self.looking) = (Some(now + LAST_LOOK), true);
                return Due::At(now + LAST_LOOK);
            }
            Some(deadline) if self.looking => return Due::At(deadline),
            _ => {}
        }
        let ping = self.last + self.interval;
        if now < ping {
            return Due::At(self.deadline.map_or(ping, |deadline| deadline.min(ping)));
        }
        self.last = now;
        self.deadline.get_or_insert(now + self.answer_timeout);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive(interval: u32, timeout: u32, start: Instant) -> Keepalive {
        Keepalive::new(interval * SECOND, timeout * SECOND, start).expect("an interval")
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_counts_as_broken() {
        let start = Instant::now();
        let mut keepalive = keepalive(15, 40, start);
        let mut pings = Vec::new();
        let mut now = start;
        let broken = loop {
            match keepalive.due(now) {
                Due::At(next) => now = next,
                Due::Ping => pings.push((now - start).as_secs()),
                Due::Broken => break (now - start).as_secs(),
            }
        };
        assert_eq!((pings, broken), (vec![15, 30], 40));
    }

    #[test]
    fn a_peer_that_answers_never_counts_as_broken() {
        let start = Instant::now();
        let mut keepalive = keepalive(1, 3, start);
        for second in 1..100 {
            let now = start + second * SECOND;
            assert_eq!(keepalive.due(now), Due::Ping);
            keepalive.received(now);
            assert_eq!(keepalive.due(now), Due::At(now + SECOND));
        }
    }

    #[test]
    fn a_pause_of_the_server_does_not_break_a_connection() {
        let start = Instant::now();
        let mut keepalive = keepalive(15, 30, start);
        let later = start + 3600 * SECOND;
        assert_eq!(keepalive.due(later), Due::Ping);
        assert_eq!(keepalive.due(later), Due::At(later + 15 * SECOND));
        let broken = later + 15 * SECOND;
        assert_eq!(keepalive.due(broken), Due::At(broken + LAST_LOOK));
        assert_eq!(keepalive.due(broken + LAST_LOOK), Due::Broken);
    }

    #[test]
    fn a_pause_of_the_server_after_a_ping_does_not_break_a_connection() {
        let start = Instant::now();
        let mut keepalive = keepalive(15, 30, start);
        let asked = start + 15 * SECOND;
        assert_eq!(keepalive.due(asked), Due::Ping);
        let later = asked + 60 * SECOND;
        assert_eq!(keepalive.due(later), Due::Ping, "the server has paused");
        // The answer had arrived during the pause.
        keepalive.received(later + SECOND);
        assert_eq!(
            keepalive.due(later + 15 * SECOND),
            Due::At(later + 16 * SECOND)
        );
    }

    #[test]
    fn bytes_that_arrive_during_the_last_look_count_as_an_answer() {
        let start = Instant::now();
        let mut keepalive = keepalive(15, 30, start);
        assert_eq!(keepalive.due(start + 15 * SECOND), Due::Ping);
        let broken = start + 30 * SECOND;
        assert_eq!(keepalive.due(broken), Due::At(broken + LAST_LOOK));
        keepalive.received(broken + LAST_LOOK / 2);
        assert!(matches!(keepalive.due(broken + LAST_LOOK), Due::At(_)));
    }

    #[test]
    fn a_zero_interval_disables_the_keepalive() {
        assert!(Keepalive::new(Duration::ZERO, SECOND, Instant::now()).is_none());
    }
}
