//! HTTP/2 clients that flood: each is right frame by frame, and ended for the sum of them
//! (RFC 9113 §10.5).

use std::io;
use std::io::Write;

use crate::frames::CONTINUATION;
use crate::frames::DATA;
use crate::frames::END_HEADERS;
use crate::frames::END_STREAM;
use crate::frames::End;
use crate::frames::GET;
use crate::frames::HEADERS;
use crate::frames::PING;
use crate::frames::PRIORITY;
use crate::frames::RST_STREAM;
use crate::frames::SETTINGS;
use crate::frames::WINDOW_UPDATE;
use crate::frames::block;
use crate::frames::connect;
use crate::frames::end_of;
use crate::frames::frame;
use crate::frames::get;
use crate::frames::receive;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::until;

/// What the whole process may have, in bytes.
const MEMORY_MAX: u64 = 64 << 20;

/// HEADERS that open a request with a body.
fn open(stream: u32) -> Vec<u8> {
    let mut fields = GET;
    fields[0] = (":method", "POST");
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

/// A flood: what comes first, and what is sent again and again, by its number.
struct Case {
    name: &'static str,
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

fn cases() -> Vec<Case> {
    let case = |name, first, again| Case { name, first, again };
    vec![
        case("rapid reset", vec![], |n| {
            [get(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
        }),
        case("reset that we are made to send", vec![], |n| {
            [get(2 * n + 1), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat()
        }),
        case("malformed requests", vec![], |n| {
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&[("X", "y")]))
        }),
        case("CONTINUATION without end", frame(HEADERS, 0, 1, &block(&GET)), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))
        }),
        case("empty CONTINUATION", frame(HEADERS, 0, 1, &block(&GET)), |_| {
            frame(CONTINUATION, 0, 1, b"")
        }),
        case("large CONTINUATION", frame(HEADERS, 0, 1, &block(&GET)), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(16_000))]))
        }),
        // One byte names 4 kB of the table (RFC 7541 §6.1).
        case(
            "header bomb",
            {
                let mut block = block(&GET);
                block.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
                block.extend_from_slice(&[b'y'; 4000]);
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
            },
            |n| {
                let block = [block(&GET), vec![0xbe; 16_000]].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 3, &block)
            },
        ),
        case("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1])),
        case("PING", vec![], |_| frame(PING, 0, 0, &[7; 8])),
        case("PRIORITY", vec![], |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        case("unknown frames", vec![], |_| frame(0x42, 0, 0, b"x")),
        case("WINDOW_UPDATE", vec![], |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        case("empty DATA", open(1), |_| frame(DATA, 0, 1, b"")),
        // The service reads nothing of it.
        case("DATA of one byte", open(1), |_| frame(DATA, 0, 1, b"x")),
        case("SETTINGS that move every window", get(1), |n| {
            let size = (n % 2 * 0x7fff_0000).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 4], &size[..]].concat())
        }),
    ]
}

#[test]
fn a_flood_ends_its_connection_in_little_memory() {
    // Takes requests, and neither reads nor answers them.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |_| {
        let _: Result<(), _> = gone.lock().unwrap().recv();
        Err(io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for Case { name, first, again } in cases() {
        let mut client = connect(&gateway, &[]);
        client.get_mut().write_all(&first).unwrap();
        let mut sent = 0;
        // Without reading an answer, until it is cut off.
        let cut = loop {
            let burst: Vec<u8> = (sent..sent + 100).flat_map(again).collect();
            match client.get_mut().write_all(&burst) {
                Ok(()) => sent += 100,
                Err(error) => break error,
            }
            assert!(sent < 1_000_000, "{name}: still there");
        };
        assert_ne!(cut.kind(), io::ErrorKind::WouldBlock, "{name}: neither read nor ended");
        let peak = gateway.peak_bytes();
        assert!(peak < MEMORY_MAX, "{name}: {} MB after {sent}", peak >> 20);
        println!("{name}: ended after {sent} at most; {} MB", peak >> 20);
    }
    drop(go);
    let floods = gateway.metric("gateway_http2_floods_total");
    // The rest end for a mistake that the flood makes sooner.
    assert!(floods >= Some(5.0), "{floods:?}");
    // Nothing of them is left, and others are served.
    until("their requests' end", || {
        (gateway.metric("gateway_requests_in_flight") == Some(0.0)).then_some(())
    });
}

#[test]
fn an_answer_that_is_left_unread_ends_its_stream_and_no_other() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__HEADER_S", "1"), ("GATEWAY__IDLE_S", "2")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    // INITIAL_WINDOW_SIZE 0: send me nothing of any body.
    let mut client = connect(&gateway, &[0, 4, 0, 0, 0, 0]);
    client.get_mut().write_all(&get(1)).unwrap();
    // A window for this one alone.
    let window = frame(WINDOW_UPDATE, 0, 3, &[0, 0x0f, 0, 0]);
    client.get_mut().write_all(&[get(3), window].concat()).unwrap();
    assert_eq!(end_of(&mut client, 3), End::Ok);
    assert_eq!(end_of(&mut client, 1), End::Reset(8));
    let window = frame(WINDOW_UPDATE, 0, 5, &[0, 0x0f, 0, 0]);
    client.get_mut().write_all(&[get(5), window].concat()).unwrap();
    assert_eq!(end_of(&mut client, 5), End::Ok);
}

#[test]
fn a_client_that_cancels_now_and_then_is_no_flood() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = connect(&gateway, &[]);
    for n in (1..200).step_by(4) {
        let cancel = frame(RST_STREAM, 0, n, &[0, 0, 0, 8]);
        client.get_mut().write_all(&get(n)).unwrap();
        while receive(&mut client).unwrap().stream != n {}
        client.get_mut().write_all(&[cancel, get(n + 2)].concat()).unwrap();
        assert_eq!(end_of(&mut client, n + 2), End::Ok);
    }
}
