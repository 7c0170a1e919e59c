//! The hub: the [`Farm`], and the connections that its effects go to.
//!
//! One lock guards both, so what the farm decides and the order in which peers hear of it are one. Sections are
//! short and never await: everything a peer is to be told goes into its [`Mailbox`]. Requests need no tasks of
//! their own either: one that has to wait is an entry in a table until an effect answers it.

mod methods;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use rand::RngExt;
use serde_json::Value;

use crate::budget::{Budget, Slots};
use crate::farm::{ConnectionId, Effect, Farm, Limits, Note, Outcome, PlaceId, Ticket};
use crate::mailbox::Mailbox;
use crate::metrics::Gauges;
use crate::proxies::Unknown;
use crate::rpc::{self, Failure, Id, Message};

/// An exporter that has not answered after this is dropped: its place must not be handed on while it may still
/// admit an earlier user.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Requests of one connection that may wait for an answer at a time.
const REQUESTS_MAX: usize = 4096;

/// The longest listing, in bytes: ten thousand places of some 800 bytes.
const LISTING_BYTES_MAX: usize = 8 << 20;

/// What people see of a place at most: characters of its name, tags, characters of a tag.
const NAME_CHARS_SHOWN: usize = 100;
const TAGS_SHOWN: usize = 16;
const TAG_CHARS_SHOWN: usize = 64;

/// Between two places of the listing.
const SEPARATOR: &str = ", ";

/// A clone is another handle to the same hub.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    gauges: Gauges,
    outgoing: Budget,
    slots: Slots,
}

struct State {
    farm: Farm,
    peers: HashMap<ConnectionId, Peer>,
    /// Whose request a ticket is.
    tickets: HashMap<Ticket, ConnectionId>,
    last_ticket: Ticket,
    /// Logins that wait for the browser, by their `state`.
    logins: HashMap<String, Ticket>,
    entries: HashMap<PlaceId, Entry>,
    entries_bytes: usize,
    /// The listing's pieces; absent when a place came or went since.
    listing: Option<Arc<[Bytes]>>,
}

/// A connection.
struct Peer {
    address: Result<IpAddr, Unknown>,
    mailbox: Arc<Mailbox>,
    /// Requests that wait for an answer.
    requests: HashMap<Ticket, Request>,
    /// The same by the ids that the peer gave.
    ids: HashMap<Id, Ticket>,
    /// Those of them that are logins.
    logins: usize,
    last_call: u64,
    /// The hub's call that the peer has not answered.
    open_call: Option<u64>,
}

/// A request that waits for an answer.
struct Request {
    /// Absent in a notification.
    id: Option<Id>,
    /// The login that waits for the browser.
    login: Option<String>,
}

/// A place in the listing.
struct Entry {
    /// Behind a comma and a space: all listings share these bytes, whoever is still reading an old one.
    json: Bytes,
    /// Cut for the eye, and so are the tags.
    name: String,
    tags: Vec<String>,
}

/// The farm as people look at it.
pub struct Overview {
    /// Places in order of registration, up to the number asked for.
    pub places: Vec<Shown>,
    /// All places.
    pub registered: usize,
    /// Those that are held.
    pub reserved: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// A place as people look at it.
pub struct Shown {
    /// Its name.
    pub name: String,
    /// The tags of its parts.
    pub tags: Vec<String>,
    /// Whether somebody holds it.
    pub reserved: bool,
}

impl Hub {
    /// An empty hub. `outgoing` bounds what waits to be sent, over all connections.
    pub fn new(tolerance: f64, connections_max: usize, outgoing: Budget, gauges: Gauges) -> Self {
        let state = State {
            farm: Farm::new(tolerance, Limits::default()),
            peers: HashMap::new(),
            tickets: HashMap::new(),
            last_ticket: 0,
            logins: HashMap::new(),
            entries: HashMap::new(),
            entries_bytes: 0,
            listing: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            gauges,
            outgoing,
            slots: Slots::new(connections_max),
        }
    }

    /// A participant arrives. `None` when there are as many as there may be.
    pub fn connect(
        &self,
        address: Result<IpAddr, Unknown>,
    ) -> Option<(ConnectionId, Arc<Mailbox>)> {
        let slot = self.slots.take()?;
        let mut state = self.lock();
        let mailbox = Mailbox::new(&self.outgoing, slot);
        let id = state.farm.connect(address.as_ref().ok().copied());
        let peer = Peer {
            address,
            mailbox: Arc::clone(&mailbox),
            requests: HashMap::new(),
            ids: HashMap::new(),
            logins: 0,
            last_call: 0,
            open_call: None,
        };
        state.peers.insert(id, peer);
        Some((id, mailbox))
    }

    /// A participant is gone.
    pub fn disconnect(&self, connection: ConnectionId) {
        let mut state = self.lock();
        if let Some(peer) = state.peers.remove(&connection) {
            for (ticket, request) in peer.requests {
                state.tickets.remove(&ticket);
                request.login.and_then(|login| state.logins.remove(&login));
            }
        }
        if let Some(entry) = state.entries.remove(&connection) {
            state.entries_bytes -= entry.json.len();
            state.listing = None;
        }
        state.farm.disconnect(connection, &mut chance);
        state.settle();
        self.count(&state);
    }

    /// A participant sent a message.
    pub fn receive(&self, connection: ConnectionId, message: &[u8]) {
        match rpc::read(message) {
            Err(why) => log::debug!("<{connection}> sent a message that is ignored: {why}"),
            Ok(Message::Invalid(id)) => {
                let state = self.lock();
                if !state.is_under_way(connection, &id) {
                    state.send(connection, rpc::error(&id, &Failure::InvalidRequest));
                }
            }
            Ok(Message::Response { id, outcome }) => {
                let mut state = self.lock();
                state.answered(connection, &id, outcome);
                state.settle();
                self.count(&state);
            }
            Ok(Message::Call { id, method, params }) => self.call(connection, id, &method, &params),
        }
    }

    /// The browser came back from a login: its query goes to who waits for it. False when nobody does.
    pub fn logged_in(&self, login: &str, query: &BTreeMap<String, String>) -> bool {
        let mut state = self.lock();
        let Some(ticket) = state.logins.remove(login) else { return false };
        let Some((connection, request)) = state.finish(ticket) else { return false };
        if let Some(id) = request.id {
            state.send(connection, rpc::result(&id, query));
        }
        true
    }

    /// `{"places": […]}` in pieces, put together once after each change.
    pub fn listing(&self) -> Arc<[Bytes]> {
        let mut state = self.lock();
        if let Some(listing) = &state.listing {
            return Arc::clone(listing);
        }
        let entries = state.farm.listing().filter_map(|(id, _)| state.entries.get(&id));
        let entries = entries.enumerate().map(|(index, entry)| {
            // The first has nothing before it.
            if index == 0 { entry.json.slice(SEPARATOR.len()..) } else { entry.json.clone() }
        });
        let start = std::iter::once(Bytes::from_static(br#"{"places": ["#));
        let listing: Arc<[Bytes]> =
            start.chain(entries).chain(std::iter::once(Bytes::from_static(b"]}"))).collect();
        state.listing = Some(Arc::clone(&listing));
        listing
    }

    /// The farm for people, with at most `places_max` places.
    pub fn overview(&self, places_max: usize) -> Overview {
        let state = self.lock();
        let (registered, reserved, waiting) = state.farm.counts();
        let shown = state.farm.listing().take(places_max).filter_map(|(id, holder)| {
            let entry = state.entries.get(&id)?;
            Some(Shown {
                name: entry.name.clone(),
                tags: entry.tags.clone(),
                reserved: holder.is_some(),
            })
        });
        Overview { places: shown.collect(), registered, reserved, waiting }
    }

    /// Shows the farm's counts in the metrics.
    fn count(&self, state: &State) {
        let (registered, reserved, waiting) = state.farm.counts();
        self.gauges.set(registered, reserved, waiting);
    }

    /// A panic under the lock ends one connection; the farm's steps leave nothing half done before they can.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uniform.
fn chance(count: usize) -> usize {
    rand::rng().random_range(0..count)
}

impl State {
    fn send(&self, connection: ConnectionId, message: String) {
        if let Some(peer) = self.peers.get(&connection) {
            peer.mailbox.send(message);
        }
    }

    /// Whether the id is that of a request without an answer: another answer would be taken for its own.
    fn is_under_way(&self, connection: ConnectionId, id: &Id) -> bool {
        let under_way = self.peers.get(&connection).is_some_and(|peer| peer.ids.contains_key(id));
        if under_way {
            log::debug!(
                "<{connection}> used the id of a request that is under way; the new one is ignored"
            );
        }
        under_way
    }

    /// Puts a request on the books.
    fn open(
        &mut self,
        connection: ConnectionId,
        id: Option<Id>,
        login: Option<String>,
    ) -> Result<Ticket, Failure> {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Err(Failure::InvalidRequest);
        };
        if peer.requests.len() >= REQUESTS_MAX {
            return Err(Failure::Refused(format!(
                "At most {REQUESTS_MAX} requests of a connection may wait"
            )));
        }
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, connection);
        if let Some(id) = &id {
            peer.ids.insert(id.clone(), self.last_ticket);
        }
        peer.logins += usize::from(login.is_some());
        peer.requests.insert(self.last_ticket, Request { id, login });
        Ok(self.last_ticket)
    }

    /// Takes a request off the books.
    fn finish(&mut self, ticket: Ticket) -> Option<(ConnectionId, Request)> {
        let connection = self.tickets.remove(&ticket)?;
        let peer = self.peers.get_mut(&connection)?;
        let request = peer.requests.remove(&ticket)?;
        if let Some(id) = &request.id {
            peer.ids.remove(id);
        }
        peer.logins -= usize::from(request.login.is_some());
        Some((connection, request))
    }

    /// A peer answered a call of the hub.
    fn answered(&mut self, connection: ConnectionId, id: &Id, outcome: Result<(), String>) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        if peer.open_call.is_none() || peer.open_call != id.as_u64() {
            return log::debug!("<{connection}> answered a call that is not open");
        }
        peer.open_call = None;
        peer.mailbox.set_due(None);
        if let Err(error) = &outcome {
            log::warn!("<{connection}> answered set_allowed_ips with an error: {error}");
        }
        self.farm.answered(connection, outcome);
    }

    /// Does what the farm asks for.
    fn settle(&mut self) {
        for effect in self.farm.take_effects() {
            match effect {
                Effect::Reply { ticket, outcome } => {
                    let Some((connection, Request { id: Some(id), .. })) = self.finish(ticket)
                    else {
                        continue;
                    };
                    let reply = match outcome {
                        Ok(Outcome::Reserved(place)) => rpc::result(&id, &place),
                        Ok(Outcome::Returned) => rpc::result(&id, &()),
                        Err(refusal) => rpc::error(&id, &Failure::Refused(refusal.to_string())),
                    };
                    self.send(connection, reply);
                }
                Effect::Allow { exporter, address } => {
                    let Some(peer) = self.peers.get_mut(&exporter) else { continue };
                    let addresses: Vec<String> = address.iter().map(IpAddr::to_string).collect();
                    peer.last_call += 1;
                    peer.open_call = Some(peer.last_call);
                    peer.mailbox.send(rpc::call(peer.last_call, "set_allowed_ips", &[addresses]));
                    peer.mailbox.set_due(Some(Instant::now() + ANSWER_WITHIN));
                }
                Effect::Note(note) => log_note(&note),
            }
        }
    }
}

fn log_note(note: &Note) {
    log::info!("{note}");
}

/// The tags of all parts, each once, as far as people see them.
fn tags(parts: &[crate::place::Part]) -> Vec<String> {
    let mut seen = HashSet::new();
    let tags = parts.iter().flat_map(|part| &part.compatible);
    let mut tags = tags.filter(|tag| seen.insert(tag.as_str()));
    let mut shown: Vec<String> =
        tags.by_ref().take(TAGS_SHOWN).map(|tag| cut(tag, TAG_CHARS_SHOWN)).collect();
    if tags.next().is_some() {
        shown.push("…".to_owned());
    }
    shown
}

/// The text, or its beginning and `…`.
fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The results that are objects.
fn object(name: &str, value: Value) -> Value {
    Value::Object(std::iter::once((name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests;
