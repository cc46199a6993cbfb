//! Keepalive of a connection: whether the server still answers, and until when it surely keeps a lock.
//!
//! The client counts from the moment at which it *sent* a ping or a request that the server has answered. The server
//! received it after that moment, however long the answer took. So the server keeps a lock of this connection at least
//! until that moment + abandon timeout. The moment at which the client *received* an answer proves nothing: the answer
//! may have been on its way for long. For the same reason only an answer to a ping ends the silence of the server;
//! other messages may be old, and say nothing about what the server has received.
//!
//! Nothing here reads a clock, so that a test can choose all delays.
//!
//! # Invariants
//! K1. The deadline is never later than the last moment at which the server received something + abandon timeout. The
//!     server releases a lock no earlier than that, so the client stops believing in its lock first.
//! K2. If ticks come on time, the connection counts as lost by 5/12 of the abandon timeout after the last ping that the
//!     server has answered was sent. So the holder learns of it while it has time to stop.

use crate::options::Options;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The deadline until which the server surely keeps a lock of this connection.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// When the newest message was sent that the server has answered.
    proven_at: Mutex<Instant>,
    abandon_timeout: Duration,
}

impl Keepalive {
    pub(crate) fn new(started: Instant, abandon_timeout: Duration) -> Keepalive {
        Keepalive {
            proven_at: Mutex::new(started),
            abandon_timeout,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        /// Replaces a sum that would overflow the clock.
        const AGES: Duration = Duration::from_secs(1 << 30);
        let proven_at = *self
            .proven_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        proven_at
            .checked_add(self.abandon_timeout)
            .unwrap_or_else(|| proven_at + AGES)
    }

    /// Records that the server has answered a message that was sent at this moment.
    pub(crate) fn answered(&self, sent: Instant) {
        let mut proven_at = self
            .proven_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *proven_at = sent.max(*proven_at);
    }
}

/// The pings of a connection.
pub(crate) struct Pings {
    pub(crate) interval: Duration,
    pub(crate) send_timeout: Duration,
    /// How many pings in a row may go unanswered. Ticks are counted, not time: a process that was stopped for a while
    /// read nothing meanwhile, and must not treat that as silence of the server.
    pub(crate) most_silent: u32,
    ticks: u64,
    /// The number of ticks when the newest answered ping was sent.
    answered_ticks: u64,
    last: u64,
    sent: VecDeque<Ping>,
}

/// A ping that is not answered yet.
struct Ping {
    number: u64,
    ticks: u64,
    at: Instant,
}

impl Pings {
    pub(crate) fn new(options: &Options) -> Pings {
        /// Longer than any process runs, and short enough not to overflow a clock.
        const NEVER: Duration = Duration::from_secs(1 << 30);
        /// A holder cannot stop in less time, so a shorter abandon timeout needs no faster pings.
        const SHORTEST: Duration = Duration::from_millis(100);
        // K2: a twelfth and a quarter, and the silence is rounded up to whole intervals and begins after one.
        let abandon_timeout = options.abandon_timeout.max(SHORTEST);
        let interval = options.ping_interval.min(abandon_timeout / 12).min(NEVER);
        let silence = options.silence_limit.min(abandon_timeout / 4);
        let intervals = silence.as_nanos().div_ceil(interval.as_nanos().max(1));
        Pings {
            interval,
            send_timeout: silence,
            most_silent: u32::try_from(intervals).unwrap_or(u32::MAX).max(1),
            ticks: 0,
            answered_ticks: 0,
            last: 0,
            sent: VecDeque::new(),
        }
    }

    /// The payload of the ping of the next tick; `None` if the server has been silent for too long.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<[u8; 8]> {
        if self.ticks - self.answered_ticks >= u64::from(self.most_silent) {
            return None;
        }
        self.ticks += 1;
        Some(self.extra(now))
    }

    /// The payload of a ping between the ticks.
    pub(crate) fn extra(&mut self, now: Instant) -> [u8; 8] {
        /// Enough to find the time of a ping that is answered late.
        const REMEMBERED: usize = 64;
        self.last += 1;
        self.sent.truncate(REMEMBERED - 1);
        self.sent.push_front(Ping {
            number: self.last,
            ticks: self.ticks,
            at: now,
        });
        self.last.to_be_bytes()
    }

    /// Records the answer to a ping. Returns when that ping was sent; `None` if the payload is of no ping, or of one
    /// that is answered already.
    pub(crate) fn answered(&mut self, payload: &[u8], keepalive: &Keepalive) -> Option<Instant> {
        let number = u64::from_be_bytes(payload.try_into().ok()?);
        let place = self.sent.iter().position(|ping| ping.number == number)?;
        let Ping { ticks, at, .. } = self.sent[place];
        // The server answers in order, and may skip all but the newest ping: the older ones need no answer any more.
        self.sent.truncate(place);
        self.answered_ticks = ticks;
        keepalive.answered(at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(abandon_timeout: Duration) -> Options {
        let mut options = Options::new("ws://h").expect("a URL");
        options.ping_interval = Duration::from_secs(2);
        options.silence_limit = Duration::from_secs(5);
        options.abandon_timeout = abandon_timeout;
        options
    }

    fn pings() -> Pings {
        Pings::new(&options(Duration::from_secs(60)))
    }

    fn keepalive(start: Instant) -> Keepalive {
        Keepalive::new(start, Duration::from_secs(60))
    }

    #[test]
    fn three_unanswered_pings_count_as_silence() {
        let now = Instant::now();
        let mut pings = pings();
        let mut answered = None;
        for _ in 0..2 {
            answered = pings.tick(now);
        }
        let answered = answered.expect("a payload");
        assert!(pings.answered(&answered, &keepalive(now)).is_some());
        for _ in 0..3 {
            assert!(pings.tick(now).is_some());
        }
        assert_eq!(pings.tick(now), None);
    }

    #[test]
    fn late_answers_to_old_pings_do_not_end_the_silence() {
        let now = Instant::now();
        let mut pings = pings();
        let sent = [0; 3].map(|_| pings.tick(now).expect("a payload"));
        // Each answer comes three ticks late, so the server is three ticks behind.
        assert!(pings.answered(&sent[0], &keepalive(now)).is_some());
        assert!(pings.tick(now).is_some());
        assert_eq!(pings.tick(now), None);
    }

    #[test]
    fn a_pong_tells_when_its_own_ping_was_sent() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let (mut pings, keepalive) = (pings(), keepalive(start));
        let first = pings.tick(start).expect("a payload");
        let second = pings.tick(later).expect("a payload");
        assert_eq!(pings.answered(&first, &keepalive), Some(start));
        assert_eq!(pings.answered(&first, &keepalive), None);
        assert_eq!(pings.answered(&second, &keepalive), Some(later));
        for unknown in [&b""[..], b"x", &[0; 8], &[0xff; 8]] {
            assert_eq!(pings.answered(unknown, &keepalive), None);
        }
        assert_eq!(keepalive.deadline(), later + Duration::from_secs(60));
    }

    #[test]
    fn the_deadline_never_moves_back() {
        let start = Instant::now();
        let keepalive = Keepalive::new(start, Duration::from_secs(1));
        let later = start + Duration::from_secs(5);
        keepalive.answered(later);
        keepalive.answered(start);
        assert_eq!(keepalive.deadline(), later + Duration::from_secs(1));
        let endless = Keepalive::new(start, Duration::MAX);
        assert!(endless.deadline() > start + Duration::from_secs(1 << 20));
    }

    #[test]
    fn unanswered_pings_are_forgotten_beyond_a_limit() {
        let now = Instant::now();
        let mut pings = pings();
        for _ in 0..10_000 {
            pings.extra(now);
        }
        assert_eq!(pings.sent.len(), 64);
    }

    /// What happens on the way between client and server.
    #[derive(Debug, Clone, Copy)]
    struct Way {
        /// Milliseconds until the message arrives; a message never overtakes an earlier one.
        delay_ms: u64,
        lost: bool,
    }

    fn way() -> impl Strategy<Value = Way> {
        let delay_ms = prop_oneof![4 => 0..50_u64, 1 => 0..20_000_u64];
        let lost = prop::bool::weighted(0.02);
        (delay_ms, lost).prop_map(|(delay_ms, lost)| Way { delay_ms, lost })
    }

    // Properties of a client and a server with arbitrary delays in both directions, of which each may fall silent:
    // 1. K1: at every moment, the deadline of the client is at most the abandon timeout after the last message that
    //    the server has received.
    // 2. K2: the client reports the loss at the latest 5/12 of the abandon timeout after the last answered ping was
    //    sent, and so before the server, which has received that ping later, can release the lock.
    proptest! {
        #[test]
        fn the_client_gives_up_before_the_server_can_release(
            abandon_ms in 100..100_000_u64,
            ways in prop::collection::vec((way(), way()), 1..200),
        ) {
            let abandon = Duration::from_millis(abandon_ms);
            let start = Instant::now();
            let mut pings = Pings::new(&options(abandon));
            let keepalive = Keepalive::new(start, abandon);
            // The pongs that arrive at the client, and when the server received their pings. The server received the
            // handshake after the start.
            let mut pongs: VecDeque<(Instant, [u8; 8])> = VecDeque::new();
            let (mut to_server, mut to_client) = (start, start);
            let (mut received, mut answered_at) = (vec![start], start);
            let (mut server_hears, mut client_hears) = (true, true);
            let mut now = start;
            let silent = Way { delay_ms: 0, lost: true };
            for (there, back) in ways.into_iter().chain(std::iter::repeat((silent, silent))) {
                now += pings.interval;
                while let Some((arrives, payload)) = pongs.front().copied() {
                    if arrives > now {
                        break;
                    }
                    pongs.pop_front();
                    answered_at = pings.answered(&payload, &keepalive).unwrap_or(answered_at);
                    let last = received.iter().filter(|at| **at <= arrives).max();
                    let last = *last.expect("the handshake");
                    prop_assert!(keepalive.deadline() <= last + abandon);
                }
                let Some(payload) = pings.tick(now) else {
                    prop_assert!(now <= answered_at + abandon * 5 / 12 + Duration::from_millis(1));
                    prop_assert!(now < received[received.len() - 1] + abandon);
                    break;
                };
                // A lost message ends its direction, as a broken TCP connection does.
                server_hears &= !there.lost;
                client_hears &= !back.lost;
                if server_hears {
                    to_server = to_server.max(now + Duration::from_millis(there.delay_ms));
                    received.push(to_server);
                    to_client = to_client.max(to_server + Duration::from_millis(back.delay_ms));
                    if client_hears {
                        pongs.push_back((to_client, payload));
                    }
                }
            }
        }
    }
}
