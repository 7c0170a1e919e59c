//! What the farm says: what is to be done, why something was refused, what happened.

use std::fmt;
use std::net::IpAddr;

use super::{ConnectionId, PlaceId, Ticket};

/// What the farm holds at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Places registered at a time.
    pub places_max: usize,
    /// Requests waiting at a time.
    pub waiting_max: usize,
    /// Candidates of all waiting requests together: what bounds the memory of the queue.
    pub candidates_max: usize,
    /// Places that one connection may remember as its own after they disappeared.
    pub lost_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            places_max: 10_000,
            waiting_max: 20_000,
            candidates_max: 2_000_000,
            lost_max: 10_000,
        }
    }
}

/// What the caller has to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Answer the request; its ticket is used up.
    Reply {
        /// The request.
        ticket: Ticket,
        /// What to answer.
        outcome: Result<Outcome, Refusal>,
    },
    /// Call `set_allowed_ips` on the exporter; what it answers goes to [`super::Farm::answered`].
    /// No exporter has two of these calls open.
    Allow {
        /// The exporter's connection.
        exporter: ConnectionId,
        /// The address to admit; nobody when absent.
        address: Option<IpAddr>,
    },
    /// A line for the operator's log.
    Note(Note),
}

/// The result of a request that had to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `reserve`: this place is now held by the caller.
    Reserved(PlaceId),
    /// `return_reservation`: done.
    Returned,
}

/// Why a request was refused; the texts are those that upstream's users see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No candidate of a reservation is registered.
    #[error("None of the candidates exist anymore")]
    NoneExist,
    /// The last candidate disappeared while the request waited.
    #[error("All candidate places are gone")]
    AllGone,
    /// The place is not held by the caller, or not registered.
    #[error("{0}")]
    Unknown(PlaceId),
    /// A connection registers one place.
    #[error("Place already registered")]
    Registered,
    /// Names are unique.
    #[error("Place with name \"{0}\" already registered")]
    NameTaken(String),
    /// The exporter answered `set_allowed_ips` with this error.
    #[error("{0}")]
    Exporter(String),
    /// [`Limits::places_max`] is reached.
    #[error("The hub has no room for another place (at most {0})")]
    FarmFull(usize),
    /// [`Limits::waiting_max`] or [`Limits::candidates_max`] is reached.
    #[error("The hub's queue is full, try again later")]
    QueueFull,
}

/// What happened, in the words operators know from upstream's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A place came.
    Registered(String),
    /// A place went.
    Disappeared(String),
    /// A place was free and is now held.
    Reserved(String, ConnectionId),
    /// A place is free again.
    Returned(String, ConnectionId),
    /// A place went from the first connection to the second.
    HandedOver(String, ConnectionId, ConnectionId),
}

/// Characters of a name in the log.
const NAME_CHARS_MAX: usize = 100;

/// A name, or its beginning.
fn short(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(name) => write!(f, "New place registered: @{}", short(name)),
            Self::Disappeared(name) => write!(f, "Place @{} disappeared", short(name)),
            Self::Reserved(name, by) => write!(f, "Place @{} reserved by <{by}>", short(name)),
            Self::Returned(name, by) => write!(f, "Place @{} returned by <{by}>", short(name)),
            Self::HandedOver(name, from, to) => {
                write!(f, "Place @{} returned by <{from}>. Now reserved by <{to}>", short(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_in_the_log() {
        let line = Note::Disappeared("ä".repeat(5000)).to_string();
        assert_eq!(line, format!("Place @{} disappeared", "ä".repeat(NAME_CHARS_MAX)));
        assert_eq!(Note::Returned("a".to_owned(), 3).to_string(), "Place @a returned by <3>");
    }
}
