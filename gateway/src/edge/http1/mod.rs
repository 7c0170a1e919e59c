//! Our server of HTTP/1: one task a connection, one request at a time, and no memory while idle.
//! hyper's would read what this one refuses; docs/decisions/0012 has the reasons.

mod answer;
mod date;
mod head;
mod io;
mod out;
mod send;
mod wait;

use std::future::poll_fn;
use std::io as std_io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chassis::Problem;
use chassis::Stopping;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http_body::Body as _;
use tokio::sync::oneshot;

use crate::edge::http1::answer::Asked;
use crate::edge::http1::answer::Delimited;
use crate::edge::http1::head::Framing;
use crate::edge::http1::head::Head;
use crate::edge::http1::head::HeadError;
use crate::edge::http1::io::Shared;
use crate::edge::http1::out::Out;
use crate::edge::http1::wait::Came;
use crate::edge::http1::wait::Waiter;
use crate::relay::answer::Failure;
use crate::relay::inbound::Inbound;
use crate::relay::upgrade::Duplex;
use crate::relay::upgrade::Upgrade;
use crate::relay::upgrade::Upgraded;

pub use head::HEAD_BYTES_MAX;
pub use io::Body;

/// Time for a client to take a last answer and to end its side, and how much of what it still
/// sends is read meanwhile: unread bytes would reset the connection, and the answer be lost.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a server does with requests.
pub trait Handler {
    type Body: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send;

    /// Answers a request.
    fn answer(
        &self,
        request: Request<Inbound>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers what is no request; the connection is closed after that.
    fn refuse(&self, failure: Failure) -> Response<Self::Body>;
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a whole head, and between two requests.
    pub header: Duration,
    /// Without taking a byte of an answer.
    pub idle: Duration,
}

/// What comes after an answer.
enum Next {
    Request,
    Close,
    /// The connection is a tunnel's, or broken.
    Nothing,
}

/// Serves a connection until it ends, or the process is to stop and the running request is done.
///
/// # Errors
///
/// How it ended, if not in good order.
pub async fn serve<H: Handler>(
    stream: impl Duplex + 'static,
    limits: Limits,
    stopping: &Stopping,
    handler: &H,
) -> std_io::Result<()> {
    let io = Shared::new(stream);
    let _closed = Closed(io.clone());
    let mut stopped = pin!(stopping.wait());
    let mut waiter = Waiter::new(limits.header);
    loop {
        let came = poll_fn(|context| waiter.poll_head(&io, stopped.as_mut(), context));
        // Boxed, so that a connection between two requests is small.
        let next = match came.await? {
            Came::Head(head) => {
                let exchange = exchange(&io, head, limits, stopping, handler);
                Box::pin(exchange).await?
            }
            Came::Nothing => return close(&io, true).await,
            Came::Bad(error) => Box::pin(refuse(&io, error, limits, handler)).await?,
        };
        match next {
            Next::Request => {}
            Next::Close => return Box::pin(close(&io, false)).await,
            Next::Nothing => return Ok(()),
        }
    }
}

/// One request and its answer.
async fn exchange<H: Handler>(
    io: &Shared,
    head: Head,
    limits: Limits,
    stopping: &Stopping,
    handler: &H,
) -> std_io::Result<Next> {
    let asked = Asked {
        method: head.request.method().clone(),
        version: head.request.version(),
        keep_alive: head.keep_alive,
        trailers: head.trailers,
    };
    let turn = io.lock().begin(head.framing, head.expects);
    let body = match head.framing {
        Framing::None => Inbound::None,
        Framing::Length(_) | Framing::Chunked => Inbound::Http1(Body::new(io.clone(), turn)),
    };
    let mut request = head.request.map(|()| body);
    let handover = head.upgrade.then(|| {
        let (sender, receiver) = oneshot::channel::<Upgraded>();
        let ended = |_| std_io::Error::from(std_io::ErrorKind::BrokenPipe);
        let coming = async move { receiver.await.map_err(ended) };
        request.extensions_mut().insert(Upgrade::new(coming));
        sender
    });
    let mut answering = pin!(handler.answer(request));
    let response = poll_fn(|context| match answering.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => io.lock().poll_gone(context).map(|()| None),
    });
    // Whoever has gone is answered by nobody.
    let Some(response) = response.await else { return Ok(Next::Nothing) };
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let keep = respond(io, &asked, response, limits, stopping).await?;
    match handover.filter(|_| switched) {
        Some(handover) => {
            let upgraded: Upgraded = Box::new(io.clone());
            // Closed when nobody waits for it any more.
            drop(handover.send(upgraded));
            Ok(Next::Nothing)
        }
        None if keep => Ok(Next::Request),
        None => Ok(Next::Close),
    }
}

/// Writes an answer; true when another request may follow.
async fn respond<B>(
    io: &Shared,
    asked: &Asked,
    response: Response<B>,
    limits: Limits,
    stopping: &Stopping,
) -> std_io::Result<bool>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Display>,
{
    let (head, body) = response.into_parts();
    let exact = body.size_hint().exact();
    let delimited = answer::delimit(asked, head.status, exact);
    let mut out = Out::new(io.clone(), limits.idle);
    let keep = {
        let mut io = io.lock();
        out.small().extend_from_slice(io.answer());
        (io.finished() || io.is_read())
            && asked.keep_alive
            && delimited != Delimited::Close
            && !answer::closes(&head.headers)
            && !matches!(asked.method, Method::CONNECT | Method::TRACE)
            && head.status != StatusCode::MISDIRECTED_REQUEST
            && !stopping.is_stopping()
    };
    let own_length = exact.filter(|length| *length > 0);
    answer::put_head(out.small(), &head, asked, delimited, own_length, keep);
    send::send(io, &mut out, body, delimited, asked.trailers).await?;
    // Who was still reading may have read it all by now.
    Ok(keep && io.lock().finished())
}

/// Answers what is no request.
async fn refuse<H: Handler>(
    io: &Shared,
    error: HeadError,
    limits: Limits,
    handler: &H,
) -> std_io::Result<Next> {
    let failure = match error {
        HeadError::Refused(refusal) => Failure::Refused(refusal),
        other => Failure::Problem(Problem::new(other.status(), other.to_string())),
    };
    let (head, body) = handler.refuse(failure).into_parts();
    let asked = Asked {
        method: Method::GET,
        version: Version::HTTP_11,
        keep_alive: false,
        trailers: false,
    };
    let exact = body.size_hint().exact();
    let delimited = answer::delimit(&asked, head.status, exact);
    let mut out = Out::new(io.clone(), limits.idle);
    answer::put_head(out.small(), &head, &asked, delimited, None, false);
    send::send(io, &mut out, body, delimited, false).await?;
    Ok(Next::Close)
}

/// Ends a connection; `idle` when the client waits for nothing.
async fn close(io: &Shared, idle: bool) -> std_io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let (clean, mut ending) = {
        let mut locked = io.lock();
        locked.close_body();
        (locked.finished() && locked.ahead().is_empty(), io.clone())
    };
    let farewell = async {
        ending.shutdown().await?;
        let mut discarded = 0;
        while !(idle || clean) && discarded < LINGER_BYTES_MAX {
            match poll_fn(|context| io.lock().poll_discard(context)).await? {
                0 => break,
                length => discarded += length,
            }
        }
        Ok(())
    };
    tokio::time::timeout(LINGER, farewell).await.unwrap_or(Ok(()))
}

/// Lets the body go with the connection, whoever still holds it.
struct Closed(Shared);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.lock().close_body();
    }
}
