//! Who holds which place, who waits for which, and what each exporter must be told.
//!
//! Pure: requests and answers come in as method calls, what has to be done comes out as [`Effect`]s, in order.
//! Nothing here reads a clock, a socket or a random number: chance is an argument. The rules are those of
//! not-my-board 0.13.0; where its hub loses or leaks a place, this one does not:
//!
//! - A place is free, or held by one connection. It changes hands in one step, so it can be neither lost nor doubled.
//! - A reservation is answered only after the exporter has confirmed the new list of addresses, which replaces the
//!   old one: nobody is told "yours" while the exporter may still admit the last user only.
//! - When the exporter disappears before that, the request goes on with its other candidates, in its old turn.
//! - A cancelled request is answered by nobody, and what it had been given goes to the next in line.

mod calls;
mod effect;
mod line;
mod parting;
mod score;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use calls::{Calls, Sent};
pub use effect::{Effect, Limits, Note, Outcome, Refusal};
use line::Line;
use score::Score;

/// Names a connection, and the place its exporter registers: the wire uses one number for both.
/// Counts from 1 and is never used twice while the process lives.
pub type ConnectionId = u64;

/// The id of the connection that registered the place.
pub type PlaceId = ConnectionId;

/// Names a request whose answer comes later. The caller hands them out in order of arrival: a lower
/// ticket is served first.
pub type Ticket = u64;

/// Other candidates that a request keeps while an exporter is asked: every place may have one such request.
const FALLBACK_MAX: usize = 64;

/// Picks one of `0..count`, each equally likely; `count` is at least 1.
pub trait Chance: FnMut(usize) -> usize {}
impl<F: FnMut(usize) -> usize> Chance for F {}

/// A registered place.
#[derive(Debug)]
struct Place {
    name: String,
    /// Position in the listing.
    listed_at: u64,
    holder: Option<ConnectionId>,
    /// The reservation that is not answered yet because the exporter has not confirmed it.
    granting: Option<Ticket>,
    score: Score,
    calls: Calls,
}

/// A participant.
#[derive(Debug)]
struct Connection {
    /// What its exporter peers admit when it reserves.
    address: Option<IpAddr>,
    /// Places it holds.
    held: BTreeSet<PlaceId>,
    /// Places that disappeared while it held them: giving them back must succeed.
    lost: BTreeSet<PlaceId>,
    /// Its requests without an answer.
    requests: BTreeSet<Ticket>,
}

/// A request without an answer.
#[derive(Debug)]
struct Request {
    connection: ConnectionId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// In the queue, which knows the candidates.
    Waiting,
    /// Holds the place, whose exporter has not confirmed it; some other candidates are kept in case it never does.
    Granting { place: PlaceId, candidates: BTreeSet<PlaceId> },
    /// The place is free already; the exporter has not confirmed that it admits nobody.
    Returning { place: PlaceId },
}

/// The farm; see the module's page.
#[derive(Debug)]
pub struct Farm {
    tolerance: f64,
    limits: Limits,
    last_connection: ConnectionId,
    registrations: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    places: HashMap<PlaceId, Place>,
    listing: BTreeMap<u64, PlaceId>,
    names: HashSet<String>,
    held: usize,
    requests: HashMap<Ticket, Request>,
    line: Line,
    effects: Vec<Effect>,
}

impl Farm {
    /// An empty farm. Free candidates whose scores differ by at most `tolerance` from the lowest are equally good.
    pub fn new(tolerance: f64, limits: Limits) -> Self {
        Self {
            tolerance,
            limits,
            last_connection: 0,
            registrations: 0,
            connections: BTreeMap::new(),
            places: HashMap::new(),
            listing: BTreeMap::new(),
            names: HashSet::new(),
            held: 0,
            requests: HashMap::new(),
            line: Line::default(),
            effects: Vec::new(),
        }
    }

    /// Takes what the calls since the last time ask for.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A participant arrives; `address` is what exporters admit for it, if it is known.
    pub fn connect(&mut self, address: Option<IpAddr>) -> ConnectionId {
        self.last_connection += 1;
        let connection = Connection {
            address,
            held: BTreeSet::new(),
            lost: BTreeSet::new(),
            requests: BTreeSet::new(),
        };
        self.connections.insert(self.last_connection, connection);
        self.last_connection
    }

    /// Registers the connection's place. It starts free and is not offered to requests that already wait:
    /// the agent chose their candidates.
    ///
    /// # Errors
    /// When the connection has a place, the name is taken, or the farm is full.
    pub fn register(&mut self, connection: ConnectionId, name: &str) -> Result<PlaceId, Refusal> {
        if self.places.contains_key(&connection) {
            return Err(Refusal::Registered);
        }
        if self.names.contains(name) {
            return Err(Refusal::NameTaken(name.to_owned()));
        }
        if self.places.len() >= self.limits.places_max {
            return Err(Refusal::FarmFull(self.limits.places_max));
        }
        self.registrations += 1;
        self.names.insert(name.to_owned());
        self.listing.insert(self.registrations, connection);
        let place = Place {
            name: name.to_owned(),
            listed_at: self.registrations,
            holder: None,
            granting: None,
            score: Score::default(),
            calls: Calls::default(),
        };
        self.places.insert(connection, place);
        self.effects.push(Effect::Note(Note::Registered(name.to_owned())));
        Ok(connection)
    }

    /// Asks for one of `candidates`; answered by an effect, at once or later.
    pub fn reserve(
        &mut self,
        connection: ConnectionId,
        ticket: Ticket,
        mut candidates: BTreeSet<PlaceId>,
        chance: &mut impl Chance,
    ) {
        candidates.retain(|id| self.places.contains_key(id));
        if candidates.is_empty() {
            return self.refuse(ticket, Refusal::NoneExist);
        }
        let sample = score::uniqueness(candidates.len(), self.places.len());
        for id in &candidates {
            if let Some(place) = self.places.get_mut(id) {
                place.score.update(sample);
            }
        }
        self.requests.insert(ticket, Request { connection, stage: Stage::Waiting });
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.requests.insert(ticket);
        }
        self.grant_or_wait(ticket, candidates, chance);
    }

    /// Gives a place back: to the first in line for it, else it is free.
    pub fn give_back(&mut self, connection: ConnectionId, ticket: Ticket, place_id: PlaceId) {
        let Some(holder) = self.connections.get_mut(&connection) else { return };
        if holder.lost.remove(&place_id) {
            return self.effects.push(Effect::Reply { ticket, outcome: Ok(Outcome::Returned) });
        }
        let unanswered = self.places.get(&place_id).is_some_and(|place| place.granting.is_some());
        if unanswered || !holder.held.contains(&place_id) {
            return self.refuse(ticket, Refusal::Unknown(place_id));
        }
        holder.requests.insert(ticket);
        let stage = Stage::Returning { place: place_id };
        self.requests.insert(ticket, Request { connection, stage });
        self.release(place_id, Some(ticket));
    }

    /// Forgets a request: it gets no answer, and leaves nothing behind. False when it is not under way.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(request) = self.finish(ticket) else { return false };
        match request.stage {
            Stage::Waiting => self.line.leave(ticket),
            Stage::Granting { place, .. } => {
                if let Some(place) = self.places.get_mut(&place) {
                    place.granting = None;
                    place.calls.abandon(ticket);
                }
                self.release(place, None);
            }
            Stage::Returning { place } => {
                if let Some(place) = self.places.get_mut(&place) {
                    place.calls.abandon(ticket);
                }
            }
        }
        true
    }

    /// The exporter answered its open `set_allowed_ips` call.
    pub fn answered(&mut self, exporter: ConnectionId, answer: Result<(), String>) {
        let Some(place) = self.places.get_mut(&exporter) else { return };
        let waiter = place.calls.answered();
        self.send_next(exporter);
        let Some(ticket) = waiter else { return };
        let Some(request) = self.finish(ticket) else { return };
        let outcome = match (request.stage, answer) {
            (Stage::Granting { place, .. }, answer) => {
                if let Some(place) = self.places.get_mut(&place) {
                    place.granting = None;
                }
                match answer {
                    Ok(()) => Ok(Outcome::Reserved(place)),
                    Err(error) => {
                        self.release(place, None);
                        Err(Refusal::Exporter(error))
                    }
                }
            }
            // The place is free whatever the exporter says: its next user is told only after it has
            // confirmed the list that replaces this one.
            (Stage::Returning { .. } | Stage::Waiting, _) => Ok(Outcome::Returned),
        };
        self.effects.push(Effect::Reply { ticket, outcome });
    }

    /// The uniqueness of a place, from 0.0 (asked for together with all others) to nearly 1.0.
    ///
    /// # Errors
    /// When the place is not registered.
    pub fn uniqueness(&self, place: PlaceId) -> Result<f64, Refusal> {
        self.places.get(&place).map(|place| place.score.get()).ok_or(Refusal::Unknown(place))
    }

    /// Place and holder of every registered place that is held, by connection in order of arrival.
    pub fn reservations(&self) -> impl Iterator<Item = (PlaceId, ConnectionId)> {
        self.connections
            .iter()
            .flat_map(|(id, connection)| connection.held.iter().map(|place| (*place, *id)))
    }

    /// All places in order of registration, and who holds them.
    pub fn listing(&self) -> impl Iterator<Item = (PlaceId, Option<ConnectionId>)> {
        self.listing.values().map(|id| (*id, self.places.get(id).and_then(|place| place.holder)))
    }

    /// The newest connection: no place has a higher id.
    pub fn last_connection(&self) -> ConnectionId {
        self.last_connection
    }

    /// Places registered, places held, requests waiting.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.places.len(), self.held, self.line.len())
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.effects.push(Effect::Reply { ticket, outcome: Err(refusal) });
    }

    /// Takes a request off the books.
    fn finish(&mut self, ticket: Ticket) -> Option<Request> {
        let request = self.requests.remove(&ticket)?;
        if let Some(connection) = self.connections.get_mut(&request.connection) {
            connection.requests.remove(&ticket);
        }
        Some(request)
    }

    /// Gives the request the best free candidate, or a place in the queue by its ticket.
    fn grant_or_wait(
        &mut self,
        ticket: Ticket,
        candidates: BTreeSet<PlaceId>,
        chance: &mut impl Chance,
    ) {
        let free = candidates.iter().filter_map(|id| {
            Some((*id, self.places.get(id).filter(|place| place.holder.is_none())?.score.get()))
        });
        if let Some(chosen) = score::choose(free, self.tolerance, chance) {
            self.grant(ticket, chosen, candidates);
            if let (Some(place), Some(request)) =
                (self.places.get(&chosen), self.requests.get(&ticket))
            {
                self.effects
                    .push(Effect::Note(Note::Reserved(place.name.clone(), request.connection)));
            }
            return self.send_next(chosen);
        }
        let full = self.line.len() >= self.limits.waiting_max
            || self.line.candidates() + candidates.len() > self.limits.candidates_max;
        if full {
            self.finish(ticket);
            return self.refuse(ticket, Refusal::QueueFull);
        }
        if let Some(request) = self.requests.get_mut(&ticket) {
            request.stage = Stage::Waiting;
            self.line.join(ticket, candidates);
        }
    }

    /// Makes the requester the holder of a place that has none, and asks its exporter to admit it.
    fn grant(&mut self, ticket: Ticket, place_id: PlaceId, candidates: BTreeSet<PlaceId>) {
        let Some(request) = self.requests.get_mut(&ticket) else { return };
        let Some(connection) = self.connections.get_mut(&request.connection) else { return };
        let Some(place) = self.places.get_mut(&place_id) else { return };
        let fallback = candidates.into_iter().filter(|id| *id != place_id);
        let candidates = fallback.take(FALLBACK_MAX).collect();
        request.stage = Stage::Granting { place: place_id, candidates };
        connection.held.insert(place_id);
        place.holder = Some(request.connection);
        place.granting = Some(ticket);
        place.calls.push(connection.address, Some(ticket));
        self.held += 1;
    }

    /// Takes a place from its holder: the first in line gets it, else it is free and its exporter is told to
    /// admit nobody. `ticket` is the `return_reservation` to answer.
    fn release(&mut self, place_id: PlaceId, ticket: Option<Ticket>) {
        let Some(place) = self.places.get_mut(&place_id) else { return };
        let Some(from) = place.holder.take() else { return };
        self.held -= 1;
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.held.remove(&place_id);
        }
        let name = place.name.clone();
        if let Some((next, candidates)) = self.line.serve(place_id) {
            let to = self.requests.get(&next).map_or(0, |request| request.connection);
            self.effects.push(Effect::Note(Note::HandedOver(name, from, to)));
            self.grant(next, place_id, candidates);
            if let Some(ticket) = ticket {
                self.finish(ticket);
                self.effects.push(Effect::Reply { ticket, outcome: Ok(Outcome::Returned) });
            }
        } else {
            self.effects.push(Effect::Note(Note::Returned(name, from)));
            if let Some(place) = self.places.get_mut(&place_id) {
                place.calls.push(None, ticket);
            }
        }
        self.send_next(place_id);
    }

    /// Sends the exporter its next call, unless one is open.
    fn send_next(&mut self, exporter: ConnectionId) {
        let Some(place) = self.places.get_mut(&exporter) else { return };
        if let Some(Sent { address }) = place.calls.send() {
            self.effects.push(Effect::Allow { exporter, address });
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
