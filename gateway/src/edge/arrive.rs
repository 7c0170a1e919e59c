//! Whose connection it is, and whether that client may have one more: known before any TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::edge::listen;
use crate::rules::addresses::Entered;
use crate::rules::proxied;
use crate::rules::proxied::HEADER_BYTES_MAX;
use crate::rules::proxied::Proxied;
use crate::shared::Open;
use crate::shared::Shared;
use crate::shared::Thread;

/// What is looked at first: more than almost any header has.
const GLANCE_BYTES: usize = 256;

/// Lets a connection in, unless its client has as many as it may have. Costs one look into a table,
/// and is asked before a connection gets a place.
pub fn enter(shared: &Shared, address: SocketAddr) -> Option<Entrance> {
    if shared.config.proxy_protocol_from.contains(address.ip().to_canonical()) {
        return Some(Entrance::Proxied);
    }
    count(shared, address).map(Entrance::Direct)
}

/// How a connection came in.
pub enum Entrance {
    /// From a load balancer: a header says whose it is.
    Proxied,
    /// From its client, which counts it.
    Direct(Entered),
}

/// Counts one more connection of the client at `address`, unless it has as many as it may have.
pub fn count(shared: &Shared, address: SocketAddr) -> Option<Entered> {
    let most = shared.config.connections_of(address.ip());
    let entered = shared.addresses.enter(address.ip(), most);
    if entered.is_none() {
        shared.metrics.connection_refused("address");
        log::debug!("{address}: has {most} connections already");
    }
    entered.map(|entered| entered.allow(shared.config.requests_of(address.ip())))
}

/// A connection that the kernel gave us.
pub struct Arrival {
    pub stream: TcpStream,
    /// The socket's.
    pub address: SocketAddr,
    pub entrance: Entrance,
    pub thread: Arc<Thread>,
    pub open: Open,
}

/// A connection, and whose it is.
pub struct Client {
    pub stream: TcpStream,
    pub address: SocketAddr,
    pub thread: Arc<Thread>,
    pub open: Open,
}

impl Arrival {
    /// Learns who the client is: at the socket's other end, or whom a load balancer names. `None` when
    /// what the balancer says makes no sense or does not come in time, or when the client has as many
    /// connections as it may have.
    pub async fn client(self) -> Option<Client> {
        let Self { mut stream, address, entrance, thread, mut open } = self;
        let shared = &thread.shared;
        if let Err(error) = listen::tune(&stream, Duration::from_secs(shared.config.idle_s)) {
            log::debug!("{address}: {error}");
            return None;
        }
        let (address, entered) = match entrance {
            Entrance::Direct(entered) => (address, entered),
            Entrance::Proxied => {
                let client = announced(&mut stream, address, shared).await?;
                (client, count(shared, client)?)
            }
        };
        open.entered = Some(entered);
        Some(Client { stream, address, thread, open })
    }
}

async fn announced(
    stream: &mut TcpStream,
    balancer: SocketAddr,
    shared: &Shared,
) -> Option<SocketAddr> {
    let limit = Duration::from_secs(shared.config.handshake_s);
    let error = match tokio::time::timeout(limit, header(stream)).await {
        // Without a client it is the balancer's own, to see whether we live.
        Ok(Ok(source)) => return Some(source.unwrap_or(balancer)),
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    shared.metrics.connection_refused("proxy_header");
    log::debug!("{balancer}: PROXY protocol: {error}");
    None
}

/// Reads the header and not one byte more: what follows is TLS.
async fn header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(GLANCE_BYTES);
    loop {
        let before = bytes.len();
        bytes.resize((before + GLANCE_BYTES).min(HEADER_BYTES_MAX), 0);
        let seen = stream.peek(&mut bytes[before..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(before + seen);
        let parsed = proxied::parse(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // All of a beginning is the header's.
        let taken = match parsed {
            Proxied::Partial => seen,
            Proxied::Header { length, .. } => length - before,
        };
        stream.read_exact(&mut bytes[before..before + taken]).await?;
        if let Proxied::Header { source, .. } = parsed {
            return Ok(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Sends `pieces`, each once the one before was taken, and reads a header and what follows it.
    async fn read(pieces: &[&[u8]]) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut balancer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        balancer.set_nodelay(true).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let write = async {
            for piece in pieces {
                balancer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            balancer.shutdown().await.unwrap();
        };
        let read = async {
            let source = header(&mut stream).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            Ok((source, rest))
        };
        tokio::join!(write, read).1
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_follows_the_header_is_left() {
        let text = b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n";
        let binary = [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x03\xe8".as_slice(),
            &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 1, 187],
            // A field of 985 bytes (§2.2.7).
            &[0xee, 0x03, 0xd9],
            &[7; 985],
        ]
        .concat();
        for header in [&text[..], &binary] {
            let whole = [header, b"\x16\x03"].concat();
            for cut in [0, 1, 11, 12, 15, 16, 17, 30, header.len() - 1, header.len()] {
                let (source, rest) = read(&[&whole[..cut], &whole[cut..]]).await.unwrap();
                assert_eq!(source.unwrap().to_string(), "192.0.2.1:4660", "cut at {cut}");
                assert_eq!(rest, b"\x16\x03", "cut at {cut}");
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_header_that_ends_early_or_never_was_one_is_an_error() {
        for (bytes, expected) in [
            (&b""[..], io::ErrorKind::UnexpectedEof),
            (b"PROXY TCP4 192.0.2.1", io::ErrorKind::UnexpectedEof),
            (b"\x16\x03\x01", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(&[bytes]).await.unwrap_err().kind(), expected);
        }
    }
}
