//! Clients: HTTP/1.1 written by hand over OpenSSL, and HTTP/2 by hyper over rustls.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use openssl::ssl::SslConnector;
use openssl::ssl::SslConnectorBuilder;
use openssl::ssl::SslMethod;
use openssl::ssl::SslStream;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Gateway;
use super::LONG;

/// A connection over which HTTP/1.1 is written by hand.
pub type Client = BufReader<SslStream<TcpStream>>;

/// A TLS connection to `gateway` as `name`, checked against its root, by OpenSSL.
pub fn tls(
    gateway: &Gateway,
    name: &str,
    set: impl FnOnce(&mut SslConnectorBuilder),
) -> Result<Client, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_ca_file(gateway.root()).unwrap();
    set(&mut builder);
    let stream = TcpStream::connect(gateway.https).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let connected = builder.build().connect(name, stream);
    connected.map(BufReader::new).map_err(|error| error.to_string())
}

/// An answer of HTTP/1.1, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<String>,
}

impl Answer {
    /// The only value of that field, if there is one.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(key, _)| key == name);
        let first = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} is there twice");
        first
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// Writes `request` on a new connection and reads the answer.
pub fn exchange(gateway: &Gateway, request: impl AsRef<[u8]>) -> Answer {
    let mut client = tls(gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(request.as_ref()).unwrap();
    let method = String::from_utf8_lossy(request.as_ref());
    read_answer(&mut client, method.starts_with("HEAD")).unwrap()
}

/// Reads the next answer that is not 1xx (but 101).
pub fn read_answer(client: &mut impl BufRead, head: bool) -> io::Result<Answer> {
    loop {
        let answer = read_any(client, head)?;
        if answer.status == 101 || answer.status >= 200 {
            return Ok(answer);
        }
    }
}

fn read_any(client: &mut impl BufRead, head: bool) -> io::Result<Answer> {
    let start = line(client)?;
    let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, start))?;
    let mut fields = Vec::new();
    loop {
        let field = line(client)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, fields, body: Vec::new(), trailers: Vec::new() };
    if head || status < 200 || status == 204 || status == 304 {
        return Ok(answer);
    }
    if answer.field("transfer-encoding") == Some("chunked") {
        loop {
            let size = line(client)?;
            let size = usize::from_str_radix(&size, 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let start = answer.body.len();
            answer.body.resize(start + size, 0);
            client.read_exact(&mut answer.body[start..])?;
            if size == 0 {
                break;
            }
            line(client)?;
        }
        loop {
            match line(client)? {
                end if end.is_empty() => break,
                trailer => answer.trailers.push(trailer),
            }
        }
    } else if let Some(length) = answer.field("content-length") {
        answer.body.resize(length.parse().unwrap(), 0);
        client.read_exact(&mut answer.body)?;
    } else {
        client.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn line(client: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if client.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Sends `requests` at once over one HTTP/2 connection and reads the answers.
pub fn h2(
    gateway: &Gateway,
    requests: Vec<http::Request<Full<Bytes>>>,
) -> Vec<http::Response<Bytes>> {
    h2_client(gateway)(requests)
}

/// An HTTP/2 connection that sends requests at once and gives their answers, again and again.
pub fn h2_client(
    gateway: &Gateway,
) -> impl FnMut(Vec<http::Request<Full<Bytes>>>) -> Vec<http::Response<Bytes>> + use<> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sender = runtime.block_on(async {
        let stream = rustls_stream(gateway).await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        sender
    });
    move |requests| {
        let one = |request| {
            let mut sender = sender.clone();
            async move {
                let (head, body) = sender.send_request(request).await.unwrap().into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                http::Response::from_parts(head, body)
            }
        };
        let all = futures_util::future::join_all(requests.into_iter().map(one));
        runtime.block_on(async { tokio::time::timeout(LONG, all).await.unwrap() })
    }
}

/// The sending side of an HTTP/2 connection, for requests without a body.
pub type H2 = hyper::client::conn::http2::SendRequest<http_body_util::Empty<Bytes>>;

/// Lets `work` have an HTTP/2 connection that has the server's settings.
pub fn on_h2<Work: Future<Output = ()>>(gateway: &Gateway, work: impl FnOnce(H2) -> Work) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async {
        let stream = rustls_stream(gateway).await;
        let (mut sender, connection): (H2, _) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        // Extended CONNECT may be sent once the server's SETTINGS have come. The gateway answers this one.
        let first = http::Request::get("https://localhost/healthz").body(Default::default());
        let first = sender.send_request(first.unwrap()).await.unwrap();
        first.into_body().collect().await.unwrap();
        work(sender).await;
    };
    runtime.block_on(async { tokio::time::timeout(LONG, all).await.unwrap() });
}

/// What rustls needs to speak `protocol` with `gateway`.
pub(super) fn rustls_config(gateway: &Gateway, protocol: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.root()).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

async fn rustls_stream(
    gateway: &Gateway,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let config = rustls_config(gateway, b"h2");
    let stream = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    stream
}
