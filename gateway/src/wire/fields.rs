//! Writes heads and the framing of bodies.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

/// The chunk of no bytes that ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `name: value`.
pub fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    put_line(out, name.as_str().as_bytes(), value.as_bytes());
}

/// `name: value`, both known to hold nothing that ends a line.
pub fn put_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Every field of `headers`, without the empty line that ends a head.
pub fn put_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        put_field(out, name, value);
    }
}

/// A number in decimal digits.
pub fn put_decimal(out: &mut Vec<u8>, number: u64) {
    put_digits(out, number, 10);
}

/// What comes before the data of a chunk of `length` bytes.
pub fn put_chunk_head(out: &mut Vec<u8>, length: usize) {
    put_digits(out, length as u64, 16);
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body, with `trailers`.
pub fn put_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    put_fields(out, trailers);
    out.extend_from_slice(b"\r\n");
}

fn put_digits(out: &mut Vec<u8>, mut number: u64, base: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        // Below the base, so it fits.
        text[at] = DIGITS[usize::try_from(number % base).unwrap_or_default()];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_written_in_order_and_as_often_as_they_are_there() {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("a"));
        headers.append("x", HeaderValue::from_static("1"));
        headers.append("x", HeaderValue::from_static("2"));
        let mut out = Vec::new();
        put_fields(&mut out, &headers);
        assert_eq!(out, b"host: a\r\nx: 1\r\nx: 2\r\n");
    }

    #[test]
    fn a_body_ends_with_its_trailers() {
        let mut out = Vec::new();
        put_trailers(&mut out, &HeaderMap::new());
        assert_eq!(out, LAST_CHUNK);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        out.clear();
        put_trailers(&mut out, &trailers);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_library_writes_them(number: u64) {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            prop_assert_eq!(str::from_utf8(&out).ok().and_then(|text| text.parse().ok()), Some(number));
            prop_assert!(!out.starts_with(b"0") || out.len() == 1);
            out.clear();
            let length = usize::try_from(number).unwrap();
            put_chunk_head(&mut out, length);
            prop_assert_eq!(out, format!("{number:x}\r\n").into_bytes());
        }
    }
}
