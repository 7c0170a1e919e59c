//! Frames of HTTP/2 that cost the sender nothing and us something: acknowledgements to write, streams
//! to set up and throw away. h2 bounds what they make it keep; this bounds how many there may be.
//!
//! Source: RFC 9113 §4.1 (frames), §10.5 (denial of service). A client has an allowance, which such
//! frames use up and which comes back with time, and with what is sent to the client: who downloads
//! much opens windows often.

use std::time::Duration;
use std::time::Instant;

/// What a connection begins with, and the most that it may save up.
const ALLOWANCE: u32 = 4000;

/// What comes back in a second.
const REGAIN_PER_S: u32 = 1000;

/// Bytes to the client that give one back.
const BYTES_PER_FRAME: u64 = 1024;

/// The connection preface, before the first frame (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

const HEAD_BYTES: usize = 9;

/// Follows the frames of one connection, from the client.
#[derive(Debug)]
pub struct Flood {
    /// Of the payload (or the preface) that is on its way.
    skip: usize,
    /// A frame's head, as much as there is.
    head: [u8; HEAD_BYTES],
    filled: usize,
    left: u32,
    /// To the client since the last look.
    sent: u64,
    looked: Instant,
}

/// The allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more frames that say nothing than a client may send")]
pub struct TooMany;

impl Flood {
    /// A connection that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            filled: 0,
            left: ALLOWANCE,
            sent: 0,
            looked: now,
        }
    }

    /// So many bytes went to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Looks at what came from the client. The time is asked only when the allowance is used up.
    ///
    /// # Errors
    ///
    /// When there was too much that says nothing.
    pub fn feed(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), TooMany> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEAD_BYTES - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                let [a, b, c, kind, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.pay(cost(kind, self.skip), &now)?;
            }
        }
    }

    fn pay(&mut self, cost: u32, now: impl Fn() -> Instant) -> Result<(), TooMany> {
        if self.left < cost {
            let now = now();
            let waited = now.saturating_duration_since(self.looked);
            self.looked = now;
            let bytes = u32::try_from(self.sent / BYTES_PER_FRAME).unwrap_or(ALLOWANCE);
            self.sent = 0;
            let regained = regained(waited).saturating_add(bytes);
            self.left = self.left.saturating_add(regained).min(ALLOWANCE);
        }
        self.left = self.left.checked_sub(cost).ok_or(TooMany)?;
        Ok(())
    }
}

fn regained(waited: Duration) -> u32 {
    let regained = waited.as_millis() * u128::from(REGAIN_PER_S) / 1000;
    u32::try_from(regained).unwrap_or(ALLOWANCE)
}

/// What a frame of this kind and length costs (RFC 9113 §6). HEADERS are requests, which have limits
/// of their own.
fn cost(kind: u8, length: usize) -> u32 {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    match kind {
        DATA if length > 0 => 0,
        HEADERS => 0,
        // Work begun for nothing: the rapid reset, CVE-2023-44487.
        RST_STREAM => 20,
        SETTINGS => 4,
        // PING, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty DATA, and what nobody knows.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFACE: [u8; PREFACE_BYTES] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        [&size[1..], &[kind, 0, 0, 0, 0, 0], &vec![0; length]].concat()
    }

    /// How many of `frame` are let through at once.
    fn allowed(frame: &[u8]) -> u32 {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        flood.feed(&PREFACE, || now).unwrap();
        (0..100_000).find(|_| flood.feed(frame, || now).is_err()).unwrap_or(100_000)
    }

    #[test]
    fn frames_that_say_nothing_use_the_allowance_up() {
        for (kind, length, expected) in [
            (0, 0, 4000),
            (0, 1, 100_000),
            (1, 10, 100_000),
            (2, 5, 4000),
            (3, 4, 200),
            (4, 0, 1000),
            (6, 8, 4000),
            (8, 4, 4000),
            (9, 100, 4000),
            (0x42, 1000, 4000),
        ] {
            assert_eq!(allowed(&frame(kind, length)), expected, "{kind}");
        }
    }

    #[test]
    fn time_and_downloads_give_it_back() {
        let ping = frame(6, 8);
        let begun = Instant::now();
        let mut flood = Flood::new(begun);
        flood.feed(&PREFACE, || begun).unwrap();
        let let_through = |flood: &mut Flood, now: Instant| {
            (0..10_000).find(|_| flood.feed(&ping, || now).is_err()).unwrap_or(10_000)
        };
        assert_eq!(let_through(&mut flood, begun), 4000);
        assert_eq!(let_through(&mut flood, begun), 0);
        assert_eq!(let_through(&mut flood, begun + Duration::from_secs(2)), 2000);
        flood.sent(1 << 20);
        assert_eq!(let_through(&mut flood, begun + Duration::from_secs(2)), 1024);
        // Nothing is saved up beyond the first allowance.
        assert_eq!(let_through(&mut flood, begun + Duration::from_secs(9999)), 4000);
    }

    #[test]
    fn a_download_may_open_its_windows_as_often_as_clients_do() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        flood.feed(&PREFACE, || now).unwrap();
        let update = frame(8, 4);
        // A gigabyte at once, with two updates for each frame of 16 kB.
        for _ in 0..65_536 {
            flood.sent(16_384);
            flood.feed(&update, || now).unwrap();
            flood.feed(&update, || now).unwrap();
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(
            frames in prop::collection::vec((0_u8..12, 0_usize..40), 0..60),
            cuts in prop::collection::vec(1_usize..50, 1..200),
        ) {
            let now = Instant::now();
            let frames: Vec<Vec<u8>> = frames.iter().map(|(kind, size)| frame(*kind, *size)).collect();
            let bytes = [&PREFACE[..], &frames.concat()].concat();
            let mut whole = Flood::new(now);
            whole.feed(&bytes, || now).unwrap();
            let mut pieces = Flood::new(now);
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.feed(piece, || now).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((whole.left, whole.skip, whole.filled), (pieces.left, pieces.skip, pieces.filled));
        }
    }
}
