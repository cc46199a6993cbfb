//! Keepalive of a connection: whether the server still answers, and until when it surely keeps a lock.
//!
//! `alive_at` is the moment at which *we sent* something that the server has answered since. The server knew the
//! connection after that moment, however long the answer took. So it keeps a lock of this connection at least until
//! `alive_at` + abandon timeout. The moment at which we *received* an answer would prove nothing, since a received
//! answer may be old.

use crate::options::Options;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The deadline until which the server surely keeps a lock of this connection.
#[derive(Debug)]
pub(crate) struct Keepalive {
    alive_at: Mutex<Instant>,
    abandon_timeout: Duration,
}

impl Keepalive {
    pub(crate) fn new(alive_at: Instant, abandon_timeout: Duration) -> Keepalive {
        Keepalive {
            alive_at: Mutex::new(alive_at),
            abandon_timeout,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        /// Replaces a sum that would overflow the clock.
        const AGES: Duration = Duration::from_secs(1 << 30);
        let alive_at = *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner);
        alive_at
            .checked_add(self.abandon_timeout)
            .unwrap_or_else(|| alive_at + AGES)
    }

    /// Records that the server has answered something that was sent at this moment.
    pub(crate) fn alive_at(&self, sent: Instant) {
        let mut alive_at = self.alive_at.lock().unwrap_or_else(PoisonError::into_inner);
        *alive_at = sent.max(*alive_at);
    }
}

/// The pings that are not answered yet.
pub(crate) struct Pings {
    pub(crate) interval: Duration,
    pub(crate) send_timeout: Duration,
    /// How many pings in a row may go unanswered. Ticks are counted, not time: a process that was stopped for a while
    /// read nothing meanwhile, and must not treat that as silence of the server.
    pub(crate) most_silent: u32,
    silent: u32,
    last: u64,
    sent: VecDeque<(u64, Instant)>,
}

impl Pings {
    pub(crate) fn new(options: &Options) -> Pings {
        /// Longer than any process runs, and short enough not to overflow a clock.
        const NEVER: Duration = Duration::from_secs(1 << 30);
        let intervals = options
            .silence_limit
            .as_nanos()
            .div_ceil(options.ping_interval.as_nanos().max(1));
        Pings {
            interval: options.ping_interval.min(NEVER),
            send_timeout: options.silence_limit,
            most_silent: u32::try_from(intervals).unwrap_or(u32::MAX).max(1),
            silent: 0,
            last: 0,
            sent: VecDeque::new(),
        }
    }

    /// The payload of the next ping; `None` if the server has been silent for too long.
    pub(crate) fn next(&mut self) -> Option<[u8; 8]> {
        if self.silent >= self.most_silent {
            return None;
        }
        self.silent += 1;
        Some(self.extra())
    }

    /// The payload of a ping between the ticks, which does not count towards the silence.
    pub(crate) fn extra(&mut self) -> [u8; 8] {
        /// Enough to find the time of a ping that is answered late.
        const REMEMBERED: usize = 64;
        self.last += 1;
        self.sent.truncate(REMEMBERED);
        self.sent.push_front((self.last, Instant::now()));
        self.last.to_be_bytes()
    }

    /// Records that a message of any kind was received.
    pub(crate) fn received(&mut self) {
        self.silent = 0;
    }

    /// The moment at which the ping was sent that this pong answers.
    pub(crate) fn answered(&mut self, payload: &[u8]) -> Option<Instant> {
        let number = u64::from_be_bytes(payload.try_into().ok()?);
        let place = self.sent.iter().position(|(sent, _)| *sent == number)?;
        let (_, sent) = self.sent[place];
        self.sent.truncate(place);
        Some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings() -> Pings {
        let mut options = Options::new("ws://h").expect("a URL");
        options.ping_interval = Duration::from_secs(2);
        options.silence_limit = Duration::from_secs(5);
        Pings::new(&options)
    }

    #[test]
    fn three_unanswered_pings_count_as_silence() {
        let mut pings = pings();
        for _ in 0..2 {
            assert!(pings.next().is_some());
        }
        pings.received();
        for _ in 0..3 {
            assert!(pings.next().is_some());
        }
        assert_eq!(pings.next(), None);
    }

    #[test]
    fn a_pong_tells_when_its_own_ping_was_sent() {
        let mut pings = pings();
        let first = pings.next().expect("a payload");
        let between = Instant::now();
        let second = pings.next().expect("a payload");
        assert!(pings.answered(&first).expect("sent") <= between);
        assert_eq!(pings.answered(&first), None);
        assert!(pings.answered(&second).expect("sent") >= between);
        for unknown in [&b""[..], b"x", &[0; 8], &[0xff; 8]] {
            assert_eq!(pings.answered(unknown), None);
        }
    }

    #[test]
    fn the_deadline_never_moves_back() {
        let start = Instant::now();
        let keepalive = Keepalive::new(start, Duration::from_secs(1));
        let later = start + Duration::from_secs(5);
        keepalive.alive_at(later);
        keepalive.alive_at(start);
        assert_eq!(keepalive.deadline(), later + Duration::from_secs(1));
        let endless = Keepalive::new(start, Duration::MAX);
        assert!(endless.deadline() > start + Duration::from_secs(1 << 20));
    }
}
