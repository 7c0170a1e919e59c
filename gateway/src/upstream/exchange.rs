//! One request to an upstream and the head of its answer, sent again where that is safe.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use hyper::body::Incoming;

use crate::observe::trip::Trip;
use crate::relay::answer::Failure;
use crate::relay::body::Fault;
use crate::relay::body::Upload;
use crate::rules::policy;
use crate::shared::Thread;
use crate::upstream::hold;
use crate::upstream::hold::Missed;
use crate::upstream::pool::Lease;
use crate::upstream::replica::Upstream;

/// Most times that one request is sent.
const TRIES_MAX: u32 = 3;

/// When to come back after a 503, in seconds.
const RETRY_AFTER_S: u64 = 2;

/// A request as the upstream gets it.
pub struct Outgoing {
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    pub headers: HeaderMap,
    pub upload: Upload,
}

/// How a try failed.
enum Broken {
    /// Nothing was written: the request is as it was.
    Unsent(Box<Request<Upload>>),
    /// It may have been read, even acted upon.
    Lost(hyper::Error),
    /// No head in time.
    Late,
}

/// Sends the request to a live replica of `upstream` and waits for the head of the answer.
///
/// It is sent again when nothing of it was written, or when a connection that had been used before
/// was closed without a byte of an answer and sending again is safe (RFC 9110 §9.2.2).
///
/// # Errors
///
/// 503 when no replica is live, 504 when none answers in time, 502 when it breaks, 400 and 408 when
/// the client does.
pub async fn exchange(
    thread: &Thread,
    upstream: &Arc<Upstream>,
    outgoing: Outgoing,
    trip: &mut Trip,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let Outgoing { method, target, headers, upload } = outgoing;
    let idempotent = policy::is_idempotent(&method);
    let limit = Duration::from_secs(thread.shared.config.answer_s);
    let mut headers = Some(headers);
    for tries in 1.. {
        let lease = hold::lease(thread, upstream, trip).await;
        let mut lease = lease.map_err(|missed| no_lease(upstream, &missed))?;
        let mut request = Request::new(upload.clone());
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.clone();
        let again = idempotent && lease.reused && tries < TRIES_MAX;
        let sent = if again { headers.clone() } else { headers.take() };
        *request.headers_mut() = sent.unwrap_or_default();
        trip.tries = tries;
        let begun = Instant::now();
        let answered = attempt(&mut lease, request, &upload, limit).await;
        trip.first_byte += begun.elapsed();
        match answered {
            Ok(response) => return Ok((response, lease)),
            Err(Broken::Unsent(request)) if tries < TRIES_MAX => {
                headers = Some(request.into_parts().0.headers);
            }
            Err(Broken::Lost(error)) if again && !upload.progress().begun => {
                log::debug!("{} at {}: {error}", upstream.name, lease.address);
            }
            Err(Broken::Late) => {
                let detail =
                    format!("{} did not answer in {} s", upstream.service(), limit.as_secs());
                return Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, detail));
            }
            Err(broken) => {
                return Err(match (upload.progress().fault, broken) {
                    (Some(Fault::Idle), _) => Failure::TooSlow,
                    (Some(Fault::Broken), _) => {
                        Failure::new(StatusCode::BAD_REQUEST, "the request's body broke off")
                    }
                    (None, broken) => {
                        if let Broken::Lost(error) = broken {
                            log::warn!("{} at {}: {error}", upstream.name, lease.address);
                        }
                        let name = upstream.service();
                        let detail = format!("{name} broke off without a whole answer; try again");
                        Failure::new(StatusCode::BAD_GATEWAY, detail)
                    }
                });
            }
        }
        thread.pool.forget(&lease.address);
        upstream.metrics.retries.inc();
        upstream.ask.notify_one();
    }
    Err(none_live(upstream.service()))
}

async fn attempt(
    lease: &mut Lease,
    request: Request<Upload>,
    upload: &Upload,
    limit: Duration,
) -> Result<Response<Incoming>, Broken> {
    let answer = lease.sender.try_send_request(request);
    tokio::pin!(answer);
    let mut before = upload.progress();
    loop {
        match tokio::time::timeout(limit, &mut answer).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut error)) => {
                return Err(match error.take_message() {
                    Some(request) => Broken::Unsent(Box::new(request)),
                    None => Broken::Lost(error.into_error()),
                });
            }
            Err(_) => {
                let now = upload.progress();
                // The body still moves, or waits for the client, who has a time limit of its own.
                if now.frames == before.frames && !now.waiting {
                    return Err(Broken::Late);
                }
                before = now;
            }
        }
    }
}

fn no_lease(upstream: &Upstream, missed: &Missed) -> Failure {
    let service = upstream.service();
    match missed {
        Missed::NoneLive => none_live(service),
        Missed::Distrusted(error) => {
            log::error!("{}: {error}; `upstream_root` names roots to trust", upstream.name);
            let detail = format!("{service} has a certificate that the gateway does not trust");
            Failure::new(StatusCode::BAD_GATEWAY, detail)
        }
    }
}

fn none_live(service: &str) -> Failure {
    let detail = format!("{service} is not running just now; try again in a moment");
    let problem = chassis::Problem::new(503, detail).with_retry_after(RETRY_AFTER_S);
    Failure::Problem(problem)
}
