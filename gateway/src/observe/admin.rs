//! The inside page of the gateway: `/healthz`, `/metrics` and `/status`, in plain HTTP, never published.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;
use prometheus::TextEncoder;

use crate::observe::status;
use crate::relay::answer::Failure;
use crate::shared::Shared;

/// Answers a request on the admin port.
pub fn answer<B>(request: &Request<B>, shared: &Arc<Shared>) -> Response<Full<Bytes>> {
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (content_type, text) = match request.uri().path() {
        "/healthz" if read => match shared.health() {
            Ok(()) => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            Err(why) => return failure(request, StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/status" if read => match serde_json::to_string_pretty(&status::collect(shared)) {
            Ok(page) => ("application/json", page + "\n"),
            Err(error) => {
                return failure(request, StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
            }
        },
        "/metrics" if read => {
            match TextEncoder::new().encode_to_string(&shared.registry.gather()) {
                Ok(page) => ("text/plain; version=0.0.4; charset=utf-8", page),
                Err(error) => {
                    return failure(request, StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
                }
            }
        }
        _ => {
            let detail = "GET /healthz, GET /metrics and GET /status are here".to_owned();
            return failure(request, StatusCode::NOT_FOUND, detail);
        }
    };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn failure<B>(request: &Request<B>, status: StatusCode, detail: String) -> Response<Full<Bytes>> {
    let accept = request.headers().get(header::ACCEPT);
    Failure::new(status, detail).response(accept, true).map(Full::new)
}
