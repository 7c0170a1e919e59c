//! Clients of HTTP/1: their requests go to the proxy, and what is no request is counted and told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::Response;

use crate::edge::http1;
use crate::edge::http1::Handler;
use crate::edge::http1::Limits;
use crate::relay::answer::Failure;
use crate::relay::body::Download;
use crate::relay::inbound::Inbound;
use crate::relay::proxy;
use crate::relay::upgrade::Duplex;
use crate::shared::Connection;

struct Clients(Arc<Connection>);

impl Handler for Clients {
    type Body = Download;

    fn answer(&self, request: Request<Inbound>) -> impl Future<Output = Response<Download>> + Send {
        proxy::answer(Arc::clone(&self.0), request)
    }

    fn refuse(&self, failure: Failure) -> Response<Download> {
        proxy::refuse(&self.0, &failure)
    }
}

/// Serves one connection until it ends.
pub async fn serve(
    stream: impl Duplex + 'static,
    address: SocketAddr,
    connection: Arc<Connection>,
) {
    let shared = Arc::clone(connection.shared());
    let limits = Limits {
        header: Duration::from_secs(shared.config.header_s),
        idle: Duration::from_secs(shared.config.idle_s),
    };
    let clients = Clients(connection);
    if let Err(error) = http1::serve(stream, limits, &shared.stopping, &clients).await {
        log::debug!("{address}: {error}");
    }
}
