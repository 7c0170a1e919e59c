//! The methods that participants call.

use actix_web::web::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::farm::{ConnectionId, Refusal};
use crate::place::Description;
use crate::rpc::{self, Failure, Id, Params};

use super::{
    Entry, Hub, LISTING_BYTES_MAX, NAME_CHARS_SHOWN, SEPARATOR, State, chance, cut, object, tags,
};

/// The longest `state` of a login, in bytes.
const LOGIN_BYTES_MAX: usize = 256;

/// Logins of one connection that may wait for the browser at a time; the command line has one.
const LOGINS_OF_ONE_MAX: usize = 8;

/// And those of all connections.
const LOGINS_MAX: usize = 1000;

/// What a method did: a result at once, or an entry in the books that is answered later.
enum Done {
    Now(Value),
    Later,
}

type Answer = Result<Done, Failure>;

impl Hub {
    /// A participant calls a method.
    pub(super) fn call(
        &self,
        connection: ConnectionId,
        id: Option<Id>,
        method: &str,
        params: &Params<'_>,
    ) {
        // What takes time is read before the lock is taken.
        let prepared = Prepared::read(self, method, params);
        let mut state = self.lock();
        if !state.peers.contains_key(&connection) {
            return;
        }
        // A cancellation may have the id of what it cancels, whose own answer then never comes.
        let cancels_itself = matches!(&prepared, Ok(Prepared::Cancel(cancelled)) if cancelled.is_some() && *cancelled == id);
        if !cancels_itself && id.as_ref().is_some_and(|id| state.is_under_way(connection, id)) {
            return;
        }
        let answer = prepared.and_then(|prepared| state.perform(connection, id.clone(), prepared));
        if let Some(id) = id {
            match answer {
                Ok(Done::Later) => {}
                Ok(Done::Now(value)) => state.send(connection, rpc::result(&id, &value)),
                Err(failure) => state.send(connection, rpc::error(&id, &failure)),
            }
        }
        state.settle();
        self.count(&state);
    }
}

/// A call whose arguments fit.
enum Prepared {
    Register(Description),
    Reserve(std::collections::BTreeSet<u64>),
    Return(Option<u64>, String),
    Reservations,
    Stats(Option<u64>, String),
    Login(String),
    Cancel(Option<Id>),
}

impl Prepared {
    fn read(hub: &Hub, method: &str, params: &Params<'_>) -> Result<Self, Failure> {
        let call = Self::bind(hub, method, params).ok_or(Failure::MethodNotFound)?;
        call.map_err(Failure::Refused)
    }

    /// `None` when there is no such method.
    fn bind(hub: &Hub, method: &str, params: &Params<'_>) -> Option<Result<Self, String>> {
        let one = |name| params.one(method, name);
        let id = |raw: &RawValue| {
            Ok((rpc::integer(raw)?, raw.get().chars().take(80).collect::<String>()))
        };
        Some(match method {
            "register_place" => one("export_desc").and_then(Description::read).map(Self::Register),
            "reserve" => {
                let last = hub.lock().farm.last_connection();
                let read = |raw: &RawValue| rpc::candidates(raw, |id| (1..=last).contains(&id));
                one("candidate_ids").and_then(read).map(Self::Reserve)
            }
            "return_reservation" => {
                one("place_id").and_then(id).map(|(id, text)| Self::Return(id, text))
            }
            "get_reservations" => params.none(method).map(|()| Self::Reservations),
            "get_place_stats" => {
                one("place_id").and_then(id).map(|(id, text)| Self::Stats(id, text))
            }
            "get_authentication_response" => {
                one("state").and_then(|raw| rpc::text(raw, "state")).map(Self::Login)
            }
            "rpc.cancel" => one("id_").map(|raw| Self::Cancel(Id::read(raw))),
            _ => return None,
        })
    }
}

impl State {
    fn perform(&mut self, connection: ConnectionId, id: Option<Id>, call: Prepared) -> Answer {
        match call {
            Prepared::Register(description) => self.register(connection, &description),
            Prepared::Reserve(candidates) => {
                self.address(connection)?;
                let ticket = self.open(connection, id, None)?;
                self.farm.reserve(connection, ticket, candidates, &mut chance);
                Ok(Done::Later)
            }
            Prepared::Return(Some(place), _) => {
                let ticket = self.open(connection, id, None)?;
                self.farm.give_back(connection, ticket, place);
                Ok(Done::Later)
            }
            Prepared::Return(None, text) | Prepared::Stats(None, text) => {
                Err(Failure::Refused(text))
            }
            Prepared::Reservations => Ok(Done::Now(self.reservations())),
            Prepared::Stats(Some(place), _) => {
                let uniqueness = self.farm.uniqueness(place).map_err(refused)?;
                Ok(Done::Now(object("uniqueness", uniqueness.into())))
            }
            Prepared::Login(login) => self.login(connection, id, login),
            Prepared::Cancel(cancelled) => {
                self.cancel(connection, cancelled.as_ref());
                Ok(Done::Now(Value::Null))
            }
        }
    }

    fn register(&mut self, connection: ConnectionId, description: &Description) -> Answer {
        let address = self.address(connection)?;
        let json = Bytes::from(SEPARATOR.to_owned() + &description.entry(connection, address));
        if self.entries_bytes + json.len() > LISTING_BYTES_MAX {
            return Err(Failure::Refused("The hub's listing is full".to_owned()));
        }
        let place = self.farm.register(connection, &description.name).map_err(refused)?;
        self.entries_bytes += json.len();
        let name = cut(&description.name, NAME_CHARS_SHOWN);
        let entry = Entry { json, name, tags: tags(&description.parts) };
        self.entries.insert(place, entry);
        self.listing = None;
        Ok(Done::Now(place.into()))
    }

    fn login(&mut self, connection: ConnectionId, id: Option<Id>, login: String) -> Answer {
        if login.len() > LOGIN_BYTES_MAX {
            return Err(Failure::Refused(format!("state: longer than {LOGIN_BYTES_MAX} bytes")));
        }
        // Who comes first keeps it: nobody can take over a login by guessing its state.
        if self.logins.contains_key(&login) {
            return Err(Failure::Refused("This state is in use by another login".to_owned()));
        }
        let own = self.peers.get(&connection).map_or(0, |peer| peer.logins);
        if own >= LOGINS_OF_ONE_MAX {
            return Err(Failure::Refused(format!(
                "At most {LOGINS_OF_ONE_MAX} logins of a connection may wait"
            )));
        }
        if self.logins.len() >= LOGINS_MAX {
            return Err(Failure::Refused("Too many logins wait, try again later".to_owned()));
        }
        let ticket = self.open(connection, id, Some(login.clone()))?;
        self.logins.insert(login, ticket);
        self.send(connection, rpc::notification("oidc_callback_registered"));
        Ok(Done::Later)
    }

    /// The request gets no answer. All it had is gone before the cancellation is answered.
    fn cancel(&mut self, connection: ConnectionId, id: Option<&Id>) {
        let Some(peer) = self.peers.get(&connection) else { return };
        let Some(ticket) = id.and_then(|id| peer.ids.get(id)).copied() else { return };
        self.farm.cancel(ticket);
        if let Some((_, request)) = self.finish(ticket) {
            request.login.and_then(|login| self.logins.remove(&login));
        }
    }

    fn reservations(&self) -> Value {
        let reservations = self.farm.reservations();
        let rows = reservations
            .map(|(place, by)| serde_json::json!({ "place_id": place, "user": format!("<{by}>") }));
        object("reservations", rows.collect())
    }

    /// The address that exporters are told, or that agents see.
    fn address(&self, connection: ConnectionId) -> Result<std::net::IpAddr, Failure> {
        let peer = self.peers.get(&connection).ok_or(Failure::InvalidRequest)?;
        peer.address.clone().map_err(|unknown| Failure::Refused(unknown.to_string()))
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Refused(refusal.to_string())
}
