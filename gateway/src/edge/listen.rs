//! Connections of clients: taken from the kernel, shaken hands with, and served until they end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use prometheus::IntGauge;
use rustls::ProtocolVersion;
use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::edge::redirect;
use crate::edge::screen;
use crate::edge::screen::Screen;
use crate::edge::screened::Screened;
use crate::observe::account::Negotiated;
use crate::relay::inbound::Inbound;
use crate::relay::proxy;
use crate::rules::forwarded::Peer;
use crate::shared::Accepting;
use crate::shared::Alive;
use crate::shared::Connection;
use crate::shared::Open;
use crate::shared::Shared;
use crate::shared::Thread;

/// What one HTTP/1 connection may have read and not yet handled.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;

/// What one stream and one connection of HTTP/2 may send us ahead of our reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// What is buffered for a stream whose client does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Silence after which a peer is asked whether it is there, by the kernel or by an HTTP/2 ping.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// After the kernel refused to give a connection (no more files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket, and what its connections share on one thread.
pub struct Listener {
    pub socket: TcpListener,
    pub thread: Arc<Thread>,
    /// One a process: the bound on connections.
    pub places: Arc<Semaphore>,
    pub gauge: IntGauge,
    pub alive: Alive,
    /// Dropped with the listener.
    pub accepting: Accepting,
}

impl Listener {
    /// Serves HTTPS until the process stops.
    pub async fn https(self, tls: TlsAcceptor) {
        self.accept(|stream, address, thread, open| {
            tokio::spawn(serve_tls(stream, address, thread, open, tls.clone()));
        })
        .await;
    }

    /// Serves the redirects of plain HTTP until the process stops.
    pub async fn http(self) {
        self.accept(|stream, _, thread, open| {
            tokio::spawn(serve_redirects(stream, thread, open));
        })
        .await;
    }

    async fn accept(self, spawn: impl Fn(TcpStream, SocketAddr, Arc<Thread>, Open)) {
        let _accepting = self.accepting;
        let stopping = self.thread.shared.stopping.clone();
        let mut stopped = pin!(stopping.wait());
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = tokio::select! {
                () = &mut stopped => return,
                place = Arc::clone(&self.places).acquire_owned() => place,
            };
            // Never closed, so there is always a place in the end.
            let Ok(place) = place else { return };
            let open = Open::new(&self.gauge, place, self.alive.clone());
            spawn(stream, address, Arc::clone(&self.thread), open);
        }
    }
}

/// No delay for small answers, an end for peers that are gone or do not read.
fn tune(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    // Ends a connection whose client reads nothing for that long (RFC 5482). Linux lets it decide
    // about unanswered keep-alive probes too, in place of their number.
    socket.set_tcp_user_timeout(Some(unread))
}

/// Probes that find a silent peer that is gone: within a minute by their number, or when the socket
/// has a `TCP_USER_TIMEOUT`, as ours have, once that is over as well (tcp(7)).
pub fn keepalive() -> TcpKeepalive {
    let interval = KEEPALIVE / 3;
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(interval).with_retries(3)
}

async fn serve_tls(
    stream: TcpStream,
    address: SocketAddr,
    thread: Arc<Thread>,
    open: Open,
    tls: TlsAcceptor,
) {
    let shared = Arc::clone(&thread.shared);
    let config = &shared.config;
    if let Err(error) = tune(&stream, Duration::from_secs(config.idle_s)) {
        log::debug!("{address}: {error}");
        return;
    }
    let limit = Duration::from_secs(config.handshake_s);
    let stream = match tokio::time::timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let reason = match error.kind() {
                io::ErrorKind::InvalidData => "protocol",
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "closed",
                _ => "other",
            };
            shared.metrics.handshake_failure(reason);
            log::debug!("handshake with {address}: {error}");
            return;
        }
        Err(_) => {
            shared.metrics.handshake_failure("timeout");
            log::debug!("handshake with {address}: not done in {} s", limit.as_secs());
            return;
        }
    };
    let negotiated = negotiated(&stream);
    shared.metrics.handshake(negotiated.tls, negotiated.alpn);
    let peer = Peer::new(address, &config.trusted_proxies);
    let http2 = negotiated.alpn == "h2";
    let screen = (!http2).then(|| Arc::new(Mutex::new(Screen::default())));
    let connection = Arc::new(Connection {
        thread,
        peer,
        negotiated,
        server_name: stream.get_ref().1.server_name().map(str::to_owned),
        screen: screen.clone(),
        unread: http2.then(Arc::default),
        requests: AtomicU64::new(0),
        _open: open,
    });
    let ended = match screen {
        None => serve_http2(stream, connection).await,
        Some(screen) => serve_http1(Screened::new(stream, screen), connection).await,
    };
    if let Err(error) = ended {
        log::debug!("{address}: {error}");
    }
}

fn negotiated(stream: &TlsStream<TcpStream>) -> Negotiated {
    let (_, session) = stream.get_ref();
    Negotiated {
        tls: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        alpn: match session.alpn_protocol() {
            Some(b"h2") => "h2",
            Some(_) => "http/1.1",
            None => "none",
        },
    }
}

async fn serve_http1(
    stream: Screened<TlsStream<TcpStream>>,
    connection: Arc<Connection>,
) -> hyper::Result<()> {
    let shared = Arc::clone(connection.shared());
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(proxy::answer(connection, request.map(Inbound::Hyper)).await) }
    });
    let serving = http1_builder(shared.config.header_s)
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

fn http1_builder(header_s: u64) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(header_s))
        .max_headers(screen::FIELDS_MAX)
        .max_header_size(screen::HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

async fn serve_http2(
    stream: TlsStream<TcpStream>,
    connection: Arc<Connection>,
) -> hyper::Result<()> {
    let shared = Arc::clone(connection.shared());
    let for_service = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&for_service);
        async move { Ok::<_, Infallible>(proxy::answer(connection, request.map(Inbound::Hyper)).await) }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(screen::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let idle = Duration::from_secs(shared.config.header_s);
    let unread = Duration::from_secs(shared.config.idle_s);
    let mut seen = 0;
    loop {
        tokio::select! {
            ended = serving.as_mut() => return ended,
            () = shared.stopping.wait() => break,
            () = tokio::time::sleep(idle) => {
                // Requests hold the connection: only this function and the service do now.
                let quiet = Arc::strong_count(&connection) <= 2;
                let requests = connection.requests.load(Ordering::Relaxed);
                if quiet && requests == seen {
                    break;
                }
                seen = requests;
                if connection.unread.as_ref().is_some_and(|answers| answers.stale(unread)) {
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

async fn serve_redirects(stream: TcpStream, thread: Arc<Thread>, open: Open) {
    let shared = Arc::clone(&thread.shared);
    let config = &shared.config;
    if let Err(error) = tune(&stream, Duration::from_secs(config.idle_s)) {
        log::debug!("{error}");
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let response = redirect::answer(&request, config.public_https_port);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1_builder(config.header_s).serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shared.stopping.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        log::debug!("plain HTTP: {error}");
    }
    drop(open);
}

/// Serves the admin port until the process ends.
pub async fn admin(socket: TcpListener, shared: Arc<Shared>) {
    /// Nobody needs more; the port is for the inside.
    const CONNECTIONS_MAX: usize = 64;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = crate::observe::admin::answer(&request, &shared);
                async move { Ok::<_, Infallible>(response) }
            });
            let header_s = shared.config.header_s;
            let serving = http1_builder(header_s).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = serving.await {
                log::debug!("admin: {error}");
            }
            drop(place);
        });
    }
}
