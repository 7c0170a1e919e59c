//! A connection to the plain HTTP port, which redirects, and gives out the private CA.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::certs::trust::page;
use crate::edge::arrive::Arrival;
use crate::edge::arrive::Client;
use crate::edge::http1;
use crate::edge::redirect;

/// Serves one connection until it ends.
pub async fn serve(arrival: Arrival) {
    let Some(Client { stream, thread, open, .. }) = arrival.client().await else { return };
    let shared = Arc::clone(&thread.shared);
    let config = &shared.config;
    let service = service_fn(|request: Request<Incoming>| {
        let port = config.public_https_port;
        let response = page::answer(&request, &shared.office, port)
            .unwrap_or_else(|| redirect::answer(&request, port));
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::builder(config.header_s).serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shared.stopping.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        log::debug!("plain HTTP: {error}");
    }
    drop(open);
}
