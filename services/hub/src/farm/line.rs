//! The queue of requests, found by turn and by place without walking it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{PlaceId, Ticket};

/// Requests in order of their tickets, and for each place those that would take it.
#[derive(Debug, Default)]
pub struct Line {
    waiting: BTreeMap<Ticket, BTreeSet<PlaceId>>,
    by_place: HashMap<PlaceId, BTreeSet<Ticket>>,
    /// Sum of the sizes of all candidate sets.
    candidates: usize,
}

impl Line {
    /// Puts a request in its turn.
    pub fn join(&mut self, ticket: Ticket, candidates: BTreeSet<PlaceId>) {
        for place in &candidates {
            self.by_place.entry(*place).or_default().insert(ticket);
        }
        self.candidates += candidates.len();
        self.waiting.insert(ticket, candidates);
    }

    /// Takes the first request that would take this place out of the queue, with its candidates.
    pub fn serve(&mut self, place: PlaceId) -> Option<(Ticket, BTreeSet<PlaceId>)> {
        let ticket = *self.by_place.get(&place)?.first()?;
        let candidates = self.remove(ticket);
        Some((ticket, candidates))
    }

    /// Takes a request out of the queue.
    pub fn leave(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    /// Strikes a place from all candidate sets; gives the requests that have none left, and takes them out.
    pub fn place_gone(&mut self, place: PlaceId) -> Vec<Ticket> {
        let mut stranded = Vec::new();
        for ticket in self.by_place.remove(&place).unwrap_or_default() {
            let Some(candidates) = self.waiting.get_mut(&ticket) else { continue };
            candidates.remove(&place);
            self.candidates -= 1;
            if candidates.is_empty() {
                self.waiting.remove(&ticket);
                stranded.push(ticket);
            }
        }
        stranded
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Candidates of all of them together.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// Whether somebody waits for the place.
    #[cfg(test)]
    pub fn is_wanted(&self, place: PlaceId) -> bool {
        self.by_place.contains_key(&place)
    }

    fn remove(&mut self, ticket: Ticket) -> BTreeSet<PlaceId> {
        let candidates = self.waiting.remove(&ticket).unwrap_or_default();
        self.candidates -= candidates.len();
        for place in &candidates {
            if let Some(tickets) = self.by_place.get_mut(place) {
                tickets.remove(&ticket);
                if tickets.is_empty() {
                    self.by_place.remove(place);
                }
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_would_take_the_place_is_served() {
        let mut line = Line::default();
        line.join(1, BTreeSet::from([10]));
        line.join(2, BTreeSet::from([20, 30]));
        line.join(3, BTreeSet::from([10, 20]));
        assert_eq!(line.serve(20), Some((2, BTreeSet::from([20, 30]))));
        assert_eq!(line.serve(20), Some((3, BTreeSet::from([10, 20]))));
        assert_eq!(line.serve(30), None);
        assert_eq!(line.serve(10), Some((1, BTreeSet::from([10]))));
        assert_eq!((line.len(), line.candidates(), line.by_place.len()), (0, 0, 0));
    }

    #[test]
    fn a_place_that_goes_strands_only_those_without_another() {
        let mut line = Line::default();
        line.join(1, BTreeSet::from([10]));
        line.join(2, BTreeSet::from([10, 20]));
        assert_eq!(line.place_gone(10), [1]);
        assert_eq!((line.len(), line.candidates()), (1, 1));
        line.leave(2);
        assert_eq!((line.len(), line.candidates(), line.by_place.len()), (0, 0, 0));
    }
}
