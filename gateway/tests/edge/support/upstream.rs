//! A small HTTP/1.1 server whose every byte the test decides.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET /x HTTP/1.1`
    pub line: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Request {
    /// Every value of that field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(key, _)| key == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of that field, if there is one.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is there {} times", all.len());
        all.first().copied()
    }
}

/// One request on its connection; the handler reads the body and writes the answer.
pub struct Call<'a> {
    pub request: Request,
    pub stream: &'a mut BufReader<TcpStream>,
    /// How many requests this connection had before.
    pub nth: usize,
}

impl Call<'_> {
    /// The whole body; and the trailers when it is chunked.
    pub fn body(&mut self) -> io::Result<(Vec<u8>, Vec<String>)> {
        let mut body = Vec::new();
        let mut trailers = Vec::new();
        if self.request.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(self.stream)?, 16)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                if size == 0 {
                    break;
                }
                line(self.stream)?;
            }
            loop {
                match line(self.stream)? {
                    end if end.is_empty() => break,
                    trailer => trailers.push(trailer),
                }
            }
        } else if let Some(length) = self.request.field("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok((body, trailers))
    }

    /// Writes these bytes.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// `200 OK` with this text.
    pub fn ok(&mut self, text: &str) -> io::Result<()> {
        self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
    }
}

/// Read one line without its end.
fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// A running upstream. Every request that it saw is kept.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
}

impl Upstream {
    /// Calls `handle` for each request; an error (or a request that cannot be read) closes the
    /// connection.
    pub fn start(handle: impl Fn(&mut Call<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), handle)
    }

    /// The same at a certain address.
    pub fn start_at(
        address: SocketAddr,
        handle: impl Fn(&mut Call<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let closed = Arc::new(AtomicBool::new(false));
        let handle = Arc::new(handle);
        let upstream = Self { address, seen: Arc::clone(&seen), closed: Arc::clone(&closed) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (handle, seen) = (Arc::clone(&handle), Arc::clone(&seen));
                let Ok(stream) = stream else { continue };
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || serve(&mut BufReader::new(stream), &*handle, &seen));
            }
        });
        upstream
    }

    /// Answers `200 OK` to everything, with the request itself as the body.
    pub fn echo() -> Self {
        Self::start(|call| {
            let (body, _) = call.body()?;
            let mut text = format!("{}\n", call.request.line);
            for (name, value) in &call.request.fields {
                text.push_str(&format!("{name}: {value}\n"));
            }
            text.push_str(&format!("{} bytes", body.len()));
            call.ok(&text)
        })
    }

    /// A route for everything to here.
    pub fn route(&self) -> String {
        format!("/=http://{}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Takes no more connections; those that are open go on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, which then drops its socket.
        drop(TcpStream::connect(self.address));
        super::until("the port to close", || TcpStream::connect(self.address).err());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: &mut BufReader<TcpStream>,
    handle: &dyn Fn(&mut Call<'_>) -> io::Result<()>,
    seen: &Mutex<Vec<Request>>,
) {
    for nth in 0.. {
        let Ok(request) = read_request(stream) else { return };
        seen.lock().unwrap().push(request.clone());
        if handle(&mut Call { request, stream, nth }).is_err() {
            return;
        }
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let start = line(stream)?;
    let mut fields = Vec::new();
    loop {
        let field = line(stream)?;
        if field.is_empty() {
            return Ok(Request { line: start, fields });
        }
        let (name, value) = field.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
