//! The admin port: plain HTTP, for the inside.

use std::convert::Infallible;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::edge::http1;
use crate::edge::listen::ACCEPT_PAUSE;
use crate::shared::Shared;

/// Serves the admin port until the process ends.
pub async fn serve(socket: TcpListener, shared: Arc<Shared>) {
    /// Nobody needs more; the port is for the inside.
    const CONNECTIONS_MAX: usize = 64;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = crate::observe::admin::answer(&request, &shared);
                async move { Ok::<_, Infallible>(response) }
            });
            let header_s = shared.config.header_s;
            let serving = http1::builder(header_s).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = serving.await {
                log::debug!("admin: {error}");
            }
            drop(place);
        });
    }
}
