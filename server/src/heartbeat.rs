//! When to ping a silent peer, and when to give it up: pure, told the time.
//!
//! ```text
//!   heard ──── interval ────► ping ──── timeout - interval, and still nothing ────► dead
//!     ▲                        │
//!     └─ any frame, any pong ──┘
//! ```
//!
//! A peer dies of a ping that it does not answer, not of the time that has passed: after a pause of
//! the whole server, it is pinged first.

use std::time::Duration;
use tokio::time::Instant;

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    patience: Duration,
    /// When the peer was last heard or pinged.
    last: Instant,
    /// When the first ping was sent that is not answered.
    asked: Option<Instant>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing before this time.
    Wait(Instant),
    /// A ping, now.
    Ping,
    /// The peer has been silent for too long.
    Dead,
}

impl Heartbeat {
    /// None if the interval is zero. The timeout is longer than the interval.
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Option<Heartbeat> {
        (!interval.is_zero()).then(|| Heartbeat {
            interval,
            patience: timeout.saturating_sub(interval),
            last: now,
            asked: None,
        })
    }

    /// Something came from the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last = now;
        self.asked = None;
    }

    /// What is due now; a ping counts as sent.
    pub(crate) fn due(&mut self, now: Instant) -> Beat {
        let ping = self.last + self.interval;
        let death = self.asked.map(|asked| asked + self.patience);
        if death.is_some_and(|death| now >= death) {
            Beat::Dead
        } else if now >= ping {
            self.last = now;
            self.asked.get_or_insert(now);
            Beat::Ping
        } else {
            Beat::Wait(death.map_or(ping, |death| death.min(ping)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn heartbeat(interval: u32, timeout: u32, start: Instant) -> Heartbeat {
        Heartbeat::new(interval * SECOND, timeout * SECOND, start).expect("an interval")
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_given_up() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(15, 40, start);
        let mut pings = Vec::new();
        let mut now = start;
        let death = loop {
            match heartbeat.due(now) {
                Beat::Wait(next) => now = next,
                Beat::Ping => pings.push((now - start).as_secs()),
                Beat::Dead => break (now - start).as_secs(),
            }
        };
        assert_eq!((pings, death), (vec![15, 30], 40));
    }

    #[test]
    fn who_says_something_lives_on() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(1, 3, start);
        for second in 1..100 {
            let now = start + second * SECOND;
            assert_eq!(heartbeat.due(now), Beat::Ping);
            heartbeat.heard(now);
            assert_eq!(heartbeat.due(now), Beat::Wait(now + SECOND));
        }
    }

    #[test]
    fn nobody_dies_of_a_pause_of_the_server() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(15, 30, start);
        let later = start + 3600 * SECOND;
        assert_eq!(heartbeat.due(later), Beat::Ping);
        assert_eq!(heartbeat.due(later), Beat::Wait(later + 15 * SECOND));
        assert_eq!(heartbeat.due(later + 15 * SECOND), Beat::Dead);
    }

    #[test]
    fn without_an_interval_there_is_no_heartbeat() {
        assert!(Heartbeat::new(Duration::ZERO, SECOND, Instant::now()).is_none());
    }
}
