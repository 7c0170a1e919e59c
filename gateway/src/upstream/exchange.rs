//! One request to an upstream and the head of its answer, sent again where that is safe.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use http::Uri;
use hyper::body::Body as _;

use crate::observe::trip::Trip;
use crate::relay::answer::Failure;
use crate::relay::body::Fault;
use crate::relay::body::Upload;
use crate::rules::policy;
use crate::shared::Thread;
use crate::upstream::answer::Answer;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::hold;
use crate::upstream::hold::Missed;
use crate::upstream::http1::call::Broken;
use crate::upstream::http1::call::Call;
use crate::upstream::http1::call::Limits;
use crate::upstream::http1::head::Head;
use crate::upstream::http1::request;
use crate::upstream::http1::request::Coding;
use crate::upstream::http1::send::Sending;
use crate::upstream::http2;
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
    pub limits: Limits,
}

/// The head of an answer, and its body to come.
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Answer,
}

/// Sends the request to a live replica of `upstream` and waits for the head of the answer.
///
/// It is sent again when nothing of it was written; or, where sending again is safe (RFC 9110
/// §9.2.2) and nothing of its body is gone, when the connection ended without a byte of an answer.
/// One that had been used before may have been closed just then, so any replica is asked; after a
/// new one only another replica, as the request itself may be what ended the first.
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
) -> Result<Answered, Failure> {
    let idempotent = policy::is_idempotent(&outgoing.method);
    let limits = outgoing.limits;
    if upstream.speaks_h2() {
        return exchange_h2(thread, upstream, &outgoing, limits, trip).await;
    }
    let Outgoing { method, target, headers, upload, limits } = outgoing;
    let coding = match upload.is_empty() {
        true => Coding::Empty,
        false => Coding::of(upload.size_hint().exact(), &headers),
    };
    let mut avoid = Vec::new();
    let mut lost_new = false;
    for tries in 1.. {
        let lease = hold::lease(thread, upstream, &avoid, !idempotent, trip).await;
        let lease = lease.map_err(|missed| no_lease(upstream, &missed))?;
        let (address, reused) = (lease.address.clone(), lease.reused);
        let mut head = thread.pool.head_buffer();
        request::put_head(&mut head, &method, &target, &headers, coding);
        let sending = Sending::new(head, coding, upload.clone());
        let call = Call::new(lease, sending, &upload, method == Method::HEAD, limits);
        trip.tries = tries;
        let begun = Instant::now();
        let answered = call.answer().await;
        trip.first_byte += begun.elapsed();
        let broken = match answered {
            Ok((Head { status, headers, .. }, answer)) => {
                trip.replica.as_ref().inspect(|replica| replica.answered());
                return Ok(Answered { status, headers, body: Answer::Http1(answer) });
            }
            Err(broken) => broken,
        };
        note(upstream, trip, &broken, reused);
        // What a client does wrong says nothing about the others' connections.
        if !matches!(broken, Broken::Client(_)) {
            thread.pool.forget(&address);
        }
        let again = tries < TRIES_MAX
            && match &broken {
                Broken::Unsent(_) => true,
                Broken::Lost(_) if reused => idempotent,
                Broken::Lost(_) => {
                    let first = !std::mem::replace(&mut lost_new, true);
                    idempotent && first && has_others(upstream, &address)
                }
                _ => false,
            };
        if !again || !upload.rewind() {
            return Err(failure(upstream, &address, &broken, limits));
        }
        log::debug!("{} at {address}: {broken:?}; sent again", upstream.name);
        avoid = vec![address];
        upstream.metrics.retries.inc();
        upstream.ask.notify_one();
    }
    Err(none_live(upstream.service()))
}

/// The same for a service that speaks HTTP/2, over the connection that the thread has to it.
async fn exchange_h2(
    thread: &Thread,
    upstream: &Arc<Upstream>,
    outgoing: &Outgoing,
    limits: Limits,
    trip: &mut Trip,
) -> Result<Answered, Failure> {
    let idempotent = policy::is_idempotent(&outgoing.method);
    let senders = &thread.pool.senders;
    for tries in 1.. {
        let replica = upstream.choose(&[]);
        let open = replica.and_then(|replica| {
            let sender = senders.find(&replica.address)?;
            let load = replica.load();
            trip.replica = Some(Arc::clone(&replica));
            Some((replica.address.clone(), sender, load))
        });
        let reused = open.is_some();
        let (address, sender, load) = match open {
            Some(open) => open,
            None => {
                let lease = hold::lease(thread, upstream, &[], false, trip).await;
                let lease = lease.map_err(|missed| no_lease(upstream, &missed))?;
                let address = lease.address.clone();
                match senders.add(lease).await {
                    Ok((sender, load)) => (address, sender, load),
                    Err(error) => {
                        return Err(failure(upstream, &address, &Broken::Lost(error), limits));
                    }
                }
            }
        };
        trip.tries = tries;
        let begun = Instant::now();
        let called = http2::call(sender, outgoing, load, limits).await;
        trip.first_byte += begun.elapsed();
        let broken = match called {
            Ok((head, body)) => {
                trip.replica.as_ref().inspect(|replica| replica.answered());
                let body = Answer::Http2(Box::new(body));
                return Ok(Answered { status: head.status, headers: head.headers, body });
            }
            Err(broken) => broken,
        };
        note(upstream, trip, &broken, reused);
        if !matches!(broken, Broken::Client(_)) {
            senders.forget(&address);
        }
        let again = match &broken {
            Broken::Unsent(_) => true,
            Broken::Lost(_) => reused && idempotent,
            _ => false,
        };
        if !again || tries >= TRIES_MAX || !outgoing.upload.rewind() {
            return Err(failure(upstream, &address, &broken, limits));
        }
        log::debug!("{} at {address}: {broken:?}; sent again", upstream.name);
        upstream.metrics.retries.inc();
        upstream.ask.notify_one();
    }
    Err(none_live(upstream.service()))
}

/// Counts what was the replica's fault. A used connection may be closed at any time.
fn note(upstream: &Upstream, trip: &Trip, broken: &Broken, reused: bool) {
    let fault = match broken {
        Broken::Late | Broken::Garbled(_) => true,
        Broken::Lost(_) | Broken::Unsent(_) => !reused,
        Broken::Client(_) => false,
    };
    if let Some(replica) = trip.replica.as_ref().filter(|_| fault) {
        upstream.fault(replica);
    }
}

/// True when there is another replica than the one at `address`.
fn has_others(upstream: &Upstream, address: &Endpoint) -> bool {
    upstream.replicas().iter().any(|replica| replica.address != *address)
}

fn failure(upstream: &Upstream, address: &Endpoint, broken: &Broken, limits: Limits) -> Failure {
    let service = upstream.service();
    let why: &dyn std::fmt::Display = match broken {
        Broken::Client(Fault::Idle) => return Failure::TooSlow,
        Broken::Client(Fault::Broken) => {
            return Failure::new(StatusCode::BAD_REQUEST, "the request's body broke off");
        }
        Broken::Client(Fault::TooLarge(max)) => return Failure::TooLarge(*max),
        Broken::Late => {
            let detail = format!("{service} did not answer in {} s", limits.answer.as_secs());
            return Failure::new(StatusCode::GATEWAY_TIMEOUT, detail);
        }
        Broken::Garbled(why) => {
            upstream.complain(log::Level::Warn, format_args!("at {address}: {why}"));
            let detail = format!("{service} gave no answer that can be passed on: {why}");
            return Failure::new(StatusCode::BAD_GATEWAY, detail);
        }
        Broken::Unsent(error) | Broken::Lost(error) => error,
    };
    upstream.complain(log::Level::Warn, format_args!("at {address}: {why}"));
    let detail = format!("{service} broke off without a whole answer; try again");
    Failure::new(StatusCode::BAD_GATEWAY, detail)
}

fn no_lease(upstream: &Upstream, missed: &Missed) -> Failure {
    let service = upstream.service();
    match missed {
        Missed::NoneLive => none_live(service),
        Missed::Distrusted(error) => {
            let what = format_args!("{error}; `upstream_root` names roots to trust");
            upstream.complain(log::Level::Error, what);
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
