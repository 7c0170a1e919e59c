//! The process: a thread a core that serves, and this one that asks DNS, renews certificates,
//! answers on the admin port, and waits for the end.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chassis::About;
use chassis::Fatal;
use chassis::Stopping;
use rustls::crypto::CryptoProvider;
use tokio::runtime::Runtime;
use tokio::signal;
use tokio::signal::unix::SignalKind;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::certs::acme;
use crate::certs::keeper::Moment;
use crate::certs::office::Office;
use crate::certs::root;
use crate::certs::sites;
use crate::certs::source::Outlet;
use crate::config::Config;
use crate::edge::admin;
use crate::edge::http3::connection::Knock;
use crate::edge::http3::endpoint;
use crate::edge::http3::endpoint::Door;
use crate::edge::listen::Listener;
use crate::edge::tls;
use crate::live::reload::Seen;
use crate::live::reload::Watcher;
use crate::live::sources;
use crate::observe::access::writer::AccessLog;
use crate::observe::metrics::Metrics;
use crate::observe::negotiated::Protocol;
use crate::shared::Accepting;
use crate::shared::Alive;
use crate::shared::Shared;
use crate::shared::Thread;
use crate::upstream::pool::Pool;
use crate::upstream::resolve;
use crate::upstream::stream::Connector;

/// Time for connections to say goodbye, at the end of the drain.
const FAREWELL: Duration = Duration::from_millis(400);

/// What is left of the drain when goodbyes begin: time for them, and for the threads to end.
const LAST: Duration = Duration::from_millis(500);

/// Questions to DNS at once; each blocks a thread.
const BLOCKING_THREADS_MAX: usize = 16;

/// Serves until SIGTERM.
///
/// # Errors
///
/// When an address is taken, the certificates cannot be kept, or the kernel gives no threads.
pub fn serve(about: &About, config: Config) -> Result<(), Fatal> {
    let settings = config.clone();
    let seen = Seen::first(about, &settings);
    let config =
        sources::whole(config).map_err(|why| Fatal::settings(format!("bad settings: {why}")))?;
    // First the sockets: a wrong one is told at once, and the cryptography takes its time.
    let threads = config.threads();
    let https = named("https", config.https, chassis::bind_each(config.https, threads))?;
    let http = named("http", config.http, chassis::bind_each(config.http, threads))?;
    let admin = named("admin", config.admin, chassis::bind(config.admin))?;
    let quic = quic_socket(&config, &https[0])?;
    let addresses = (https[0].local_addr()?, http[0].local_addr()?, admin.local_addr()?);

    let registry = chassis::registry(about)?;
    let metrics = Metrics::register(&registry)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let runtime = new_runtime()?;
    let outlet = Arc::new(Outlet::new(config.domain.as_str(), metrics.clone()));
    let acceptor = acceptor(Arc::clone(&provider), &outlet)?;
    let quic = match quic {
        Some(socket) => Some((socket, quic_config(Arc::clone(&provider), &outlet)?)),
        None => None,
    };
    let office = office(&config, provider, outlet, &runtime)?;

    let (stop, stopping) = Stopping::channel();
    let (end, ending) = Stopping::channel();
    let drain = config.drain();
    let connector = Arc::new(Connector::of(&config)?);
    let places = Arc::new(Semaphore::new(config.connections_max));
    let shared = Shared::new(config, registry, metrics, office, connector, stopping, ending);
    let shared = Arc::new(shared);
    let (alive, mut ended) = mpsc::channel(1);
    // Set before anybody is told that the gateway is ready.
    let signal = runtime.block_on(async { chassis::stop_signal() })?;
    let hang_up = runtime.block_on(async { signal::unix::signal(SignalKind::hangup()) })?;
    let (ways, knocks): (Vec<_>, Vec<_>) = (0..threads).map(|_| endpoint::channel()).unzip();
    let mut door = quic.map(|(socket, config)| Door {
        socket,
        config,
        threads: ways,
        places: Arc::clone(&places),
        gauge: shared.metrics.connections(Protocol::Handshake),
        alive: alive.clone(),
    });
    for (number, (sockets, knocks)) in https.into_iter().zip(http).zip(knocks).enumerate() {
        let runtime = new_runtime()?;
        let acceptor = acceptor.clone();
        let mut serving =
            Serving::new(&runtime, number, sockets, &shared, &places, acceptor, &alive)?;
        // The first thread keeps the door; each serves those who come through.
        serving.quic = (door.take(), Some(knocks));
        let thread = thread::Builder::new().name(format!("serve-{number}"));
        thread.spawn(move || runtime.block_on(serving.run()))?;
    }
    drop(alive);

    let writing = runtime.block_on(async {
        for upstream in &shared.live.load().upstreams {
            resolve::start(upstream, &shared.connector);
        }
        let admin = tokio::net::TcpListener::from_std(admin)?;
        tokio::spawn(admin::serve(admin, Arc::clone(&shared)));
        let watcher = Watcher::new(*about, Arc::clone(&shared), settings, seen);
        tokio::spawn(watcher.run(hang_up));
        let (https, http, admin) = addresses;
        chassis::ready(&format!("https://{https} http://{http} http://{admin}"));
        // Only now: the ready line is the first on stdout.
        let writing = shared.access.as_ref().map(AccessLog::start).transpose();
        let writing = writing.map_err(|error| Fatal::new("the access log", error))?;
        log::info!("serving on https://{https} with {threads} threads");

        signal.await;
        log::info!("stopping: up to {} s for what runs", drain.as_secs());
        // Nobody listens only when everything has ended already.
        stop.send_replace(true);
        // `docker stop` counts the time as a whole, so goodbyes are part of it.
        if tokio::time::timeout(drain - LAST.min(drain / 2), ended.recv()).await.is_err() {
            log::warn!("not everything ended in time");
            end.send_replace(true);
            let _: Result<_, _> = tokio::time::timeout(FAREWELL * 2, ended.recv()).await;
        }
        Ok::<_, Fatal>(writing)
    })?;
    if let Some(writing) = writing {
        writing.finish();
    }
    // A question to DNS may still be out; nobody needs the answer.
    runtime.shutdown_background();
    Ok(())
}

/// The UDP socket on the port of `https`.
fn quic_socket(config: &Config, https: &TcpListener) -> Result<Option<UdpSocket>, Fatal> {
    if !config.http3 {
        return Ok(None);
    }
    let address = https.local_addr()?;
    let socket = endpoint::bind(address).map_err(|error| {
        let what = "https: HTTP/3 cannot listen on UDP (http3 = false switches it off)";
        Fatal::new(format!("{what}, {address}"), error)
    })?;
    Ok(Some(socket))
}

fn quic_config(
    provider: Arc<CryptoProvider>,
    outlet: &Outlet,
) -> Result<quinn::ServerConfig, Fatal> {
    let (certificates, challenges) = (Arc::clone(&outlet.certificates), outlet.challenges.clone());
    let tls = tls::quic_config(provider, certificates, challenges);
    let tls = tls.map_err(|error| Fatal::new("TLS over QUIC", error))?;
    endpoint::server_config(tls).map_err(|error| Fatal::new("TLS over QUIC", error))
}

fn named<T>(key: &str, address: SocketAddr, bound: io::Result<T>) -> Result<T, Fatal> {
    bound.map_err(|error| Fatal::new(format!("{key}: cannot listen on {address}"), error))
}

fn new_runtime() -> Result<Runtime, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    runtime.map_err(|error| Fatal::new("no runtime", error))
}

fn acceptor(provider: Arc<CryptoProvider>, outlet: &Outlet) -> Result<TlsAcceptor, Fatal> {
    let (certificates, challenges) = (Arc::clone(&outlet.certificates), outlet.challenges.clone());
    let config = tls::server_config(provider, certificates, challenges);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| Fatal::new("TLS", error))?)))
}

/// The certificates of all sites, served from now on.
fn office(
    config: &Config,
    provider: Arc<CryptoProvider>,
    outlet: Arc<Outlet>,
    runtime: &Runtime,
) -> Result<Office, Fatal> {
    let sites = sites::configured(config).map_err(Fatal::settings)?;
    let acme = acme::start(config, &provider, &outlet).map_err(Fatal::settings)?;
    let office = Office::new(config.clone(), provider, outlet, runtime.handle().clone());
    office.adopt(office.prepare(sites, Moment::Start)?);
    office.look_after_acme(acme);
    if let Some(root) = office.root() {
        let path = root::certificate_path(&config.certs);
        let fingerprint = root.fingerprint();
        log::info!("clients trust {}, SHA-256 fingerprint {fingerprint}", path.display());
    }
    Ok(office)
}

/// What runs on one thread.
struct Serving {
    https: Listener,
    http: Listener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    thread: Arc<Thread>,
    quic: (Option<Door>, Option<mpsc::Receiver<Knock>>),
}

impl Serving {
    /// Listeners on these sockets, in `runtime`.
    fn new(
        runtime: &Runtime,
        number: usize,
        sockets: (TcpListener, TcpListener),
        shared: &Arc<Shared>,
        places: &Arc<Semaphore>,
        acceptor: TlsAcceptor,
        alive: &Alive,
    ) -> Result<Self, Fatal> {
        let keep = Duration::from_secs(shared.config.pool_idle_s);
        let connect = Duration::from_secs(shared.config.connect_s);
        let pool = Pool::new(keep, connect, Arc::clone(&shared.connector));
        let thread =
            Arc::new(Thread { number, shared: Arc::clone(shared), pool: Arc::clone(&pool) });
        let _inside = runtime.enter();
        let listener = |socket: TcpListener, protocol| -> Result<Listener, Fatal> {
            Ok(Listener {
                socket: tokio::net::TcpListener::from_std(socket)?,
                thread: Arc::clone(&thread),
                places: Arc::clone(places),
                gauge: shared.metrics.connections(protocol),
                alive: alive.clone(),
                accepting: Accepting::new(shared),
            })
        };
        let (https, http) =
            (listener(sockets.0, Protocol::Handshake)?, listener(sockets.1, Protocol::Plain)?);
        let quic = (None, None);
        Ok(Self { https, http, acceptor, shared: Arc::clone(shared), pool, thread, quic })
    }

    async fn run(self) {
        let Self { https, http, acceptor, shared, pool, thread, quic: (door, knocks) } = self;
        tokio::spawn(pool.sweep());
        if let Some(knocks) = knocks {
            tokio::spawn(endpoint::serve(knocks, Arc::clone(&thread)));
        }
        if let Some(door) = door {
            tokio::spawn(async move {
                if let Err(error) = door.keep(thread).await {
                    log::error!("HTTP/3 ended: {error}");
                }
            });
        }
        // Tasks of their own, so that a panic in one ends only that one; health then tells.
        let https = tokio::spawn(https.https(acceptor));
        let http = tokio::spawn(http.http());
        for ended in [https.await, http.await] {
            if let Err(error) = ended {
                log::error!("a listener ended: {error}");
            }
        }
        // The listeners are closed; connections go on until they or the process end.
        shared.ending.wait().await;
        tokio::time::sleep(FAREWELL).await;
    }
}
