//! What is said of a request once it has ended: one line in the access log, and the counts.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::Uri;

use crate::edge::unread::Unread;
use crate::edge::unread::Watch;
use crate::live::Line;
use crate::observe::access::line::Entry;
use crate::observe::access::writer::AccessLog;
use crate::observe::counts::RouteMetrics;
use crate::observe::negotiated::Protocol;
use crate::observe::trip::Trip;
use crate::rules::trace::TraceId;
use crate::shared::Connection;

/// What is said of an answer that nobody was there to take, whole or in part.
pub const CLIENT_GONE: &str = "the client went away";

/// The status of a request whose client went before there was an answer. It is sent to nobody;
/// others use the same number for it (nginx's "client closed request").
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// Which route a request is counted for.
pub enum Counted {
    /// A route of the table, which the request goes by, whatever is reloaded meanwhile.
    Route(Arc<Line>),
    /// No route, or not yet.
    None,
    /// The page of all metrics.
    Metrics,
}

/// A request's record, closed when it is dropped.
pub struct Account {
    /// Its client had as many requests as it may have.
    pub over: bool,
    pub request_id: HeaderValue,
    /// Once it is known.
    pub trace_id: Option<TraceId>,
    /// Where the log is to have it.
    pub user_agent: Option<HeaderValue>,
    pub method: Method,
    pub host: String,
    pub target: Uri,
    pub client: IpAddr,
    counted: Counted,
    /// What became of it on the way there.
    pub trip: Trip,
    /// Bytes of the request's body, if it has one.
    pub received: Option<Arc<AtomicU64>>,
    /// 499 until there is an answer.
    status: StatusCode,
    connection: Arc<Connection>,
    /// It counts among the requests that may be there at once.
    placed: bool,
    begun: Instant,
    /// Bytes of the answer's body.
    sent: u64,
    /// Why the answer is not whole.
    broken: Option<String>,
}

impl Account {
    /// Opens the record of a request on `connection`.
    pub fn open(connection: &Arc<Connection>, method: Method, target: Uri) -> Self {
        let shared = connection.shared();
        shared.metrics.in_flight.inc();
        shared.no_route.in_flight.inc();
        let entered = connection.open.entered.as_ref();
        Self {
            over: entered.is_some_and(|client| !client.begin()),
            request_id: HeaderValue::from_static("-"),
            trace_id: None,
            user_agent: None,
            method,
            host: String::new(),
            target,
            client: connection.peer.address,
            counted: Counted::None,
            trip: Trip::default(),
            received: None,
            status: client_gone(),
            connection: Arc::clone(connection),
            placed: true,
            begun: Instant::now(),
            sent: 0,
            // A request is dropped without an answer when its client goes.
            broken: Some(CLIENT_GONE.to_owned()),
        }
    }

    /// It has no place any more: else a client could hold places by not reading refusals.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.placed) {
            self.connection.shared().metrics.in_flight.dec();
            if let Some(client) = &self.connection.open.entered {
                client.end();
            }
        }
    }

    /// It is counted for this route.
    pub fn count_for(&mut self, counted: Counted) {
        self.route().in_flight.dec();
        self.counted = counted;
        self.route().in_flight.inc();
    }

    fn route(&self) -> &RouteMetrics {
        let shared = self.connection.shared();
        match &self.counted {
            Counted::Route(line) => &line.metrics,
            Counted::None => &shared.no_route,
            Counted::Metrics => &shared.metrics_route,
        }
    }

    /// There is an answer with `status`, to be sent.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status;
        self.broken = None;
    }

    /// What the client speaks.
    pub fn protocol(&self) -> Protocol {
        self.connection.negotiated.protocol()
    }

    /// Watches whether the answer is read, where that is for the gateway to know.
    pub fn watch(&self) -> Option<Watch> {
        self.connection.unread.as_ref().map(Unread::watch)
    }

    /// Bytes of the body were handed to the client's connection.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The answer broke off.
    pub fn broke(&mut self, why: impl Display) {
        self.broken.get_or_insert_with(|| why.to_string());
    }

    /// Mostly the peer, whose address is in words already.
    fn client_text(&self) -> Cow<'_, str> {
        let peer = &self.connection.peer;
        match self.client == peer.address {
            true => Cow::Borrowed(peer.as_str()),
            false => Cow::Owned(self.client.to_string()),
        }
    }

    fn log(&self, log: &AccessLog, took: Duration) {
        let config = &self.connection.shared().config;
        // Queries may hold secrets.
        let query = self.target.query().filter(|_| config.log_queries).map(chassis::excerpt);
        let agent = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok());
        let agent = agent.map(chassis::excerpt);
        let line = match &self.counted {
            Counted::Route(line) => Some(line),
            Counted::Metrics | Counted::None => None,
        };
        let entry = Entry {
            at: SystemTime::now(),
            request_id: self.request_id.to_str().unwrap_or("-"),
            trace_id: self.trace_id.as_ref().map(TraceId::as_str),
            client: &self.client_text(),
            method: self.method.as_str(),
            host: &self.host,
            path: &chassis::excerpt(self.target.path()),
            query: query.as_deref(),
            user_agent: agent.as_deref(),
            status: self.status.as_u16(),
            route: line.map(|line| line.metrics.label()),
            upstream: line.map(|line| line.upstream.name.as_str()),
            replica: self.trip.replica.as_ref().map(|replica| replica.label.as_str()),
            tries: self.trip.tries,
            bytes_in: self.received.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed)),
            bytes_out: self.sent,
            took,
            held: self.trip.held,
            connect: self.trip.connect,
            first_byte: self.trip.first_byte,
            negotiated: self.connection.negotiated,
            broken: self.broken.as_deref(),
        };
        log.add(self.connection.thread.number, |line| entry.write(line, log.form));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.leave();
        let shared = self.connection.shared();
        let route = self.route();
        route.in_flight.dec();
        route.count(self.status, took, self.sent);
        if let Some(log) = &shared.access {
            self.log(log, took);
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.method, self.target.path())
    }
}
