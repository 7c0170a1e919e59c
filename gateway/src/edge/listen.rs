//! Listening sockets: connections taken from the kernel, tuned, and each given a task.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::edge::arrive;
use crate::edge::arrive::Arrival;
use crate::edge::handshake;
use crate::edge::plain;
use crate::shared::Accepting;
use crate::shared::Alive;
use crate::shared::Open;
use crate::shared::Thread;

/// Silence after which a peer is asked whether it is there, by the kernel or by an HTTP/2 ping.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// After the kernel refused to give a connection (no more files, say).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        self.accept(|arrival| {
            tokio::spawn(handshake::serve(arrival, tls.clone()));
        })
        .await;
    }

    /// Serves the redirects of plain HTTP until the process stops.
    pub async fn http(self) {
        self.accept(|arrival| {
            tokio::spawn(plain::serve(arrival));
        })
        .await;
    }

    async fn accept(self, spawn: impl Fn(Arrival)) {
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
            // Before it gets a place: who has too many takes nobody else's.
            let Some(entrance) = arrive::enter(&self.thread.shared, address) else { continue };
            let place = tokio::select! {
                () = &mut stopped => return,
                place = Arc::clone(&self.places).acquire_owned() => place,
            };
            // Never closed, so there is always a place in the end.
            let Ok(place) = place else { return };
            let open = Open::new(&self.gauge, place, self.alive.clone());
            let thread = Arc::clone(&self.thread);
            spawn(Arrival { stream, address, entrance, thread, open });
        }
    }
}

/// No delay for small answers, an end for peers that are gone or do not read.
pub fn tune(stream: &TcpStream, unread: Duration) -> io::Result<()> {
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
