//! Listening sockets on one address, one a thread: the kernel spreads the connections over them
//! (`SO_REUSEPORT`), which one shared socket does not: the first thread that wakes takes them all.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// Connections that the kernel keeps for one socket between two accepts.
const BACKLOG: i32 = 1024;

/// `count` sockets on `address`, all on one port when that is 0.
///
/// # Errors
///
/// What the kernel said: the address is taken, not ours, or not allowed to us.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT, so that a port that another process has is an error, not shared. This
    // also tells what `[::]` means on a machine without IPv6.
    let probe = chassis::bind(address)?;
    let ip = probe.local_addr()?.ip();
    drop(probe);
    let first = listen(SocketAddr::new(ip, address.port()))?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| listen(address));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn connections_are_spread_over_the_sockets() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
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
        let sockets = bind("[::]:0".parse().unwrap(), 1).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let error = bind(address, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
