//! The admin port: plain HTTP, for the inside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::edge::http1;
use crate::edge::http1::Handler;
use crate::edge::http1::Limits;
use crate::edge::listen::ACCEPT_PAUSE;
use crate::observe::admin;
use crate::relay::answer::Failure;
use crate::relay::inbound::Inbound;
use crate::shared::Shared;

struct Inside(Arc<Shared>);

impl Handler for Inside {
    type Body = Full<Bytes>;

    fn answer(
        &self,
        request: Request<Inbound>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        std::future::ready(admin::answer(&request, &self.0))
    }

    fn refuse(&self, failure: Failure) -> Response<Full<Bytes>> {
        failure.response(None, true).map(Full::new)
    }
}

/// Serves the admin port until the process ends, which waits for none of its connections.
pub async fn serve(socket: TcpListener, shared: Arc<Shared>) {
    /// Nobody needs more; the port is for the inside.
    const CONNECTIONS_MAX: usize = 64;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let limits = Limits {
        header: Duration::from_secs(shared.config.header_s),
        idle: Duration::from_secs(shared.config.idle_s),
    };
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
        let inside = Inside(Arc::clone(&shared));
        tokio::spawn(async move {
            // Not `stopping`: the port tells what goes on while the process drains.
            let end = &inside.0.ending;
            if let Err(error) = http1::serve(stream, limits, end, &inside).await {
                log::debug!("admin: {error}");
            }
            drop(place);
        });
    }
}
