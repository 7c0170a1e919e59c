//! A connection to the HTTPS port: the TLS handshake, and then the protocol that it chose.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use crate::certs::acme::challenges;
use crate::edge::arrive::Arrival;
use crate::edge::arrive::Client;
use crate::edge::clients;
use crate::edge::http2;
use crate::edge::unread::Unread;
use crate::observe::negotiated::Negotiated;
use crate::rules::forwarded::Peer;
use crate::shared::Connection;

/// Serves one connection until it ends.
pub async fn serve(arrival: Arrival, tls: TlsAcceptor) {
    let Some(Client { stream, address, thread, mut open }) = arrival.client().await else { return };
    let shared = Arc::clone(&thread.shared);
    let config = &shared.config;
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
    let mut stream = stream;
    if stream.get_ref().1.alpn_protocol() == Some(challenges::ALPN) {
        // The handshake was all that the ACME server came for (RFC 8737 §3).
        let _: Result<io::Result<()>, _> = tokio::time::timeout(limit, stream.shutdown()).await;
        return;
    }
    let negotiated = Negotiated::of(stream.get_ref().1);
    shared.metrics.handshake(negotiated);
    open.becomes(shared.metrics.connections(negotiated.protocol()));
    let peer = Peer::new(address, &config.trusted_proxies);
    shared.see(&peer);
    let http2 = negotiated.alpn == "h2";
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let connection = Arc::new(Connection {
        thread,
        peer,
        negotiated,
        // rustls does not say what it served: what it would serve now, a moment later.
        certificate: shared.office.certificates().find(server_name.as_deref()),
        server_name,
        unread: http2.then(|| Arc::new(Unread::new(config.least()))),
        requests: AtomicU64::new(0),
        open,
    });
    // A task of its own: this one's memory holds all that a handshake takes.
    match http2 {
        true => tokio::spawn(async move {
            if let Err(error) = http2::serve(stream, connection).await {
                log::debug!("{address}: {error}");
            }
        }),
        false => tokio::spawn(clients::serve(stream, address, connection)),
    };
}
