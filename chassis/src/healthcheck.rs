//! Asks the running process at its own port, for images without a shell: `healthcheck`, and what a
//! binary adds.

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

/// Longest head of an answer that is read.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Longest answer to `GET /healthz` that is read.
const HEALTH_BYTES_MAX: u64 = 1024;

/// Asks `GET /healthz` at `address`; the error says what came instead of 200.
pub(crate) fn healthy(address: SocketAddr) -> io::Result<()> {
    ask(address, "/healthz", HEALTH_BYTES_MAX).map(|_| ())
}

/// The text that `GET path` gets at `address`, where an own process listens.
///
/// # Errors
///
/// When nobody answers, with anything but 200, or with more than `bytes_max`.
pub fn ask(address: SocketAddr, path: &str, bytes_max: u64) -> io::Result<String> {
    let mut last = io::Error::other("no address to ask");
    for address in reachable(address) {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return answer(stream, address, path, bytes_max),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn answer(
    mut stream: TcpStream,
    address: SocketAddr,
    path: &str,
    bytes_max: u64,
) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = BufReader::new(stream.take(HEAD_BYTES_MAX));
    let mut status = String::new();
    answer.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("the answer was {:?}", status.trim_end())));
    }
    let mut line = String::new();
    while answer.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    answer.get_mut().set_limit(bytes_max + 1);
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    match text.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("the answer is longer than {bytes_max} bytes"))),
        false => Ok(text),
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

    fn asked_of_one_that_says(reply: &'static str) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while !request.next().unwrap().unwrap().is_empty() {}
            stream.write_all(reply.as_bytes()).unwrap();
        });
        let result = ask(address, "/", 3);
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_healthy() {
        let answered = asked_of_one_that_says("HTTP/1.1 200 OK\r\nA: b\r\n\r\nok\n");
        assert_eq!(answered.unwrap(), "ok\n");
        assert!(asked_of_one_that_says("HTTP/1.1 200 OK\r\n\r\nlong").is_err());
        for reply in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "", "SSH-2.0\r\n"] {
            assert!(asked_of_one_that_says(reply).is_err(), "{reply:?}");
        }
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(healthy(free).is_err());
    }
}
