//! A connection to a replica: TCP, TLS over it, or a socket in the file system.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use chassis::Fatal;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Config;
use crate::edge::listen;
use crate::upstream::endpoint::Endpoint;

/// Bytes both ways.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket under it.
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
        }
    }
}

/// Makes connections; one a process.
#[derive(Default)]
pub struct Connector {
    /// How long a replica may leave unread what was sent to it.
    unread: Duration,
    /// Roots that are trusted beside the public ones.
    roots: Vec<CertificateDer<'static>>,
    /// Made when the first replica wants it: the public roots are many.
    tls: OnceLock<Result<TlsConnector, rustls::Error>>,
}

impl Connector {
    /// As the settings want it.
    ///
    /// # Errors
    ///
    /// Why the roots that they name cannot be read.
    pub fn of(config: &Config) -> Result<Self, Fatal> {
        let unread = Duration::from_secs(config.idle_s);
        let Some(path) = &config.upstream_root else { return Ok(Self::new(unread, Vec::new())) };
        let refuse = |why: String| Fatal::new(format!("upstream_root: {}", path.display()), why);
        let roots = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let roots: Vec<_> = roots.map_err(|error| refuse(error.to_string()))?;
        match roots.is_empty() {
            true => Err(refuse("there is no certificate in it; it has to be PEM".to_owned())),
            false => Ok(Self::new(unread, roots)),
        }
    }

    /// Connections whose replica reads nothing for `unread` are given up; `roots` are trusted
    /// beside the public ones.
    pub fn new(unread: Duration, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { unread, roots, tls: OnceLock::new() }
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// What the kernel said; `InvalidData` when TLS failed, see [`distrusted`].
    pub async fn connect(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Tcp(address) | Endpoint::H2c(address) => {
                let stream = TcpStream::connect(address).await?;
                self.tune(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Tls(address, name) => {
                let stream = TcpStream::connect(address).await?;
                self.tune(&stream)?;
                let name = ServerName::try_from(String::from(&**name)).map_err(io::Error::other)?;
                let tls = self.tls().map_err(io::Error::other)?;
                Ok(Stream::Tls(Box::new(tls.connect(name, stream).await?)))
            }
            Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // A tunnel may be silent for long; one to a replica that is gone must end.
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&listen::keepalive())?;
        // Also ends one to a replica that has stopped reading (RFC 5482).
        socket.set_tcp_user_timeout(Some(self.unread))
    }

    fn tls(&self) -> Result<&TlsConnector, rustls::Error> {
        let made = self.tls.get_or_init(|| {
            let mut roots =
                RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            for root in &self.roots {
                roots.add(root.clone())?;
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// Why a replica's certificate was not believed, when that is why there is no connection.
pub fn distrusted(error: &io::Error) -> Option<&rustls::Error> {
    let error = error.get_ref()?.downcast_ref()?;
    matches!(error, rustls::Error::InvalidCertificate(_)).then_some(error)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
