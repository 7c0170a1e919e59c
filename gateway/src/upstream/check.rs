//! Asks replicas whether they are well, where a route of theirs says how.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;

use crate::upstream::endpoint::Endpoint;
use crate::upstream::replica::Replica;
use crate::upstream::replica::Upstream;
use crate::upstream::stream::Connector;

/// Between two rounds, and by how much that differs, so that gateways do not ask in step.
const PAUSE: Duration = Duration::from_secs(3);
const JITTER: f64 = 0.2;

/// After news, which may come many at a time.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(2);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Asks the replicas of `upstream`, while it has a check, until nobody uses it any more.
pub async fn keep(upstream: Weak<Upstream>, connector: Arc<Connector>) {
    while let Some(upstream) = upstream.upgrade() {
        let mut changes = upstream.watch();
        changes.mark_unchanged();
        if let Some(path) = upstream.check() {
            round(&upstream, &path, &connector).await;
        }
        drop(upstream);
        let pause = PAUSE.mul_f64(1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>());
        tokio::time::sleep(PAUSE_MIN).await;
        tokio::select! {
            () = tokio::time::sleep(pause - PAUSE_MIN) => {}
            // A new replica gets its first request when it is known to be well.
            _ = changes.changed() => {}
        }
    }
}

async fn round(upstream: &Upstream, path: &str, connector: &Connector) {
    let host = upstream.places[0].host();
    let replicas = upstream.replicas();
    join_all(replicas.iter().map(async |replica| {
        let asked = tokio::time::timeout(ANSWER, ask(connector, replica, host, path)).await;
        let answer = asked.unwrap_or_else(|late| Err(late.into()));
        let well = answer.as_ref().is_ok_and(|s| s.is_success() || s.is_redirection());
        let changed = replica.checked(well);
        let (name, address) = (&upstream.name, &replica.address);
        match (changed, answer) {
            (false, _) => {}
            (true, _) if well => {
                log::info!("{name}: {address} is well");
                upstream.wake();
            }
            (true, Ok(status)) => log::warn!("{name}: {address} is not well: {path} is {status}"),
            (true, Err(error)) => log::warn!("{name}: {address} is not well: {error}"),
        }
    }))
    .await;
}

async fn ask(
    connector: &Connector,
    replica: &Replica,
    host: &str,
    path: &str,
) -> Result<StatusCode, Error> {
    let stream = TokioIo::new(connector.connect(&replica.address).await?);
    let request = Request::get(path).header(header::HOST, host);
    if matches!(replica.address, Endpoint::H2c(_)) {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let request = Request::get(format!("http://{host}{path}")).body(Empty::<Bytes>::new())?;
        return Ok(tokio::select! {
            answer = sender.send_request(request) => answer?.status(),
            ended = connection => return Err(ended.err().map_or_else(|| "it ended".into(), Error::from)),
        });
    }
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = request.header(header::CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        answer = &mut answer => Ok(answer?.status()),
        // What came over it is still there to be read.
        ended = connection => { ended?; Ok(answer.await?.status()) }
    }
}
