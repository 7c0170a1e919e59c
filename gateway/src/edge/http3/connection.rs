//! One connection of HTTP/3, from its handshake to its goodbye.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::error::ConnectionError;
use h3::quic::SendStream as _;
use h3::server::RequestResolver;
use quinn::Incoming;
use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::edge::arrive;
use crate::edge::http1;
use crate::edge::http3::quic;
use crate::edge::http3::request;
use crate::edge::unread::Unread;
use crate::observe::negotiated::Negotiated;
use crate::rules::forwarded::Peer;
use crate::shared::Connection;
use crate::shared::Open;
use crate::shared::Thread;

/// Requests that a client may break or give up beyond half of all it made. Each costs us more than it
/// costs the client (CVE-2023-44487 is the same in HTTP/2).
const WASTED_MAX: u64 = 100;

/// What a connection asked of us.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU64,
    /// Those that came to nothing by the client's doing.
    pub wasted: AtomicU64,
}

impl Load {
    fn is_abuse(&self) -> bool {
        let wasted = self.wasted.load(Ordering::Relaxed);
        wasted > WASTED_MAX + self.requests.load(Ordering::Relaxed) / 2
    }
}

/// A client that knocked, with its place among the connections. `shaking` counts it among those that
/// are not through their handshake.
pub struct Knock {
    pub incoming: Incoming,
    pub open: Open,
    pub shaking: OwnedSemaphorePermit,
}

/// Serves the connection until it ends.
pub async fn serve(knock: Knock, thread: Arc<Thread>) {
    let Knock { incoming, mut open, shaking } = knock;
    let address = incoming.remote_address();
    let shared = Arc::clone(&thread.shared);
    let limit = Duration::from_secs(shared.config.handshake_s);
    let handshake = async { incoming.accept()?.await };
    let quic = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => {
            shared.metrics.handshake_failure("protocol");
            return log::debug!("QUIC handshake with {address}: {error}");
        }
        Err(_) => {
            shared.metrics.handshake_failure("timeout");
            return log::debug!("QUIC handshake with {address}: not done in {} s", limit.as_secs());
        }
    };
    drop(shaking);
    if open.entered.is_none() {
        open.entered = arrive::count(&shared, address);
        if open.entered.is_none() {
            return quic.close(code(Code::H3_EXCESSIVE_LOAD), b"too many connections");
        }
    }
    // quinn does not tell the key exchange.
    let negotiated = Negotiated { tls: "1.3", alpn: "h3", key_exchange: "unknown" };
    shared.metrics.handshake(negotiated);
    open.becomes(shared.metrics.connections(negotiated.protocol()));
    let data = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let peer = Peer::new(address, &shared.config.trusted_proxies);
    shared.see(&peer);
    let server_name = data.and_then(|data| data.server_name);
    let connection = Arc::new(Connection {
        thread,
        peer,
        negotiated,
        certificate: shared.office.certificates().find(server_name.as_deref()),
        server_name,
        unread: Some(Arc::new(Unread::new(shared.config.least()))),
        requests: AtomicU64::new(0),
        open,
    });
    let ended = tokio::select! {
        ended = requests(quic.clone(), connection) => ended,
        () = shared.ending.wait() => Ok(()),
    };
    if let Err(error) = ended {
        log::debug!("{address}: {error}");
    }
    // Unless it is closed already, with a better reason.
    quic.close(code(Code::H3_NO_ERROR), b"");
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// Takes requests, each on a task of its own, until the client or the process ends or the connection
/// is not used.
async fn requests(
    quic: quinn::Connection,
    connection: Arc<Connection>,
) -> Result<(), ConnectionError> {
    let shared = Arc::clone(connection.shared());
    let idle = Duration::from_secs(shared.config.header_s);
    let adapted = quic::Connection::new(quic.clone());
    let last_stopped = adapted.last_stopped();
    let mut builder = h3::server::builder();
    builder.max_field_section_size(http1::HEAD_BYTES_MAX as u64);
    let mut serving: h3::server::Connection<quic::Connection, Bytes> =
        builder.build(adapted).await?;
    let load = Arc::new(Load::default());
    // Each request holds a sender; nothing is ever sent.
    let (busy, mut done) = mpsc::channel::<std::convert::Infallible>(1);
    let mut seen = 0;
    // Not begun anew with each request: who asks often may still leave an answer unread.
    let mut looks = tokio::time::interval_at(Instant::now() + idle, idle);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = serving.accept() => {
                let Some(resolver) = accepted? else { return Ok(()) };
                let stopped = last_stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(stopped) = stopped else { continue };
                load.requests.fetch_add(1, Ordering::Relaxed);
                if load.is_abuse() {
                    quic.close(code(Code::H3_EXCESSIVE_LOAD), b"too many requests given up");
                    return Ok(());
                }
                let (connection, load, busy) = (Arc::clone(&connection), Arc::clone(&load), busy.clone());
                tokio::spawn(async move {
                    request::serve(connection, resolver, stopped, load).await;
                    drop(busy);
                });
            }
            () = shared.stopping.wait() => break,
            _ = looks.tick() => {
                // Requests hold the connection: only this function does now.
                let requests = connection.requests.load(Ordering::Relaxed);
                if Arc::strong_count(&connection) == 1 && requests == seen {
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
    drop((busy, connection));
    // h3 names the last request that it may still take, so one more than it has taken: a client takes
    // that one and all after it for refused (RFC 9114 §5.2).
    serving.shutdown(1).await?;
    loop {
        tokio::select! {
            accepted = serving.accept() => match accepted? {
                Some(resolver) => refuse(resolver),
                None => return Ok(()),
            },
            _ = done.recv() => return Ok(()),
        }
    }
}

/// It crossed our goodbye; the client may send it again elsewhere.
fn refuse(mut resolver: RequestResolver<quic::Connection, Bytes>) {
    resolver.frame_stream.reset(Code::H3_REQUEST_REJECTED.value());
}

/// Who knocks from `address`, for the log.
pub fn refused(address: SocketAddr, why: &str) {
    log::debug!("refused a QUIC connection of {address}: {why}");
}
