//! HTTP/1 over TLS.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::edge::screen;
use crate::edge::screened::Screened;
use crate::relay::inbound::Inbound;
use crate::relay::proxy;
use crate::shared::Connection;

/// What one HTTP/1 connection may have read and not yet handled.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Serves the requests of one connection until it ends.
pub async fn serve(
    stream: Screened<TlsStream<TcpStream>>,
    connection: Arc<Connection>,
) -> hyper::Result<()> {
    let shared = Arc::clone(connection.shared());
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(proxy::answer(connection, request.map(Inbound::Hyper)).await) }
    });
    let serving = builder(shared.config.header_s)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = shared.stopping.wait() => {}
    }
    serving.as_mut().graceful_shutdown();
    serving.await
}

/// The limits of every HTTP/1 server here.
pub fn builder(header_s: u64) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(header_s))
        .max_headers(screen::FIELDS_MAX)
        .max_header_size(screen::HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}
