//! HTTP/2 over TLS.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::edge::counted::Counted;
use crate::edge::http1;
use crate::edge::listen::KEEPALIVE;
use crate::edge::streams::Streams;
use crate::relay::inbound::Inbound;
use crate::relay::proxy;
use crate::rules::flood::TooMany;
use crate::shared::Connection;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;

/// What one stream and one connection of HTTP/2 may send us ahead of our reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// What is buffered for a stream whose client does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that a client may reset before we have looked at them, and that we may have to reset for
/// what is wrong with them, before the connection ends: the rapid reset, CVE-2023-44487, and the
/// reset that a client makes us send, CVE-2025-8671.
const RESETS_MAX: usize = 20;
const ERRORS_MAX: usize = 100;

/// Time for the answer to a ping, and for a goodbye.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the requests of one connection until it ends.
pub async fn serve(stream: TlsStream<TcpStream>, connection: Arc<Connection>) -> hyper::Result<()> {
    let shared = Arc::clone(connection.shared());
    let for_service = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&for_service);
        async move { Ok::<_, Infallible>(proxy::answer(connection, request.map(Inbound::Hyper)).await) }
    });
    let serving = http2::Builder::new(Streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(http1::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(Counted::new(stream)), service);
    let mut serving = pin!(serving);
    let idle = Duration::from_secs(shared.config.header_s);
    let mut seen = 0;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if ended.as_ref().is_err_and(is_flood) {
                    shared.metrics.floods.inc();
                }
                return ended;
            }
            () = shared.stopping.wait() => break,
            () = tokio::time::sleep(idle) => {
                // Requests hold the connection: only this function and the service do now.
                let quiet = Arc::strong_count(&connection) <= 2;
                let requests = connection.requests.load(Ordering::Relaxed);
                if quiet && requests == seen {
                    break;
                }
                seen = requests;
                if connection.unread.as_ref().is_some_and(|answers| answers.end_stale()) {
                    log::debug!("{}: left an answer unread", connection.peer.address);
                    return Ok(());
                }
            }
        }
    }
    serving.as_mut().graceful_shutdown();
    if shared.stopping.is_stopping() {
        return serving.await;
    }
    // Nobody uses it, so nobody waits for its end.
    tokio::time::timeout(KEEPALIVE_TIMEOUT, serving).await.unwrap_or(Ok(()))
}

/// True when we, or h2, ended a connection for what its client made us do.
fn is_flood(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| match error.get_io() {
        Some(io) => io.get_ref().is_some_and(|inner| inner.is::<TooMany>()),
        None => error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) && !error.is_remote(),
    })
}
