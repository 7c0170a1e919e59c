//! HTTP/2 written by hand, frame by frame (RFC 9113 §4 and §6), with header blocks that use neither
//! the tables nor Huffman (RFC 7541 §6.2.2), so that anything can be said.

use std::io;
use std::io::Read;
use std::io::Write;

use crate::support::Client;
use crate::support::Gateway;
use crate::support::tls;

/// What every connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A header block with these fields.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    // An integer with a prefix of seven bits (RFC 7541 §5.1).
    match text.len() {
        short @ 0..127 => block.push(u8::try_from(short).unwrap()),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend_from_slice(text);
}

/// `GET https://localhost/`, to be continued.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];

/// HEADERS of a whole request without a body.
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&GET))
}

/// A connection that has said the preface and these SETTINGS.
pub fn connect(gateway: &Gateway, settings: &[u8]) -> Client {
    let mut client =
        tls(gateway, "localhost", |builder| builder.set_alpn_protos(b"\x02h2").unwrap()).unwrap();
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
    client.get_mut().write_all(&hello).unwrap();
    client
}

/// A frame that the gateway sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Received {
    /// The error code of `RST_STREAM` and GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().unwrap()))
    }
}

/// Reads the next frame.
pub fn receive(client: &mut impl Read) -> io::Result<Received> {
    let mut head = [0; 9];
    client.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    client.read_exact(&mut payload)?;
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    Ok(Received { kind: head[3], flags: head[4], stream, payload })
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// An answer, 200.
    Ok,
    /// An answer, another one.
    Refused,
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// GOAWAY with this code, or the end of the connection without a word.
    Gone(Option<u32>),
}

/// Reads until `stream` has ended, or the connection.
pub fn end_of(client: &mut impl Read, stream: u32) -> End {
    let mut status = None;
    loop {
        let frame = match receive(client) {
            Ok(frame) => frame,
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "neither it nor stream ends");
                return End::Gone(None);
            }
        };
        match frame.kind {
            GOAWAY if frame.code() != Some(0) => return End::Gone(frame.code()),
            RST_STREAM if frame.stream == stream => match frame.code() {
                // The answer came before the request's end, and stands (RFC 9113 §8.1).
                Some(0) if status.is_some() => {}
                code => return End::Reset(code.unwrap_or_default()),
            },
            HEADERS if frame.stream == stream && status.is_none() => {
                status = Some(is_ok(&frame.payload));
            }
            _ => {}
        }
        let ended = frame.stream == stream && frame.flags & END_STREAM != 0;
        if ended && matches!(frame.kind, HEADERS | DATA) {
            return if status == Some(true) { End::Ok } else { End::Refused };
        }
    }
}

/// True when a block begins with `:status: 200` of the static table (RFC 7541, appendix A), after a
/// change of the table's size, if there is one.
fn is_ok(block: &[u8]) -> bool {
    let resized = block.iter().take_while(|byte| *byte & 0xe0 == 0x20).count();
    block.get(resized) == Some(&0x88)
}
