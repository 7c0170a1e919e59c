//! A connection to the plain HTTP port, which only redirects.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::edge::http1;
use crate::edge::listen;
use crate::edge::redirect;
use crate::shared::Open;
use crate::shared::Thread;

/// Serves one connection until it ends.
pub async fn serve(stream: TcpStream, thread: Arc<Thread>, open: Open) {
    let shared = Arc::clone(&thread.shared);
    let config = &shared.config;
    if let Err(error) = listen::tune(&stream, Duration::from_secs(config.idle_s)) {
        log::debug!("{error}");
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let response = redirect::answer(&request, config.public_https_port);
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
