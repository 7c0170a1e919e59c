//! Judges the framing of HTTP/1 requests on the raw bytes, beside hyper and with the same parser.
//!
//! hyper reads a message with `Content-Length` and `Transfer-Encoding` as RFC 9112 §6.3 allows: it
//! drops the length, and nothing behind it can tell that it was there. A proxy in front of us may
//! have read it the other way, so such a message is refused (RFC 9112 §11.2). The screen follows
//! the connection just far enough to find each head, and gives one verdict a request; when it
//! cannot follow, there is no verdict, and a request without one is refused.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use crate::rules::policy::Refusal;
use crate::wire::chunked::Decoder;
use crate::wire::chunked::Part;

/// Most field lines in one head; hyper is given the same limit.
pub const FIELDS_MAX: usize = 100;

/// Longest head, in bytes; hyper is given the same limit.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Requests that may be read ahead of their answers: as many of the shortest heads
/// (`GET / HTTP/1.1`) as hyper's buffer holds.
const VERDICTS_MAX: usize = crate::edge::http1::BUFFER_BYTES_MAX / 16 + 1;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct Screen {
    state: State,
    /// The beginning of a head whose end has not come yet.
    partial: Vec<u8>,
    verdicts: VecDeque<Result<(), Refusal>>,
}

/// What the next byte belongs to.
#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Body(u64),
    Chunked(Decoder),
    /// Not HTTP/1.1 that can be followed: a tunnel, or garbage.
    Lost,
}

impl Screen {
    /// The verdict on the next request, in order.
    pub fn verdict(&mut self) -> Result<(), Refusal> {
        self.verdicts.pop_front().unwrap_or(Err(Refusal::Unframed))
    }

    /// Looks at the bytes that came next.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Lost => return,
                State::Head => self.head(bytes),
                State::Body(left) => {
                    let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skip as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    &bytes[skip..]
                }
                State::Chunked(decoder) => match decoder.step(bytes) {
                    Err(_) => return self.lose(),
                    Ok((skip, Part::More)) => &bytes[skip..],
                    Ok((skip, Part::Data(length))) => &bytes[skip + length..],
                    Ok((skip, Part::End)) => {
                        self.state = State::Head;
                        &bytes[skip..]
                    }
                },
            };
        }
    }

    /// Takes one head, or as much of it as there is; returns what comes after it.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.partial.is_empty() {
            return match parse(bytes) {
                Parsed::Head(length, framing) => {
                    self.accept(framing);
                    &bytes[length..]
                }
                Parsed::Partial => {
                    self.partial.extend_from_slice(bytes);
                    self.bound();
                    &[]
                }
                Parsed::Bad => {
                    self.lose();
                    &[]
                }
            };
        }
        // A head ends with a line: without one more line end it is still not whole.
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        if !bytes.contains(&b'\n') {
            self.bound();
            return &[];
        }
        match parse(&self.partial) {
            Parsed::Head(length, framing) => {
                self.partial = Vec::new();
                self.accept(framing);
                &bytes[length - before..]
            }
            Parsed::Partial => {
                self.bound();
                &[]
            }
            Parsed::Bad => {
                self.lose();
                &[]
            }
        }
    }

    fn accept(&mut self, framing: Result<Framing, Refusal>) {
        if self.verdicts.len() >= VERDICTS_MAX {
            return self.lose();
        }
        self.state = match framing {
            Ok(Framing::Length(0)) => State::Head,
            Ok(Framing::Length(length)) => State::Body(length),
            Ok(Framing::Chunked) => State::Chunked(Decoder::default()),
            // The connection is closed after the refusal: nothing behind it is a request.
            Err(_) => State::Lost,
        };
        self.verdicts.push_back(framing.map(|_| ()));
    }

    fn bound(&mut self) {
        if self.partial.len() > HEAD_BYTES_MAX {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.partial = Vec::new();
    }
}

/// How the body of a request is delimited.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

enum Parsed {
    Head(usize, Result<Framing, Refusal>),
    Partial,
    Bad,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if bare_line_feed(&bytes[..length]) => {
            Parsed::Head(length, Err(Refusal::BareLineFeed))
        }
        Ok(httparse::Status::Complete(length)) => Parsed::Head(length, framing(request.headers)),
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Bad,
    }
}

/// httparse takes LF alone for the end of a line, as RFC 9112 §2.2 allows; a proxy in front may
/// have taken it for a part of a value.
fn bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, c)| *c == b'\n' && (at == 0 || head[at - 1] != b'\r'))
}

/// RFC 9112 §6, without the ways out that it leaves.
fn framing(fields: &[httparse::Header<'_>]) -> Result<Framing, Refusal> {
    let (mut length, mut chunked, mut upgrade) = (None, false, false);
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits = str::from_utf8(field.value)
                .ok()
                .filter(|text| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()));
            let value: u64 =
                digits.and_then(|text| text.parse().ok()).ok_or(Refusal::ContentLength)?;
            if length.replace(value).is_some() {
                return Err(Refusal::ContentLength);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferEncoding);
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("upgrade") {
            upgrade = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Refusal::TwoFramings),
        (None | Some(0), false) => Ok(Framing::Length(0)),
        _ if upgrade => Err(Refusal::UpgradeBody),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, true) => Ok(Framing::Chunked),
    }
}

#[cfg(test)]
mod tests;
