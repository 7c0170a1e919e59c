//! Pings. The clients never ping: they count on the hub to do it every 20 s, and so do the proxies between. Pure.

use std::time::{Duration, Instant};

/// From the handshake, or from the last pong, to the next ping.
pub const PING_AFTER: Duration = Duration::from_secs(20);

/// From a ping to its pong.
pub const PONG_WITHIN: Duration = Duration::from_secs(20);

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a ping with these bytes.
    Ping([u8; 4]),
    /// The peer is dead.
    Dead,
}

/// The pings of one connection.
#[derive(Debug)]
pub struct Keepalive {
    until: Instant,
    open: Option<[u8; 4]>,
}

impl Keepalive {
    /// After the handshake.
    pub fn new(now: Instant) -> Self {
        Self { until: now + PING_AFTER, open: None }
    }

    /// When to call [`Self::due`] next.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// What is due now; `payload` goes into a ping.
    pub fn due(&mut self, now: Instant, payload: impl FnOnce() -> [u8; 4]) -> Due {
        if now < self.until {
            return Due::Nothing;
        }
        if self.open.is_some() {
            return Due::Dead;
        }
        let payload = payload();
        self.open = Some(payload);
        self.until = now + PONG_WITHIN;
        Due::Ping(payload)
    }

    /// A pong came; only the one that answers the open ping counts.
    pub fn pong(&mut self, now: Instant, payload: &[u8]) {
        if self.open.is_some_and(|open| open == payload) {
            self.open = None;
            self.until = now + PING_AFTER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_every_20_s_after_the_last_pong() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pings = Keepalive::new(start);
        assert_eq!(pings.due(at(19), || *b"abcd"), Due::Nothing);
        assert_eq!(pings.due(at(20), || *b"abcd"), Due::Ping(*b"abcd"));
        pings.pong(at(25), b"abcd");
        assert_eq!(pings.until(), at(45));
        assert_eq!(pings.due(at(45), || *b"efgh"), Due::Ping(*b"efgh"));
    }

    #[test]
    fn no_pong_within_20_s_or_a_wrong_one_is_death() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pings = Keepalive::new(start);
        assert_eq!(pings.due(at(20), || *b"abcd"), Due::Ping(*b"abcd"));
        pings.pong(at(21), b"wxyz");
        pings.pong(at(21), b"");
        assert_eq!(pings.due(at(39), || *b"efgh"), Due::Nothing);
        assert_eq!(pings.due(at(40), || *b"efgh"), Due::Dead);
    }
}
