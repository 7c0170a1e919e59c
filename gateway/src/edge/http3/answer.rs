//! An answer over HTTP/3, sent as its body comes and as the client takes it.

use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use h3::error::StreamError;
use h3::server::RequestStream;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body as _;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::edge::http3::quic::SendStream;
use crate::edge::http3::quic::Stopped;
use crate::relay::body::BodyError;
use crate::relay::body::Download;

/// RFC 9110 §5.6.7.
const DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Why an answer is not whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the client gave it up")]
    Stopped,
}

/// Sends `response`, and no body when it answers a HEAD. Ends early when the client does not want it
/// any more.
///
/// # Errors
///
/// When the client or the upstream break it off.
pub async fn send(
    stream: &mut RequestStream<SendStream, Bytes>,
    response: Response<Download>,
    head: bool,
    stopped: &mut Stopped,
) -> Result<(), AnswerError> {
    let (mut parts, mut body) = response.into_parts();
    complete(&mut parts, body.size_hint().exact(), head);
    stream.send_response(Response::from_parts(parts, ())).await?;
    while !head && !body.is_end_stream() {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = tokio::select! {
            biased;
            frame = next => frame,
            _ = &mut *stopped => return Err(AnswerError::Stopped),
        };
        let Some(frame) = frame.transpose()? else { break };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => stream.send_data(data).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers).await?;
                }
            }
        }
    }
    // The log line is written now, not when the client's last acknowledgement comes.
    drop(body);
    Ok(stream.finish().await?)
}

/// Adds what hyper adds for the other protocols.
fn complete(parts: &mut http::response::Parts, length: Option<u64>, head: bool) {
    let bodiless = parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = &mut parts.headers;
    if let Some(length) = length
        && !head
        && !bodiless
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if !headers.contains_key(header::DATE)
        && let Some(date) = date(SystemTime::now())
    {
        headers.insert(header::DATE, date);
    }
}

fn date(now: SystemTime) -> Option<HeaderValue> {
    let text = OffsetDateTime::from(now).format(DATE).ok()?;
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        // The example of RFC 9110 §5.6.7.
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(date(then).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn only_an_answer_that_may_have_a_body_gets_a_length() {
        for (status, head, length) in
            [(200, false, Some("3")), (200, true, None), (304, false, None)]
        {
            let (mut parts, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
            complete(&mut parts, Some(3), head);
            let got = parts.headers.get(header::CONTENT_LENGTH).map(|v| v.to_str().unwrap());
            assert_eq!(got, length, "{status} {head}");
            assert!(parts.headers.contains_key(header::DATE));
        }
    }
}
