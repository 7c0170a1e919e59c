//! Listening sockets, for both address families.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// Connections that the kernel keeps for us between two accepts.
const BACKLOG: i32 = 1024;

/// How long a peer may leave sent bytes unread or unacknowledged: longer than the gateway waits
/// for a client that has stopped reading. Accepted sockets inherit it.
const UNREAD_MAX: Duration = Duration::from_secs(150);

/// A listening, non-blocking socket on `address`.
///
/// `[::]` takes IPv4 as well (the peer is then `::ffff:a.b.c.d`), and becomes `0.0.0.0` on a
/// machine without IPv6.
///
/// # Errors
///
/// What the kernel said: the address is taken, not ours, or not allowed to us.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    match listen(address, false) {
        Err(error) if any_v6 && no_ipv6(&error) => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)
        }
        result => result,
    }
}

/// `count` sockets like [`bind`]'s on one port, one a thread: the kernel spreads the connections
/// over them (`SO_REUSEPORT`). Of one shared socket, the first thread that wakes takes them all.
///
/// # Errors
///
/// As [`bind`].
pub fn bind_each(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Not shared, so that a port that another process has is an error. This also tells what
    // `[::]` means on a machine without IPv6.
    let probe = bind(address)?;
    let ip = probe.local_addr()?.ip();
    drop(probe);
    let first = listen(SocketAddr::new(ip, address.port()), true)?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| listen(address, true));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// True when the kernel has no IPv6 at all, or has it switched off.
fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(AF_NOT_SUPPORTED)
}

/// `EAFNOSUPPORT` on Linux.
const AF_NOT_SUPPORTED: i32 = 97;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_unspecified_address_takes_ipv4_too() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn connections_are_spread_over_the_sockets() {
        let sockets = bind_each("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(sockets[1].local_addr().unwrap(), address);
        let clients: Vec<TcpStream> =
            (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        let taken =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count());
        let taken: Vec<usize> = taken.collect();
        assert_eq!(taken.iter().sum::<usize>(), clients.len());
        assert!(taken.iter().all(|count| *count > 8), "{taken:?}");
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_even_when_it_could_be_shared() {
        let sockets = bind_each("[::]:0".parse().unwrap(), 1).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(bind_each(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = bind(first.local_addr().unwrap());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
