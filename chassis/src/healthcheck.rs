//! `healthcheck`: asks the running process whether it can serve, for images without a shell.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for each step of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest status line read.
const LINE_BYTES_MAX: u64 = 1024;

/// Asks `GET /healthz` at `address`; the error says what came instead of 200.
pub(crate) fn ask(address: SocketAddr) -> io::Result<()> {
    let mut last = io::Error::other("no address to ask");
    for address in reachable(address) {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return answer(stream, address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn answer(mut stream: TcpStream, address: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut status)?;
    if status.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other(format!("the answer was {:?}", status.trim_end())))
    }
}

/// An unspecified address is listened on, not connected to.
fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    loopback.map(|ip| SocketAddr::new(ip, address.port())).to_vec()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn asked_of_one_that_says(reply: &'static str) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while !request.next().unwrap().unwrap().is_empty() {}
            stream.write_all(reply.as_bytes()).unwrap();
        });
        let result = ask(address);
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_healthy() {
        assert!(asked_of_one_that_says("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        for reply in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "", "SSH-2.0\r\n"] {
            assert!(asked_of_one_that_says(reply).is_err(), "{reply:?}");
        }
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask(free).is_err());
    }
}
