//! When to ping a silent peer, and when to give it up: pure, told the time.
//!
//! ```text
//!   heard ──── interval ────► ping ──── timeout - interval, and still nothing ────► dead
//!     ▲                        │
//!     └─ any frame, any pong ──┘
//! ```
//!
//! A peer dies of a ping that it does not answer, not of the time that has passed: after a pause of
//! the whole server, or when it is far too late, it is asked once more. Before it dies there is a last
//! look at what may have come already.

use std::time::Duration;
use tokio::time::Instant;

/// How long the last look takes.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    patience: Duration,
    /// When the peer was last heard or pinged.
    last: Instant,
    /// When the peer dies, if it has been pinged and nothing came since.
    death: Option<Instant>,
    /// Whether that is the end of the last look.
    looking: bool,
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
            death: None,
            looking: false,
        })
    }

    /// When something came from the peer last. To be told before it is asked what is due.
    pub(crate) fn heard(&mut self, then: Instant) {
        if then >= self.last {
            (self.last, self.death, self.looking) = (then, None, false);
        }
    }

    /// What is due now; a ping counts as sent.
    pub(crate) fn due(&mut self, now: Instant) -> Beat {
        match self.death {
            Some(death) if now > death + self.patience / 4 => {
                // It is this server that has been asleep.
                (self.death, self.looking) = (None, false);
            }
            Some(death) if now >= death && self.looking => return Beat::Dead,
            Some(death) if now >= death => {
                (self.death, self.looking) = (Some(now + LAST_LOOK), true);
                return Beat::Wait(now + LAST_LOOK);
            }
            Some(death) if self.looking => return Beat::Wait(death),
            _ => {}
        }
        let ping = self.last + self.interval;
        if now < ping {
            return Beat::Wait(self.death.map_or(ping, |death| death.min(ping)));
        }
        self.last = now;
        self.death.get_or_insert(now + self.patience);
        Beat::Ping
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
        let death = later + 15 * SECOND;
        assert_eq!(heartbeat.due(death), Beat::Wait(death + LAST_LOOK));
        assert_eq!(heartbeat.due(death + LAST_LOOK), Beat::Dead);
    }

    #[test]
    fn nobody_dies_of_a_pause_after_a_ping() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(15, 30, start);
        let asked = start + 15 * SECOND;
        assert_eq!(heartbeat.due(asked), Beat::Ping);
        let later = asked + 60 * SECOND;
        assert_eq!(heartbeat.due(later), Beat::Ping, "the server was asleep");
        // An answer that was there all the time.
        heartbeat.heard(later + SECOND);
        assert_eq!(
            heartbeat.due(later + 15 * SECOND),
            Beat::Wait(later + 16 * SECOND)
        );
    }

    #[test]
    fn what_is_there_at_the_last_look_counts() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(15, 30, start);
        assert_eq!(heartbeat.due(start + 15 * SECOND), Beat::Ping);
        let death = start + 30 * SECOND;
        assert_eq!(heartbeat.due(death), Beat::Wait(death + LAST_LOOK));
        heartbeat.heard(death + LAST_LOOK / 2);
        assert!(matches!(heartbeat.due(death + LAST_LOOK), Beat::Wait(_)));
    }

    #[test]
    fn without_an_interval_there_is_no_heartbeat() {
        assert!(Heartbeat::new(Duration::ZERO, SECOND, Instant::now()).is_none());
    }
}
