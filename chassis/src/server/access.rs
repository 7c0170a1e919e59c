//! The middleware around every request: an id, a log line, a count, and the wording of problems.

use std::time::Instant;

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::ACCEPT;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use actix_web::web::Data;

use crate::Stopping;
use crate::excerpt;
use crate::random_id;

use super::metrics::Metrics;
use super::problem;

/// Named by the gateway, so that one name runs through all logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const ID_LENGTH_MAX: usize = 128;

pub(super) async fn access(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let start = Instant::now();
    let id = id_of(&request);
    let accept = accept(&request);
    let client = header(&request, &HeaderName::from_static("x-forwarded-for"))
        .or_else(|| request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()));
    let method = method_label(request.method());
    let path = request.path().to_owned();
    let metrics = request.app_data::<Data<Metrics>>().cloned();
    let stopping = request.app_data::<Data<Stopping>>().cloned();

    let mut response = problem::word(next.call(request).await?, accept.as_deref());

    let duration = start.elapsed();
    let status = response.status().as_u16();
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    if let Some(metrics) = metrics {
        metrics.count(&route, method, status, duration.as_secs_f64());
    }
    let routine = matches!(route.as_str(), "/healthz" | "/metrics") && status < 400;
    let level = if routine { log::Level::Debug } else { log::Level::Info };
    log::log!(
        target: "access",
        level,
        request_id = id.as_str(),
        client = client.as_deref().unwrap_or("-"),
        method = method,
        path:% = excerpt(&path),
        status = status,
        ms = milliseconds(duration);
        "request"
    );
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if stopping.is_some_and(|stopping| stopping.is_stopping()) && status >= 200 {
        // A request that comes later would meet a closed connection.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// The id that the gateway gave, where it is one; else a new one.
fn id_of(request: &ServiceRequest) -> String {
    header(request, &REQUEST_ID)
        .filter(|id| (1..=ID_LENGTH_MAX).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or_else(random_id)
}

/// All `Accept` lines as one, RFC 9110 §5.3.
fn accept(request: &ServiceRequest) -> Option<String> {
    let lines = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    lines.map(str::to_owned).reduce(|all, line| all + "," + &line)
}

fn header(request: &ServiceRequest, name: &HeaderName) -> Option<String> {
    request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// One of nine: what a client makes up is no label.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "CONNECT" => "CONNECT",
        "DELETE" => "DELETE",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "POST" => "POST",
        "PUT" => "PUT",
        _ => "other",
    }
}

/// Milliseconds to three places: microseconds, which is what the clock is good for.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
