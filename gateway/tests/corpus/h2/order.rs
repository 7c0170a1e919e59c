//! Frames that are wrong by themselves, or where they stand.

use super::HIDDEN;
use crate::frames::CONTINUATION;
use crate::frames::DATA;
use crate::frames::END_HEADERS;
use crate::frames::END_STREAM;
use crate::frames::GET;
use crate::frames::GOAWAY;
use crate::frames::HEADERS;
use crate::frames::PADDED;
use crate::frames::PING;
use crate::frames::PRIORITY;
use crate::frames::PUSH_PROMISE;
use crate::frames::RST_STREAM;
use crate::frames::SETTINGS;
use crate::frames::WINDOW_UPDATE;
use crate::frames::block;
use crate::frames::frame;
use crate::frames::get;

/// Frames and their order (RFC 9113 §4 to §6).
pub fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let whole = block(&GET);
    let flags = END_HEADERS | END_STREAM;
    let open = frame(HEADERS, END_STREAM, 1, &whole[..4]);
    let rest = &whole[4..];
    vec![
        ("HEADERS on stream 0", frame(HEADERS, flags, 0, &whole)),
        ("HEADERS on an even stream", frame(HEADERS, flags, 2, &whole)),
        ("DATA on stream 0", frame(DATA, END_STREAM, 0, b"x")),
        ("DATA on an idle stream", frame(DATA, END_STREAM, 1, HIDDEN.as_bytes())),
        ("DATA on an even stream", frame(DATA, 0, 2, b"x")),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])),
        ("RST_STREAM of three bytes", frame(RST_STREAM, 0, 1, &[0, 0, 8])),
        ("WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("WINDOW_UPDATE of nothing", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 0])),
        ("WINDOW_UPDATE past the end", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, b"")),
        ("SETTINGS of seven bytes", frame(SETTINGS, 0, 0, &[0; 7])),
        ("SETTINGS acknowledged with text", frame(SETTINGS, 1, 0, &[0; 6])),
        ("a window past the end", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("frames below the least size", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("ENABLE_PUSH is no flag", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8])),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("PUSH_PROMISE of a client", frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &whole)),
        ("CONTINUATION of another stream", {
            [open.clone(), frame(CONTINUATION, END_HEADERS, 3, rest)].concat()
        }),
        ("PING between HEADERS and CONTINUATION", {
            let ping = frame(PING, 0, 0, &[0; 8]);
            [open.clone(), ping, frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
        }),
        ("HEADERS between HEADERS and CONTINUATION", {
            [open, get(3), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
        }),
        ("more padding than frame", frame(HEADERS, flags | PADDED, 1, &[255, 0, 0])),
        ("padded DATA without room", {
            let head = frame(HEADERS, END_HEADERS, 1, &block(&[]));
            [head, frame(DATA, PADDED, 1, &[9, b'x'])].concat()
        }),
        ("a block that is no HPACK", frame(HEADERS, flags, 1, &[0x80, 0xff, 0xff])),
        ("a block that ends early", frame(HEADERS, flags, 1, &whole[..whole.len() - 1])),
        ("a name of no table", frame(HEADERS, flags, 1, &[0xff, 0xff, 0x7f])),
        ("an empty block", frame(HEADERS, flags, 1, b"")),
        ("a larger frame than may be", frame(HEADERS, flags, 1, &vec![0; 20_000])),
        ("HTTP/1.1 after the preface", HIDDEN.as_bytes().to_vec()),
    ]
}
