//! The header by which a load balancer in front says whose connection it passes on.
//!
//! Source: PROXY protocol, versions 1 and 2,
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. `ppp` reads whole headers. It does
//! not tell every beginning of a text from a wrong one, takes some texts that the source does not
//! allow, and has no bound on what may follow the addresses: so that is done here.

use std::net::SocketAddr;

use ppp::PartialResult;
use ppp::v1;
use ppp::v2;

/// Longest header. Version 2 allows 64 kB of further fields after the addresses; what is in use
/// (a name, a certificate's subject) is far shorter.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Longest header of version 1, with its line end (§2.1).
const TEXT_BYTES_MAX: usize = 107;

const TEXT: &[u8] = b"PROXY ";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What bytes at the start of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// They are the beginning of a header and no more than that.
    Partial,
    /// The first `length` bytes are the header.
    Header {
        /// In bytes.
        length: usize,
        /// Whose connection it is; `None`: the sender's own (a health check, or a family without
        /// IP addresses).
        source: Option<SocketAddr>,
    },
}

/// They are no header, and nothing that follows can make them one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PROXY protocol header of at most {HEADER_BYTES_MAX} bytes")]
pub struct NoHeader;

/// Reads the start of a connection.
///
/// # Errors
///
/// When it is no header.
pub fn parse(bytes: &[u8]) -> Result<Proxied, NoHeader> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(ours, theirs)| ours == theirs);
    if begins(TEXT) {
        parse_text(bytes)
    } else if begins(SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(NoHeader)
    }
}

fn parse_text(bytes: &[u8]) -> Result<Proxied, NoHeader> {
    let known = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    match known.iter().position(|c| *c == b'\n') {
        Some(last) => {
            let header = v1::Header::try_from(&known[..=last]).map_err(|_| NoHeader)?;
            text(&header, last + 1)
        }
        None if known.len() < TEXT_BYTES_MAX && known.is_ascii() => Ok(Proxied::Partial),
        None => Err(NoHeader),
    }
}

fn parse_binary(bytes: &[u8]) -> Result<Proxied, NoHeader> {
    if let Some(length) = bytes.get(14..16) {
        let rest = usize::from(u16::from_be_bytes([length[0], length[1]]));
        // The signature, two bytes, and the length itself come before it.
        if 16 + rest > HEADER_BYTES_MAX {
            return Err(NoHeader);
        }
    }
    let header = v2::Header::try_from(bytes);
    match header {
        Ok(header) => Ok(binary(&header)),
        Err(error) if error.is_incomplete() => Ok(Proxied::Partial),
        Err(_) => Err(NoHeader),
    }
}

/// What the text of version 1 is made of. `ppp` takes a port for `+80` too, and an IPv6 address
/// with a zone is none on another machine.
fn plain(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b' ' | b'.' | b':')
}

fn text(header: &v1::Header<'_>, length: usize) -> Result<Proxied, NoHeader> {
    let line = header.header.strip_suffix("\r\n").ok_or(NoHeader)?;
    let source = match header.addresses {
        // What follows the word is to be ignored, whatever it is (§2.1).
        v1::Addresses::Unknown if line.is_ascii() => None,
        _ if !line.bytes().all(plain) => return Err(NoHeader),
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(v4) => Some(SocketAddr::from((v4.source_address, v4.source_port))),
        v1::Addresses::Tcp6(v6) => Some(SocketAddr::from((v6.source_address, v6.source_port))),
    };
    // A CR in the middle is no end of the line.
    let whole = header.header.len() == length;
    if whole { Ok(Proxied::Header { length, source }) } else { Err(NoHeader) }
}

fn binary(header: &v2::Header<'_>) -> Proxied {
    let source = match (header.command, header.protocol, header.addresses) {
        // LOCAL: the addresses are to be ignored (§2.2).
        (v2::Command::Local, ..) => None,
        (_, v2::Protocol::Stream, v2::Addresses::IPv4(v4)) => {
            Some(SocketAddr::from((v4.source_address, v4.source_port)))
        }
        (_, v2::Protocol::Stream, v2::Addresses::IPv6(v6)) => {
            Some(SocketAddr::from((v6.source_address, v6.source_port)))
        }
        // A socket of the balancer's machine, or nothing that comes over TCP.
        _ => None,
    };
    Proxied::Header { length: header.len(), source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 with these two bytes, addresses and further fields.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn source_of(bytes: &[u8]) -> Option<String> {
        match parse(bytes).unwrap() {
            Proxied::Header { length, source } if length == bytes.len() => {
                source.map(|source| source.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whose_connection_it_is() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 1, 187];
        let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 9, 1, 187]].concat();
        let fields = [&v4[..], &[0x04, 0, 3, 1, 2, 3], &[0xee, 0xff]].concat();
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 9 443\r\n".to_vec(), Some("[2001:db8::1]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what-ever\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:4660")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::1]:9")),
            (v2(0x21, 0x11, &fields), Some("192.0.2.1:4660")),
            // LOCAL
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0x00, &[]), None),
            // UNSPEC, UNIX, and datagrams
            (v2(0x21, 0x00, b"whatever"), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x21, 0x12, &v4), None),
        ] {
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(source_of(&bytes).as_deref(), expected, "{shown:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1\0 10.0.0.1 1 2\r\n",
            b"PROXY TCP4\r192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY UNKNOWN\rx\r\n",
            b"PROXY UNKNOWN \xe9",
            b"\r\n\r\n\0\r\nQUIT\r",
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x13, &[0; 12]),
            // Shorter than the addresses that it announces.
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 12]),
            &v2(0x21, 0x31, &[0; 215]),
        ] {
            assert_eq!(parse(bytes), Err(NoHeader), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_header_has_an_end() {
        let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        assert_eq!(line.len(), 107);
        assert!(parse(line.as_bytes()).is_ok());
        let long = format!("PROXY UNKNOWN {}", "x".repeat(107));
        assert_eq!(parse(long.as_bytes()), Err(NoHeader));
        let fits = v2(0x21, 0x00, &vec![0; HEADER_BYTES_MAX - 16]);
        assert_eq!(source_of(&fits), None);
        let long = v2(0x21, 0x00, &vec![0; HEADER_BYTES_MAX - 15]);
        // Known from its length, before any of it is taken.
        assert_eq!(parse(&long[..16]), Err(NoHeader));
        assert_eq!(parse(&long), Err(NoHeader));
    }

    #[test]
    fn every_beginning_is_partial_and_what_follows_does_not_count() {
        for whole in [
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::1 ::1 9 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN what-ever\r\n".to_vec(),
            v2(0x21, 0x11, &[1; 20]),
        ] {
            for length in 0..whole.len() {
                let shown = String::from_utf8_lossy(&whole[..length]).into_owned();
                assert_eq!(parse(&whole[..length]), Ok(Proxied::Partial), "{shown:?}");
            }
            let header = parse(&whole);
            let followed = [&whole[..], b"\x16\x03\x01PROXY \r\n"].concat();
            assert_eq!(parse(&followed), header);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_there_is(
            start in prop_oneof![
                Just(b"".to_vec()),
                Just(b"PROXY TCP4 ".to_vec()),
                Just(b"PROXY TCP6 ::1 ".to_vec()),
                Just([SIGNATURE, &[0x21, 0x11, 0]].concat()),
            ],
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [start, rest].concat();
            if let Ok(Proxied::Header { length, .. }) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
                // More bytes change nothing.
                let more = [&bytes[..], b"more"].concat();
                prop_assert_eq!(parse(&more), parse(&bytes));
            }
        }
    }
}
