//! `https://DOMAIN/metrics`: the metrics of all services and of the gateway, each sample under a
//! `service` and an `instance` label, for the bearer of the token.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus::TextEncoder;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::observe::exposition::Page;
use crate::relay::answer::Failure;
use crate::shared::Connection;
use crate::shared::Shared;
use crate::upstream::replica::Replica;
use crate::upstream::replica::Upstream;

/// Time for one replica.
const REPLICA: Duration = Duration::from_secs(3);

/// Largest page of one replica.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most replicas that are asked, of all upstreams together.
const REPLICAS_MAX: usize = 256;

/// Replicas asked at a time.
const REPLICAS_AT_ONCE: usize = 8;

/// Pages are large: one is made at a time.
static TURN: Semaphore = Semaphore::const_new(1);

/// The version of the text format that Prometheus asks for.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The answer to a path that services keep to the inside: all metrics for who may have them, and
/// for the rest nothing, as if there were no such page.
///
/// # Errors
///
/// 404, or 401 when only the token is wrong.
pub async fn answer(
    connection: &Arc<Connection>,
    host: &str,
    parts: &Parts,
) -> Result<Response<Bytes>, Failure> {
    let shared = connection.shared();
    let ours = host == shared.config.domain.as_str() && parts.uri.path() == "/metrics";
    let token = shared.config.metrics_token.reveal().filter(|_| ours);
    let Some(token) = token else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "there is no such page"));
    };
    if !is_bearer(&parts.headers, token) {
        return Err(Failure::Unauthorized);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "metrics are only read"));
    }
    let page = collect(shared).await.map_err(|error| {
        log::error!("metrics: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
    })?;
    let mut response = Response::new(page.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// `Authorization: Bearer TOKEN` (RFC 6750 §2.1), compared in the same time whatever differs.
fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Ok(line) = line.to_str() else { return false };
    let Some((scheme, given)) = line.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer")
        && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
}

/// One page of everything. A replica that does not answer is told by `gateway_scrape_success` 0.
async fn collect(shared: &Arc<Shared>) -> prometheus::Result<String> {
    let mut page = Page::default();
    let own = TextEncoder::new().encode_to_string(&shared.registry.gather())?;
    page.add(&own, "gateway", "gateway");
    let replicas: Vec<(Arc<Upstream>, Arc<Replica>)> = shared
        .live
        .load()
        .upstreams
        .iter()
        .flat_map(|upstream| {
            upstream
                .replicas()
                .iter()
                .map(|r| (Arc::clone(upstream), Arc::clone(r)))
                .collect::<Vec<_>>()
        })
        .take(REPLICAS_MAX)
        .collect();
    // One page for everybody who asks at a time, and few replicas at a time for it.
    let _turn = TURN.acquire().await;
    let pages: Vec<_> = stream::iter(replicas.clone())
        .map(|(upstream, replica)| async move {
            let name = upstream.places[0].host();
            let page = tokio::time::timeout(REPLICA, fetch(shared, name, &replica)).await;
            page.unwrap_or_else(|late| Err(late.into()))
        })
        .buffered(REPLICAS_AT_ONCE)
        .collect()
        .await;
    let mut successes = String::from(
        "# HELP gateway_scrape_success Whether a replica gave its metrics for this page.\n\
         # TYPE gateway_scrape_success gauge\n",
    );
    for ((upstream, replica), fetched) in replicas.iter().zip(pages) {
        let (service, instance) = (upstream.service(), replica.address.to_string());
        let success = match fetched {
            Ok(text) => {
                page.add(&text, service, &instance);
                1
            }
            Err(error) => {
                log::warn!("metrics of {service} at {instance}: {error}");
                0
            }
        };
        page.add(&format!("{successes}gateway_scrape_success {success}\n"), service, &instance);
        successes.clear();
    }
    Ok(page.render())
}

async fn fetch(shared: &Shared, name: &str, replica: &Replica) -> Result<String, Error> {
    let stream = shared.connector.connect(&replica.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics")
        .header(header::HOST, name)
        .header(header::ACCEPT, TEXT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await?.to_bytes();
        Ok(String::from_utf8(body.into())?)
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        page = &mut exchange => page,
        // The connection may end first; what came over it is still there to be read.
        ended = &mut connection => { ended?; exchange.await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_the_page() {
        for (lines, expected) in [
            (&["Bearer s3cret"][..], true),
            (&["bearer  s3cret "], true),
            (&["Bearer s3cre"], false),
            (&["Bearer s3crets"], false),
            (&["Basic s3cret"], false),
            (&["s3cret"], false),
            (&[""], false),
            (&[], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::AUTHORIZATION, line.parse().unwrap());
            }
            assert_eq!(is_bearer(&headers, "s3cret"), expected, "{lines:?}");
        }
    }
}
