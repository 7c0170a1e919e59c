//! The HTTP client of ACME: one server, one connection at a time, everything bounded. It trusts the
//! public roots that are compiled in (an image from scratch has none) and one more if set.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Uri;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use instant_acme::BodyWrapper;
use instant_acme::BytesResponse;
use instant_acme::HttpClient;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For a connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For one request with its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer: a chain of certificates has some ten thousand bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What the clients of one process share.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The public roots, and those in the PEM file `extra`.
    ///
    /// # Errors
    ///
    /// Why the file cannot be used.
    pub fn new(extra: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = extra {
            let refuse = |why: String| format!("acme_root: {}: {why}", path.display());
            let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
                roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
            }
            if roots.len() == before {
                return Err(refuse("there is no certificate in it; it has to be PEM".to_owned()));
            }
        }
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| format!("acme_root: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// A client for one try; a clone is the same one.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    trust: Trust,
    /// The connection of the last request, with whom it is to.
    kept: tokio::sync::Mutex<Option<(String, Sender)>>,
    pauses: Mutex<Pauses>,
}

/// `Retry-After`, which instant-acme does not tell.
#[derive(Clone, Copy, Default)]
struct Pauses {
    /// Of the last answer.
    last: Option<Duration>,
    /// Of the last answer that was an error.
    refused: Option<Duration>,
}

type Sender = SendRequest<BodyWrapper<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0} is no https URL")]
    Url(String),
    #[error("no connection to {authority}: {why}")]
    Connect { authority: String, why: String },
    #[error("{authority} did not answer: {why}")]
    Exchange { authority: String, why: String },
}

impl Client {
    /// A client that has no connection yet.
    pub fn new(trust: &Trust) -> Self {
        Self(Arc::new(Inner {
            trust: trust.clone(),
            kept: tokio::sync::Mutex::new(None),
            pauses: Mutex::default(),
        }))
    }

    /// `Retry-After` of the last answer that was an error.
    pub fn refused_for(&self) -> Option<Duration> {
        self.pauses().refused
    }

    /// `Retry-After` of the last answer: when to look at an order again.
    pub fn ask_again_in(&self) -> Option<Duration> {
        self.pauses().last
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.0.pauses.lock().expect("no holder of the lock panics")
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<BodyWrapper<Bytes>>, ClientError> {
        let uri = request.uri().clone();
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let (Some(authority), true) = (uri.authority().map(ToString::to_string), secure) else {
            return Err(ClientError::Url(uri.to_string()));
        };
        let fail = |why: String| ClientError::Exchange { authority: authority.clone(), why };
        let (mut parts, body) = request.into_parts();
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = Uri::from_str(target).map_err(|error| fail(error.to_string()))?;
        let host = HeaderValue::from_str(&authority).map_err(|error| fail(error.to_string()))?;
        parts.headers.insert(header::HOST, host);
        let body = body.collect().await.map_or_else(|never| match never {}, |b| b.to_bytes());
        // One request at a time, as the nonces of one order follow each other anyway.
        let mut kept = self.0.kept.lock().await;
        let mut reused = kept.take().filter(|(to, sender)| *to == authority && !sender.is_closed());
        loop {
            let again = reused.is_some();
            let mut sender = match reused.take() {
                Some((_, sender)) => sender,
                None => self.connect(&uri, &authority).await?,
            };
            let body = match body.is_empty() {
                true => BodyWrapper::default(),
                false => BodyWrapper::from(body.to_vec()),
            };
            let request = Request::from_parts(parts.clone(), body);
            match self.send(&mut sender, request).await {
                Ok(response) => {
                    *kept = Some((authority, sender));
                    return Ok(response);
                }
                // The server closed a connection that was not in use. To send the request again
                // is safe: what it signs has a nonce, so it is done once (RFC 8555 §6.5).
                Err(_) if again => {}
                Err(why) => return Err(fail(why)),
            }
        }
    }

    async fn connect(&self, uri: &Uri, authority: &str) -> Result<Sender, ClientError> {
        let fail = |why: String| ClientError::Connect { authority: authority.to_owned(), why };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let connecting = async {
            let stream = TcpStream::connect((host, port)).await?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            TlsConnector::from(Arc::clone(&self.0.trust.0)).connect(name, stream).await
        };
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(fail(error.to_string())),
            Err(_) => return Err(fail(format!("not within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| fail(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection to an ACME server: {error}");
            }
        });
        Ok(sender)
    }

    async fn send(
        &self,
        sender: &mut Sender,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<BodyWrapper<Bytes>>, String> {
        let exchange = async {
            sender.ready().await.map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(Response::from_parts(parts, body))
        };
        let response = tokio::time::timeout(REQUEST_TIMEOUT, exchange)
            .await
            .map_err(|_| format!("not within {} s", REQUEST_TIMEOUT.as_secs()))??;
        let pause = response.headers().get(header::RETRY_AFTER).and_then(retry_after_pause);
        let mut pauses = self.pauses();
        pauses.last = pause;
        if !response.status().is_success() {
            pauses.refused = pause;
        }
        drop(pauses);
        Ok(response.map(|body| BodyWrapper::from(body.to_vec())))
    }
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after_pause(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match client.exchange(request).await {
                Ok(response) => Ok(response.into()),
                Err(error) => Err(instant_acme::Error::Other(Box::new(error))),
            }
        })
    }
}
