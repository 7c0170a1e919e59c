//! What happens when a participant goes.

use super::{Chance, ConnectionId, Effect, Farm, Note, Outcome, PlaceId, Refusal, Stage};

impl Farm {
    /// A participant is gone: its requests, then its place, then what it held.
    pub fn disconnect(&mut self, connection: ConnectionId, chance: &mut impl Chance) {
        let Some(gone) = self.connections.get(&connection) else { return };
        for ticket in gone.requests.iter().copied().collect::<Vec<_>>() {
            self.cancel(ticket);
        }
        self.remove_place(connection, chance);
        let held = self.connections.get(&connection).map(|gone| gone.held.clone());
        for place in held.unwrap_or_default() {
            self.release(place, None);
        }
        self.connections.remove(&connection);
    }

    /// The exporter is gone. Who was being given its place asks on; who waited for nothing else is refused.
    fn remove_place(&mut self, place_id: PlaceId, chance: &mut impl Chance) {
        let Some(place) = self.places.remove(&place_id) else { return };
        self.names.remove(&place.name);
        self.listing.remove(&place.listed_at);
        self.effects.push(Effect::Note(Note::Disappeared(place.name)));
        if let Some(connection) = place.holder.and_then(|id| self.connections.get_mut(&id)) {
            self.held -= 1;
            connection.held.remove(&place_id);
            if place.granting.is_none() {
                connection.lost.insert(place_id);
                if connection.lost.len() > self.limits.lost_max {
                    connection.lost.pop_first();
                }
            }
        }
        for ticket in self.line.place_gone(place_id) {
            self.finish(ticket);
            self.refuse(ticket, Refusal::AllGone);
        }
        for ticket in place.calls.waiters() {
            let Some(request) = self.requests.get_mut(&ticket) else { continue };
            match &mut request.stage {
                Stage::Granting { candidates, .. } => {
                    let mut candidates = std::mem::take(candidates);
                    candidates.retain(|id| self.places.contains_key(id));
                    if candidates.is_empty() {
                        self.finish(ticket);
                        self.refuse(ticket, Refusal::AllGone);
                    } else {
                        self.grant_or_wait(ticket, candidates, chance);
                    }
                }
                Stage::Returning { .. } | Stage::Waiting => {
                    self.finish(ticket);
                    self.effects.push(Effect::Reply { ticket, outcome: Ok(Outcome::Returned) });
                }
            }
        }
    }
}
