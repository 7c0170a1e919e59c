//! Services that speak HTTP/2 without TLS from the first byte (RFC 9113 §3.3, "prior knowledge"), as
//! those of gRPC do. Each thread has one connection to a replica, and all its requests share it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::Uri;
use http::header;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;

use crate::edge::http1;
use crate::edge::listen::KEEPALIVE;
use crate::relay::body::Upload;
use crate::rules::hop;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::exchange::Outgoing;
use crate::upstream::http1::answer::AnswerError;
use crate::upstream::http1::call::Broken;
use crate::upstream::http1::call::Limits;
use crate::upstream::pool::Lease;
use crate::upstream::replica::Load;
use crate::upstream::timer::Timer;

/// What one stream and one connection may send us ahead of our reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What is buffered for a stream that the service does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Time for the answer to a ping.
const PONG: Duration = Duration::from_secs(10);

/// The connections of one thread.
#[derive(Default)]
pub struct Senders(Mutex<HashMap<Endpoint, SendRequest<Upload>>>);

impl Senders {
    /// The connection to `endpoint`, if there is one that lives.
    pub fn find(&self, endpoint: &Endpoint) -> Option<SendRequest<Upload>> {
        let mut senders = self.lock();
        senders.retain(|_, sender| !sender.is_closed());
        senders.get(endpoint).cloned()
    }

    /// Makes the connection of `lease` one of these.
    ///
    /// # Errors
    ///
    /// When it ended before it could be used.
    pub async fn add(&self, lease: Lease) -> io::Result<(SendRequest<Upload>, Load)> {
        let endpoint = lease.address.clone();
        let (stream, load) = lease.into_stream().ok_or(io::ErrorKind::NotConnected)?;
        let made = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(u32::try_from(http1::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(PONG)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // A request on it hears of the error itself.
            if let Err(error) = connection.await {
                log::debug!("HTTP/2 connection to a replica: {error}");
            }
        });
        self.lock().insert(endpoint, sender.clone());
        Ok((sender, load))
    }

    /// Uses no more the connection to `endpoint`.
    pub fn forget(&self, endpoint: &Endpoint) {
        self.lock().remove(endpoint);
    }

    /// Sections under this lock are short and never await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, SendRequest<Upload>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request and waits for the head of its answer.
///
/// # Errors
///
/// See [`Broken`].
pub async fn call(
    mut sender: SendRequest<Upload>,
    outgoing: &Outgoing,
    load: Load,
    limits: Limits,
) -> Result<(http::response::Parts, Answer), Broken> {
    let request = request(outgoing).map_err(|error| Broken::Garbled(error.to_string()))?;
    let upload = &outgoing.upload;
    let mut answer = std::pin::pin!(sender.try_send_request(request));
    let mut before = upload.progress();
    let answered: Response<Incoming> = loop {
        match tokio::time::timeout(limits.answer, &mut answer).await {
            Ok(Ok(answered)) => break answered,
            Ok(Err(mut error)) => {
                let unsent = error.take_message().is_some();
                let error = io::Error::other(error.into_error());
                return Err(match upload.progress().fault {
                    Some(fault) => Broken::Client(fault),
                    None if unsent => Broken::Unsent(error),
                    None => Broken::Lost(error),
                });
            }
            Err(_) => {
                let now = upload.progress();
                // The body still moves, or waits for the client, who has a time limit of its own.
                if now.frames == before.frames && !now.waiting {
                    return Err(Broken::Late);
                }
                before = now;
            }
        }
    };
    let (head, body) = answered.into_parts();
    let timer = Timer::new(limits.idle);
    Ok((head, Answer { body, timer, idle: limits.idle, waits: false, _load: load }))
}

/// The request as HTTP/2 has it: no fields of one connection, and the host in the target.
fn request(outgoing: &Outgoing) -> Result<Request<Upload>, http::Error> {
    let Outgoing { method, target, headers, upload, .. } = outgoing;
    let mut headers = headers.clone();
    let trailers = hop::remove(&mut headers).trailers;
    if trailers {
        headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = match headers.remove(header::HOST) {
        Some(host) => Some(Authority::try_from(host.as_bytes())?),
        None => None,
    };
    let path = target.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let mut request = Request::new(upload.clone());
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_parts(uri)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The body of an answer.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    timer: Timer,
    /// Longest time without a byte.
    idle: Duration,
    /// Nothing came when it was last asked for.
    waits: bool,
    _load: Load,
}

impl Answer {
    /// The next piece.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            if !self.waits {
                self.waits = true;
                self.timer.set(self.idle);
            }
            ready!(self.timer.poll(context));
            return Poll::Ready(Some(Err(AnswerError::Idle(self.idle))));
        };
        self.waits = false;
        Poll::Ready(frame.map(|frame| {
            let mut frame = frame.map_err(io::Error::other)?;
            if let Some(trailers) = frame.trailers_mut() {
                hop::trailers(trailers);
            }
            Ok(frame)
        }))
    }

    /// True when nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// How much more will come.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::Method;

    use super::*;

    #[test]
    fn the_host_is_in_the_target_and_trailers_may_come() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "a.example:8443"),
            ("te", "trailers"),
            ("connection", "te"),
            ("content-type", "application/grpc"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let target = "/x.Y/Z?q".parse().unwrap();
        let upload = Upload::default();
        let limit = Duration::from_secs(1);
        let limits = Limits { answer: limit, idle: limit };
        let method = Method::POST;
        let request = request(&Outgoing { method, target, headers, upload, limits }).unwrap();
        assert_eq!(request.uri(), "http://a.example:8443/x.Y/Z?q");
        let names = request.headers().keys().map(http::HeaderName::as_str);
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "te"]);
    }
}
