//! What the gateway itself says: problems, and small texts.

use std::num::NonZeroU64;

use bytes::Bytes;
use chassis::Problem;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::rules::policy::Refusal;

/// A request that ends here.
#[derive(Debug)]
pub enum Failure {
    /// Answered with the problem; the connection goes on.
    Problem(Problem),
    /// Answered 400, or 431; what follows on an HTTP/1 connection is not read.
    Refused(Refusal),
    /// Answered 401: who asks has to show a token (RFC 6750 §3).
    Unauthorized,
    /// 413: the body is, or would be, larger than its route takes; what follows it on an HTTP/1
    /// connection is not read.
    TooLarge(NonZeroU64),
    /// 408: the client stopped sending; an HTTP/1 connection is closed.
    TooSlow,
}

impl Failure {
    /// A problem with `status` that says `detail`.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::Problem(Problem::new(status.as_u16(), detail))
    }

    /// The response, in the form that `accept` asks for, to be sent over HTTP/1 (or not).
    pub fn response(&self, accept: Option<&HeaderValue>, http1: bool) -> Response<Bytes> {
        let problem = match self {
            Self::Problem(problem) => problem.clone(),
            Self::Refused(refusal) => Problem::new(refusal.status(), refusal.to_string()),
            Self::Unauthorized => {
                Problem::new(401, "send `Authorization: Bearer` with the METRICS_TOKEN")
            }
            Self::TooLarge(max) => {
                Problem::new(413, format!("a request's body may have {max} bytes here, no more"))
            }
            Self::TooSlow => Problem::new(408, "no more of the request's body came in time"),
        };
        let (content_type, text) = problem.render(accept.and_then(|value| value.to_str().ok()));
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() =
            StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = problem.retry_after_s() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, Self::Unauthorized) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if http1 && matches!(self, Self::Refused(_) | Self::TooLarge(_) | Self::TooSlow) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
