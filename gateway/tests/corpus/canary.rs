//! A service that keeps every byte that reaches it, and reads it with a parser of its own.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

/// What came over one connection.
#[derive(Debug, Default)]
struct Wire {
    bytes: Vec<u8>,
    /// How many of them were whole requests.
    read: usize,
    closed: bool,
}

#[derive(Default)]
struct Seen {
    /// Whole requests since somebody asked: how each starts, and its body.
    requests: Vec<(String, Vec<u8>)>,
    wires: Vec<Wire>,
}

/// The service.
pub struct Canary {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Canary {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                all.lock().unwrap().wires.push(Wire::default());
                let (stream, all) = (stream.unwrap(), Arc::clone(&all));
                thread::spawn(move || {
                    let _: io::Result<()> = serve(stream, &all, index);
                    all.lock().unwrap().wires[index].closed = true;
                });
            }
        });
        Self { address, seen }
    }

    /// The whole requests since the last time.
    pub fn take(&self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }

    /// Connections that have bytes of a request which has not ended, and may still.
    pub fn unfinished(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.wires.iter().filter(|wire| !wire.closed && wire.read < wire.bytes.len()).count()
    }

    /// Every byte that was no whole request, by connection.
    pub fn leftovers(&self) -> Vec<Vec<u8>> {
        let seen = self.seen.lock().unwrap();
        let left = seen.wires.iter().map(|wire| wire.bytes[wire.read..].to_vec());
        left.filter(|bytes| !bytes.is_empty()).collect()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, index: usize) -> io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut answers = 0;
        {
            let mut seen = seen.lock().unwrap();
            seen.wires[index].bytes.extend_from_slice(&buffer[..length]);
            loop {
                let wire = &mut seen.wires[index];
                let Some((request, length)) = request(&wire.bytes[wire.read..])? else { break };
                wire.read += length;
                seen.requests.push(request);
                answers += 1;
            }
        }
        for _ in 0..answers {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
        }
    }
}

type Request = (String, Vec<u8>);

/// The request that `bytes` start with, and how long it is; an error when there can be none.
fn request(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| bad("the head is no text"));
    let head = head.unwrap_or_default().to_ascii_lowercase();
    let line = bytes[..end].split(|c| *c == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let start = line.strip_suffix(" HTTP/1.1").ok_or_else(|| bad("an odd start line"))?;
    let field = |name: &str| {
        let lines = head.split("\r\n").filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().to_owned()).next()
    };
    let mut rest = &bytes[end + 4..];
    let mut body = Vec::new();
    if let Some(length) = field("content-length:") {
        let length: usize = length.parse().map_err(|_| bad("an odd length"))?;
        if rest.len() < length {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    } else if field("transfer-encoding:").as_deref() == Some("chunked") {
        loop {
            let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
            let digits = str::from_utf8(&rest[..end]).map_err(|_| bad("an odd chunk"))?;
            let size = usize::from_str_radix(digits, 16).map_err(|_| bad("an odd chunk"))?;
            rest = &rest[end + 2..];
            if size == 0 {
                break;
            }
            if rest.len() < size + 2 {
                return Ok(None);
            }
            body.extend_from_slice(&rest[..size]);
            rest = &rest[size + 2..];
        }
        loop {
            let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
            rest = &rest[end + 2..];
            if end == 0 {
                break;
            }
        }
    }
    Ok(Some(((start.to_owned(), body), bytes.len() - rest.len())))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
