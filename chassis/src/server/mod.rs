//! The actix-web server that every service runs on.

mod access;
mod metrics;
mod parting;
mod problem;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::http::header::ContentType;
use actix_web::middleware::from_fn;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::ServiceConfig;
use prometheus::Encoder;
use prometheus::Registry;
use prometheus::TextEncoder;

use crate::Fatal;
use crate::Problem;
use crate::Stopping;
use crate::bind;
use crate::ready;
use crate::stop_signal;

use self::metrics::Metrics;
use self::parting::Parting;

/// Idle connections are kept this long: longer than any sane gateway keeps them, so that it is
/// the gateway that closes first and no request meets a closing connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A client gets this long to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the service can serve; the error says what is missing.
type Health = dyn Fn() -> Result<(), String> + Send + Sync;

/// A service's server: its address, its metrics and its health.
pub struct Server {
    listen: SocketAddr,
    drain: Duration,
    registry: Registry,
    health: Arc<Health>,
}

impl Server {
    /// A server on `listen` that exports `registry`; after SIGTERM, running requests get
    /// `drain` to finish.
    #[must_use]
    pub fn new(listen: SocketAddr, drain: Duration, registry: Registry) -> Self {
        Self { listen, drain, registry, health: Arc::new(|| Ok(())) }
    }

    /// Lets `/healthz` answer 503 with the error of `health`.
    #[must_use]
    pub fn health(
        mut self,
        health: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.health = Arc::new(health);
        self
    }

    /// Serves `routes`, `/healthz` and `/metrics` until SIGTERM; `ready http://…` goes to stdout
    /// once it listens. Handlers find [`Stopping`] in `Data`.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on or the process cannot be set up.
    pub fn run(
        self,
        routes: impl Fn(&mut ServiceConfig) + Send + Clone + 'static,
    ) -> Result<(), Fatal> {
        actix_web::rt::System::new().block_on(self.serve(routes))
    }

    async fn serve(
        self,
        routes: impl Fn(&mut ServiceConfig) + Send + Clone + 'static,
    ) -> Result<(), Fatal> {
        let stop = stop_signal()?;
        let listener = bind(self.listen)
            .map_err(|error| Fatal::new(format!("cannot listen on {}", self.listen), error))?;
        let address = listener.local_addr()?;
        let parting = Parting::new(&listener)?;
        let open = parting.open();
        let (switch, stopping) = Stopping::channel();
        let stopping = Data::new(stopping);
        let metrics = Data::new(Metrics::register(&self.registry)?);
        let registry = Data::new(self.registry);
        let health: Data<Health> = Data::from(self.health);
        let drain = self.drain;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(stopping.clone())
                .app_data(metrics.clone())
                .app_data(registry.clone())
                .app_data(health.clone())
                .app_data(web::PathConfig::default().error_handler(problem::path))
                .app_data(web::QueryConfig::default().error_handler(problem::query))
                .default_service(web::to(nothing_here))
                .service(web::resource("/healthz").get(healthz).head(healthz))
                .service(web::resource("/metrics").get(exposition).head(exposition))
                .configure(routes.clone())
                .wrap(from_fn(access::access))
        })
        .on_connect(move |_, connection| _ = connection.insert(open.count()))
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .shutdown_timeout(drain.as_secs())
        .tcp_nodelay(true)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        let stopper = actix_web::rt::spawn(async move {
            stop.await;
            log::info!("stopping");
            parting.part(&switch, drain).await;
            handle.stop(true).await;
        });
        ready(&format!("http://{address}"));
        log::info!("listening on http://{address}");
        let ended = server.await;
        stopper.abort();
        ended.map_err(|error| Fatal::new("the server failed", error))
    }
}

async fn healthz(health: Data<Health>) -> Result<HttpResponse, Problem> {
    match health() {
        Ok(()) => Ok(HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")),
        Err(why) => Err(Problem::new(503, why)),
    }
}

async fn exposition(registry: Data<Registry>) -> Result<HttpResponse, Problem> {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .map_err(|error| Problem::new(500, error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

async fn nothing_here() -> Problem {
    Problem::new(404, "there is nothing at this address")
}
