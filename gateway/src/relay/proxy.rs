//! One request in, one request out, one response back.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::Version;
use http::header;
use http::request::Parts;
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;

use crate::observe::account::Account;
use crate::observe::account::Counted;
use crate::observe::scrape;
use crate::relay::answer::Failure;
use crate::relay::body::Download;
use crate::relay::body::Upload;
use crate::relay::inbound::Inbound;
use crate::relay::tunnel;
use crate::relay::upgrade::Upgrade;
use crate::rules::forwarded;
use crate::rules::hop;
use crate::rules::policy;
use crate::rules::policy::Refusal;
use crate::rules::trace;
use crate::rules::websocket;
use crate::shared::Connection;
use crate::upstream::answer::Answer;
use crate::upstream::exchange;
use crate::upstream::exchange::Outgoing;
use crate::upstream::http1::call::Limits;
use crate::wire::ahead::Ahead;
use crate::wire::hex;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Long enough for lists that browsers carry (<https://hstspreload.org>); no word about names below,
/// which may be others' machines.
const ONE_YEAR: &str = "max-age=31536000";

/// Longest request id that is passed on.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// When to come back after there were too many requests at once, in seconds.
const CROWDED_RETRY_AFTER_S: u64 = 1;

/// Answers one request of a client.
pub async fn answer(connection: Arc<Connection>, request: Request<Inbound>) -> Response<Download> {
    let (mut parts, body) = request.into_parts();
    connection.requests.fetch_add(1, Ordering::Relaxed);
    let mut account = Account::open(&connection, parts.method.clone(), parts.uri.clone());
    let shared = connection.shared();
    // Who is there already need not be told.
    let alternative = shared.alternative.clone().filter(|_| parts.version < Version::HTTP_3);
    let full = shared.metrics.in_flight.get() > shared.requests_max;
    let crowded = match account.over {
        true => Some("your address has as many requests at once as it may; try again in a moment"),
        false => full.then_some("too many requests at once; try again in a moment"),
    };
    account.request_id = request_id(&mut parts.headers);
    if shared.config.log_user_agents {
        account.user_agent = parts.headers.get(header::USER_AGENT).cloned();
    }
    let accept = parts.headers.get(header::ACCEPT).cloned();
    let http1 = parts.version < Version::HTTP_2;
    let promise = promise(&connection);
    let served = match crowded {
        None => serve(&connection, parts, body, &mut account).await,
        Some(detail) => {
            account.leave();
            Err(too_many(detail))
        }
    };
    let served = served.unwrap_or_else(|failure| {
        if let Failure::Refused(refusal) = &failure {
            shared.metrics.refused(refusal.reason());
            log::debug!("refused a request of {}: {refusal}", connection.peer.address);
        }
        Served::Own(failure.response(accept.as_ref(), http1))
    });
    let request_id = account.request_id.clone();
    let mut response = match served {
        Served::Own(response) => {
            let (mut head, mut text) = response.into_parts();
            account.answered(head.status);
            if account.method == Method::HEAD {
                // hyper would send the body of an answer to a HEAD over HTTP/2.
                head.headers.insert(header::CONTENT_LENGTH, text.len().into());
                text.clear();
            }
            Response::from_parts(head, Download::own(text, Some(account)))
        }
        Served::Relayed(response) => {
            let (head, answer) = response.into_parts();
            account.answered(head.status);
            Response::from_parts(head, Download::relayed(answer, account))
        }
        Served::Tunnel(head, tunnel) => {
            account.answered(head.status());
            tokio::spawn(tunnel.run(connection, account));
            head.map(|()| Download::own(Bytes::new(), None))
        }
    };
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), request_id);
    // Where a service says the same, its own word counts.
    if let Some(elsewhere) = &alternative {
        headers.entry(header::ALT_SVC).or_insert_with(|| elsewhere.clone());
    }
    if let Some(promise) = promise {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(promise);
    }
    response
}

/// What tells browsers to come by HTTPS only (RFC 6797): where the certificate is one that they trust
/// by themselves, and where the port is HTTPS' own, as the promise is about every port of the host.
fn promise(connection: &Connection) -> Option<HeaderValue> {
    let public = connection.certificate.as_ref().is_some_and(|served| served.public);
    let at_home = connection.shared().config.public_https_port == 443;
    (public && at_home).then(|| HeaderValue::from_static(ONE_YEAR))
}

/// Answers what is no request; it counts as one, whose method and target are unknown.
pub fn refuse(connection: &Arc<Connection>, failure: &Failure) -> Response<Download> {
    if let Failure::Refused(refusal) = failure {
        connection.shared().metrics.refused(refusal.reason());
    }
    let unknown = Method::from_bytes(b"-").unwrap_or_default();
    let mut account = Account::open(connection, unknown, Uri::default());
    account.request_id = new_id();
    let request_id = account.request_id.clone();
    let (head, text) = failure.response(None, true).into_parts();
    account.answered(head.status);
    let mut response = Response::from_parts(head, Download::own(text, Some(account)));
    response.headers_mut().insert(REQUEST_ID.clone(), request_id);
    response
}

/// How a request is answered.
enum Served {
    Own(Response<Bytes>),
    Relayed(Response<Answer>),
    Tunnel(Response<()>, tunnel::Tunnel),
}

async fn serve(
    connection: &Arc<Connection>,
    mut parts: Parts,
    body: Inbound,
    account: &mut Account,
) -> Result<Served, Failure> {
    let shared = connection.shared();
    if parts.version >= Version::HTTP_2 {
        policy::multiplexed(&parts.method, &parts.uri, &parts.headers)?;
    }
    policy::method(&parts.method)?;
    // From here on it is what it would be in HTTP/1.1: a GET that asks to switch.
    let extended = websocket::is_extended(&parts.method, &parts.extensions);
    if extended {
        parts.method = Method::GET;
    }
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let detail = format!("{} is not served here", parts.method);
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    account.host = policy::host(&parts.uri, &parts.headers)?;
    policy::target(&parts.uri)?;
    forwarded::unambiguous(&parts.headers)?;
    directed(connection, &account.host)?;
    let asked = hop::remove(&mut parts.headers);
    account.trace_id = Some(trace::carry(&mut parts.headers, rand::random));
    if policy::is_internal(parts.uri.path()) {
        account.count_for(Counted::Metrics);
        return scrape::answer(connection, &account.host, &parts).await.map(Served::Own);
    }
    let line = shared.live.load().find(&account.host, parts.uri.path());
    let Some(line) = line else {
        let detail = format!(
            "no route for {}{}; GATEWAY__ROUTES or routes.toml has one for each",
            account.host,
            parts.uri.path(),
        );
        return Err(Failure::new(StatusCode::NOT_FOUND, detail));
    };
    account.count_for(Counted::Route(Arc::clone(&line)));
    let limits = line.limits;
    let mut least = shared.config.least();
    least.patience = limits.idle.unwrap_or(least.patience);
    let bytes_max = NonZeroU64::new(limits.body_bytes_max.unwrap_or(shared.config.body_bytes_max));
    if let Some(max) = bytes_max.filter(|max| body.size_hint().lower() > max.get()) {
        return Err(Failure::TooLarge(max));
    }
    let upload = Upload::new(body, least, bytes_max, &line.metrics.request_bytes);
    account.received = upload.received();

    account.client = outgoing_headers(&mut parts, connection, asked)?;
    parts.headers.insert(REQUEST_ID.clone(), account.request_id.clone());
    let websocket =
        asked.websocket && parts.version == Version::HTTP_11 && parts.method == Method::GET;
    let client_side = upgrade(&mut parts.extensions).filter(|_| websocket || extended);
    if client_side.is_some() {
        upgrade_fields(&mut parts.headers);
    }
    let accept = extended.then(|| websocket::ask(&mut parts.headers, rand::random()));
    let target = parts.uri.into_parts().path_and_query.map_or_else(Uri::default, Uri::from);
    let config = &shared.config;
    let limits = Limits {
        answer: limits.answer.unwrap_or_else(|| Duration::from_secs(config.answer_s)),
        idle: limits.idle.unwrap_or_else(|| Duration::from_secs(config.idle_s)),
    };
    let outgoing =
        Outgoing { method: parts.method, target, headers: parts.headers, upload, limits };
    let answered =
        exchange::exchange(&connection.thread, &line.upstream, outgoing, &mut account.trip).await?;

    let exchange::Answered { status, mut headers, body } = answered;
    hop::remove(&mut headers);
    headers.remove(header::SERVER);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        if extended && status.is_success() {
            // To the client, any 2xx would say that the WebSocket is open (RFC 8441 §5).
            return Err(Failure::new(StatusCode::BAD_GATEWAY, "this is not a WebSocket"));
        }
        *response.headers_mut() = headers;
        return Ok(Served::Relayed(response));
    }
    let (head, answer) = response.into_parts();
    match (client_side, answer.into_tunnel()) {
        (Some(client), Some((stream, ahead, load))) => {
            let mut response = Response::from_parts(head, ());
            match accept {
                None => upgrade_fields(&mut headers),
                Some(accept) if websocket::is_accepted(&mut headers, &accept) => {
                    *response.status_mut() = StatusCode::OK;
                }
                Some(_) => {
                    let detail = "the service did not read the WebSocket's key";
                    return Err(Failure::new(StatusCode::BAD_GATEWAY, detail));
                }
            }
            *response.headers_mut() = headers;
            let upstream = Box::new(Ahead::new(ahead, stream));
            Ok(Served::Tunnel(response, tunnel::Tunnel { client, upstream, load }))
        }
        // Nobody asked for it: the answer makes no sense.
        _ => Err(Failure::new(StatusCode::BAD_GATEWAY, "the service switched protocols unasked")),
    }
}

/// The connection that can be handed over, hyper's or another's.
fn upgrade(extensions: &mut Extensions) -> Option<Upgrade> {
    let hyper = extensions.remove::<OnUpgrade>().map(Upgrade::from);
    extensions.remove::<Upgrade>().or(hyper)
}

/// A request for a host that the handshake was not for, on a connection whose certificate does not
/// cover it, was sent the wrong way (RFC 9110 §15.5.20).
fn directed(connection: &Connection, host: &str) -> Result<(), Failure> {
    let covered = || connection.certificate.as_ref().is_some_and(|served| served.covers(host));
    match &connection.server_name {
        Some(name) if name != host && !covered() => {
            let detail = format!("this connection was made for {name}, not for {host}");
            Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, detail))
        }
        _ => Ok(()),
    }
}

/// Makes the fields of a client's request those of the gateway's, and says who asks.
fn outgoing_headers(
    parts: &mut Parts,
    connection: &Connection,
    asked: hop::Asked,
) -> Result<IpAddr, Refusal> {
    let headers = &mut parts.headers;
    let host = match headers.get(header::HOST) {
        Some(host) => host.clone(),
        None => {
            let authority = parts.uri.authority().ok_or(Refusal::HostCount)?;
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::HostForm)?
        }
    };
    let trusted = &connection.shared().config.trusted_proxies;
    let client = forwarded::rewrite(headers, &connection.peer, &host, trusted);
    // Even when `Connection` named it.
    headers.insert(header::HOST, host);
    // The gateway itself says 100 once the upstream takes the body.
    headers.remove(header::EXPECT);
    if parts.version >= Version::HTTP_2 {
        join_cookies(headers);
    }
    if asked.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(client)
}

/// HTTP/2 and 3 may cut `Cookie` into several fields; HTTP/1 has one (RFC 9113 §8.2.3, RFC 9114
/// §4.2.1).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
}

fn upgrade_fields(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// The client's request id where it is a sane one, else a new one.
fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let sane = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let fits = |c: &u8| c.is_ascii_alphanumeric() || b"-_.:/+=".contains(c);
        !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX && bytes.iter().all(fits)
    };
    headers.remove(&REQUEST_ID).filter(sane).unwrap_or_else(new_id)
}

/// 32 hex digits. They name a request and guard nothing, so they need no system call each.
fn new_id() -> HeaderValue {
    let mut text = [0; 32];
    hex::write(&mut text, &rand::random::<[u8; 16]>());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn too_many(detail: &'static str) -> Failure {
    Failure::Problem(chassis::Problem::new(503, detail).with_retry_after(CROWDED_RETRY_AFTER_S))
}
