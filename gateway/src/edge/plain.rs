//! A connection to the plain HTTP port, which redirects, and gives out the private CA.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Full;

use crate::certs::trust::page;
use crate::edge::arrive::Arrival;
use crate::edge::arrive::Client;
use crate::edge::http1;
use crate::edge::http1::Handler;
use crate::edge::http1::Limits;
use crate::edge::redirect;
use crate::relay::answer::Failure;
use crate::relay::inbound::Inbound;
use crate::shared::Shared;

struct Redirects(Arc<Shared>);

impl Handler for Redirects {
    type Body = Full<Bytes>;

    fn answer(
        &self,
        request: Request<Inbound>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        let port = self.0.config.public_https_port;
        let page = page::answer(&request, &self.0.office, port);
        let challenges = self.0.office.challenges();
        std::future::ready(page.unwrap_or_else(|| redirect::answer(&request, challenges, port)))
    }

    fn refuse(&self, failure: Failure) -> Response<Full<Bytes>> {
        failure.response(None, true).map(Full::new)
    }
}

/// Serves one connection until it ends.
pub async fn serve(arrival: Arrival) {
    let Some(Client { stream, thread, open, .. }) = arrival.client().await else { return };
    let shared = Arc::clone(&thread.shared);
    let limits = Limits {
        header: Duration::from_secs(shared.config.header_s),
        idle: Duration::from_secs(shared.config.idle_s),
    };
    let redirects = Redirects(Arc::clone(&shared));
    if let Err(error) = http1::serve(stream, limits, &shared.stopping, &redirects).await {
        log::debug!("plain HTTP: {error}");
    }
    drop(open);
}
