//! Problems as actix-web errors and responses.
//!
//! A handler does not know what its client accepts, so a problem travels as an extension of the
//! response and is worded in the middleware, where the request is known.

use std::fmt;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::Responder;
use actix_web::ResponseError;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::error::PathError;
use actix_web::error::QueryPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::HeaderValue;

use crate::Problem;

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.render(None).1.trim_end())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_s() {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        let mut response = response.finish();
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<Problem> for HttpResponse {
    fn from(problem: Problem) -> Self {
        problem.error_response()
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        self.into()
    }
}

/// Writes the body of a response that carries a problem, as a client that sent `accept` wants it.
pub(super) fn word(
    response: ServiceResponse<impl MessageBody + 'static>,
    accept: Option<&str>,
) -> ServiceResponse<BoxBody> {
    let Some(problem) = problem_in(&response) else {
        return response.map_into_boxed_body();
    };
    let (content_type, body) = problem.render(accept);
    let mut response = response.map_body(|_, _| BoxBody::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The problem that a handler answered, or one for an error that actix-web itself worded.
fn problem_in(response: &ServiceResponse<impl MessageBody>) -> Option<Problem> {
    let response = response.response();
    let status = response.status();
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        return Some(Problem::new(405, "this address does not take that method"));
    }
    let error = response.error()?;
    if status.is_server_error() {
        log::error!("a handler failed: {error}");
        return Some(Problem::new(status.as_u16(), "the service could not do this"));
    }
    Some(Problem::new(status.as_u16(), error.to_string()))
}

pub(super) fn path(error: PathError, _request: &HttpRequest) -> actix_web::Error {
    Problem::new(404, format!("the path does not fit: {error}")).into()
}

pub(super) fn query(error: QueryPayloadError, _request: &HttpRequest) -> actix_web::Error {
    Problem::new(400, format!("the query does not fit: {error}")).into()
}
