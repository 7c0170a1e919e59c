//! One request over HTTP/3: read, judged, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::server::RequestResolver;
use h3::server::RequestStream;
use http::HeaderMap;
use http::HeaderName;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;

use crate::edge::http3::answer;
use crate::edge::http3::body::H3Body;
use crate::edge::http3::connection::Load;
use crate::edge::http3::quic::BidiStream;
use crate::edge::http3::quic::Connection as Quic;
use crate::edge::http3::quic::Stopped;
use crate::relay::inbound::Inbound;
use crate::relay::proxy;
use crate::rules::policy;
use crate::shared::Connection;

/// Answers the request that comes over a stream. `load` counts those that the client gave up.
pub async fn serve(
    connection: Arc<Connection>,
    resolver: RequestResolver<Quic, Bytes>,
    mut stopped: Stopped,
    load: Arc<Load>,
) {
    let limit = Duration::from_secs(connection.shared().config.header_s);
    let client = connection.peer.address;
    let resolved = tokio::time::timeout(limit, resolver.resolve_request()).await;
    let (request, mut stream) = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => {
            load.wasted.fetch_add(1, Ordering::Relaxed);
            return log::debug!("a request of {client}: {error}");
        }
        Err(_) => return log::debug!("a request of {client}: no head in {} s", limit.as_secs()),
    };
    let length = match judge(&request) {
        Ok(length) => length,
        Err(why) => {
            load.wasted.fetch_add(1, Ordering::Relaxed);
            log::debug!("refused a request of {client}: {why}");
            return malformed(&mut stream);
        }
    };
    let (mut send, recv) = stream.split();
    if request.headers().len() > policy::FIELDS_MAX {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if send.send_response(response).await.is_ok() && send.finish().await.is_ok() {
            drop(stopped.await);
        }
        return;
    }
    let mut body = H3Body::new(recv, length);
    // The end of a request without a body may come in a packet of its own. To know it matters: with
    // HTTP/1 a body that may be empty is not the same as none.
    if length.is_none() && expects_no_body(request.method()) {
        match tokio::time::timeout(limit, body.begin()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                load.wasted.fetch_add(1, Ordering::Relaxed);
                return log::debug!("a request of {client}: {error}");
            }
            Err(_) => return log::debug!("a request of {client}: no end in {} s", limit.as_secs()),
        }
    }
    let head = request.method() == Method::HEAD;
    let request = request.map(|()| Inbound::H3(Box::new(body)));
    let response = tokio::select! {
        response = proxy::answer(connection, request) => response,
        _ = &mut stopped => {
            load.wasted.fetch_add(1, Ordering::Relaxed);
            return log::debug!("{client} gave a request up");
        }
    };
    match answer::send(&mut send, response, head, &mut stopped).await {
        // Kept until the client has it, so that a connection that drains knows.
        Ok(()) => drop(stopped.await),
        Err(error) => {
            send.stop_stream(Code::H3_INTERNAL_ERROR);
            log::debug!("an answer to {client}: {error}");
        }
    }
}

/// What h3 lets through and RFC 9114 does not; gives the length of the body if it is told.
fn judge(request: &Request<()>) -> Result<Option<u64>, &'static str> {
    let headers = request.headers();
    if request.extensions().get::<h3::ext::Protocol>().is_some() {
        return Err("a protocol that is not served");
    }
    if headers.keys().any(of_a_connection) {
        return Err("a field of one connection (RFC 9114 §4.2)");
    }
    if headers.get_all(header::TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Err("a TE other than trailers (RFC 9114 §4.2)");
    }
    length(headers)
}

/// RFC 9114 §4.2.
fn of_a_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(length), rest) = (lengths.next(), lengths.next()) else { return Ok(None) };
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), rest) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err("a Content-Length that is none (RFC 9114 §4.1.2)"),
    }
}

/// Methods whose requests have no body as a rule.
fn expects_no_body(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE | Method::CONNECT
    )
}

/// RFC 9114 §4.1.2.
fn malformed(stream: &mut RequestStream<BidiStream, Bytes>) {
    stream.stop_sending(Code::H3_MESSAGE_ERROR);
    stream.stop_stream(Code::H3_MESSAGE_ERROR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_http1_is_malformed() {
        for (name, value, expected) in [
            ("accept", "*/*", Some(None)),
            ("te", "trailers", Some(None)),
            ("te", "gzip", None),
            ("connection", "close", None),
            ("transfer-encoding", "chunked", None),
            ("upgrade", "websocket", None),
            ("keep-alive", "x", None),
            ("proxy-connection", "close", None),
            ("content-length", "12", Some(Some(12))),
            ("content-length", "+12", None),
            ("content-length", "", None),
            ("content-length", "1,1", None),
            ("content-length", "99999999999999999999", None),
        ] {
            let request = Request::get("https://a/").header(name, value).body(()).unwrap();
            assert_eq!(judge(&request).ok(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn two_lengths_are_malformed_even_when_they_agree() {
        let request = Request::get("https://a/").header("content-length", "1");
        let request = request.header("content-length", "1").body(()).unwrap();
        assert!(judge(&request).is_err());
    }
}
