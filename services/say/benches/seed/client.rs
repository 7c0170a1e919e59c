//! A client as light as can be, since it shares the machine with what it measures.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket has the option");
        Self { stream, buffer: vec![0; 1 << 18] }
    }

    /// Asks for `path`, as `curl` without options does, and reads the answer, which must be 200.
    pub fn get(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: say\r\nAccept: */*\r\n\r\n");
        self.stream.write_all(request.as_bytes()).expect("it reads");
        let mut filled = 0;
        let mut wanted = usize::MAX;
        while filled < wanted {
            let count = self.stream.read(&mut self.buffer[filled..]).expect("it answers");
            assert!(count > 0, "{path}: the answer broke off");
            filled += count;
            if wanted == usize::MAX {
                wanted = length(&self.buffer[..filled]).unwrap_or(wanted);
            }
        }
        assert!(self.buffer.starts_with(b"HTTP/1.1 200 "), "{path}");
    }
}

/// The length of head and body, once the head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let field = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + field.trim().parse::<usize>().expect("a length is a number"))
}
