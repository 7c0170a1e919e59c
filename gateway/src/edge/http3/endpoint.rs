//! The UDP socket of HTTP/3 and the clients that knock at it.
//!
//! There is one socket, read on the first thread. A connection is given to each thread in turn, with
//! its handshake, its cryptography and its requests. A socket a thread (`SO_REUSEPORT`) would lose a
//! client whose address changes: the kernel chooses the socket by the address.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use quinn::Endpoint;
use quinn::EndpointConfig;
use quinn::IdleTimeout;
use quinn::Incoming;
use quinn::ServerConfig;
use quinn::TransportConfig;
use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::edge::arrive;
use crate::edge::http3::connection;
use crate::edge::http3::connection::Knock;
use crate::shared::Alive;
use crate::shared::Open;
use crate::shared::Thread;

/// Requests at once on one connection, and streams of its own beside them: control, two for QPACK, and
/// reserved ones.
const STREAMS_MAX: u32 = 100;
const CONTROL_STREAMS_MAX: u32 = 8;

/// What one stream and one connection may send us ahead of our reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// What is sent and not acknowledged, on one connection.
const SEND_WINDOW_BYTES: u64 = 512 * 1024;

/// What the kernel may hold for the one socket. It gives less where `rmem_max` is lower.
const SOCKET_BYTES: usize = 2 * 1024 * 1024;

/// Silence after which a client is gone, and how often it is asked before.
const SILENCE: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Handshakes at once. From half of it on, an address has to prove that it is one (RFC 9000 §8.1).
const SHAKING_MAX: usize = 256;

/// Clients that wait for a thread to take them.
const KNOCKS_MAX: usize = 64;

/// Time for goodbyes to go out.
const FAREWELL: Duration = Duration::from_millis(300);

/// A UDP socket at `address`, for all protocols of the Internet when it is `[::]`.
///
/// # Errors
///
/// What the kernel says, such as that another process has it.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // As much as there is: a burst waits here while the thread does something else.
    let _: io::Result<()> = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _: io::Result<()> = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// QUIC with these certificates, and the bounds of a connection.
///
/// # Errors
///
/// When the cryptography has no cipher that QUIC needs.
pub fn server_config(tls: rustls::ServerConfig) -> Result<ServerConfig, String> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| error.to_string())?;
    let silence = IdleTimeout::try_from(SILENCE).map_err(|error| error.to_string())?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(CONTROL_STREAMS_MAX.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(silence))
        .keep_alive_interval(Some(KEEPALIVE))
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport)).max_incoming(SHAKING_MAX);
    Ok(config)
}

/// The socket's side: who knocks is given to a thread.
pub struct Door {
    pub socket: UdpSocket,
    pub config: ServerConfig,
    /// One for each thread.
    pub threads: Vec<mpsc::Sender<Knock>>,
    pub places: Arc<Semaphore>,
    pub gauge: IntGauge,
    pub alive: Alive,
}

/// A way from the door to one thread.
pub fn channel() -> (mpsc::Sender<Knock>, mpsc::Receiver<Knock>) {
    mpsc::channel(KNOCKS_MAX)
}

/// Serves who is given to this thread until nobody can be any more.
pub async fn serve(mut knocks: mpsc::Receiver<Knock>, thread: Arc<Thread>) {
    while let Some(knock) = knocks.recv().await {
        tokio::spawn(connection::serve(knock, Arc::clone(&thread)));
    }
}

impl Door {
    /// Lets clients in until the process stops; then only those that are in are served.
    ///
    /// # Errors
    ///
    /// When the socket cannot be used.
    pub async fn keep(self, thread: Arc<Thread>) -> io::Result<()> {
        let Self { socket, config, threads, places, gauge, alive } = self;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?;
        let shaking = Arc::new(Semaphore::new(SHAKING_MAX));
        let stopping = thread.shared.stopping.clone();
        let mut turn = (0..threads.len()).cycle();
        loop {
            let incoming = tokio::select! {
                () = stopping.wait() => break,
                incoming = endpoint.accept() => incoming,
            };
            let (Some(incoming), Some(turn)) = (incoming, turn.next()) else { break };
            let crowded = shaking.available_permits() < SHAKING_MAX / 2;
            if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
                // It is one that may be retried.
                let _: Result<(), _> = incoming.retry();
                continue;
            }
            let room =
                (Arc::clone(&shaking).try_acquire_owned(), Arc::clone(&places).try_acquire_owned());
            let (Ok(shaking), Ok(place)) = room else {
                refuse(incoming, "too many connections");
                continue;
            };
            let mut open = Open::new(&gauge, place, alive.clone());
            // Others are counted once they have shown that the address is theirs.
            if incoming.remote_address_validated() {
                open.entered = arrive::count(&thread.shared, incoming.remote_address());
                if open.entered.is_none() {
                    refuse(incoming, "it has many");
                    continue;
                }
            }
            if let Err(full) = threads[turn].try_send(Knock { incoming, open, shaking }) {
                refuse(full.into_inner().incoming, "its thread is busy");
            }
        }
        drop(threads);
        log::debug!("QUIC takes no more connections");
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => refuse(incoming, "stopping"),
                    None => break,
                },
                () = quiet(&endpoint) => break,
                () = thread.shared.ending.wait() => break,
            }
        }
        // What is still open has been told why; these are the packets that say so.
        endpoint.close(VarInt::from_u32(0x100), b"");
        let _: Result<(), _> = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
        drop(alive);
        Ok(())
    }
}

/// Waits until no connection is open.
async fn quiet(endpoint: &Endpoint) {
    endpoint.wait_idle().await;
}

/// The client learns at once, and takes TCP.
fn refuse(incoming: Incoming, why: &str) {
    connection::refused(incoming.remote_address(), why);
    incoming.refuse();
}
