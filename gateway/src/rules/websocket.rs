//! A WebSocket that comes as a stream of HTTP/2 (RFC 8441), asked for as one of HTTP/1.1 (RFC 6455).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Extensions;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::header;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The version that RFC 6455 §4.1 defines.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// True for an extended CONNECT that asks for a WebSocket (RFC 8441 §4).
pub fn is_extended(method: &Method, extensions: &Extensions) -> bool {
    let protocol = extensions.get::<hyper::ext::Protocol>();
    *method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Makes the fields of an extended CONNECT those of an HTTP/1.1 handshake with a key made from
/// `random`, and gives the answer that the service has to know.
pub fn ask(headers: &mut HeaderMap, random: [u8; 16]) -> HeaderValue {
    let key = STANDARD.encode(random);
    let accept = accept(&key);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(VERSION);
    accept
}

/// Whether the service's 101 is an answer to our key; takes it out, as a client of HTTP/2 knows
/// nothing of it.
pub fn is_accepted(headers: &mut HeaderMap, accept: &HeaderValue) -> bool {
    headers.remove(header::SEC_WEBSOCKET_ACCEPT).as_ref() == Some(accept)
}

/// RFC 6455 §4.2.2, step 5.4. SHA-1 guards nothing here.
fn accept(key: &str) -> HeaderValue {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    let text = STANDARD.encode(context.finish());
    HeaderValue::from_str(&text).expect("Base64 is text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6455 §1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_key_is_ours_and_only_its_answer_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("theirs"));
        let expected = ask(&mut headers, *b"the sample nonce");
        assert_eq!(headers[header::SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(headers[header::SEC_WEBSOCKET_VERSION], "13");
        for (answer, right) in [
            (Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), true),
            (Some("S3PPLMBITXAQ9KYGZZHZRBK+XOO="), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(answer) = answer {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(answer));
            }
            assert_eq!(is_accepted(&mut headers, &expected), right);
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn another_protocol_or_method_is_none() {
        let mut extensions = Extensions::new();
        assert!(!is_extended(&Method::CONNECT, &extensions));
        extensions.insert(hyper::ext::Protocol::from_static("connect-udp"));
        assert!(!is_extended(&Method::CONNECT, &extensions));
        extensions.insert(hyper::ext::Protocol::from_static("websocket"));
        assert!(is_extended(&Method::CONNECT, &extensions));
        assert!(!is_extended(&Method::GET, &extensions));
    }
}
