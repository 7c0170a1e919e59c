//! What may never happen, whatever the order of events.

use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Something that may happen; indexes choose among what is there.
#[derive(Debug, Clone)]
enum Event {
    Connect,
    Register(Index),
    Reserve(Index, Vec<Index>),
    GiveBack(Index, Index),
    Cancel(Index),
    Answer(Index, bool),
    Disconnect(Index),
}

fn event() -> impl Strategy<Value = Event> {
    let any = any::<Index>;
    prop_oneof![
        2 => Just(Event::Connect),
        3 => any().prop_map(Event::Register),
        6 => (any(), vec(any(), 1..4)).prop_map(|(who, what)| Event::Reserve(who, what)),
        4 => (any(), any()).prop_map(|(who, what)| Event::GiveBack(who, what)),
        2 => any().prop_map(Event::Cancel),
        8 => (any(), prop::bool::weighted(0.9)).prop_map(|(who, well)| Event::Answer(who, well)),
        1 => any().prop_map(Event::Disconnect),
    ]
}

/// What an exporter admits, as a real one would know it.
#[derive(Debug, Default)]
struct Exporter {
    /// The list it was sent last and has not confirmed.
    open: Option<Option<IpAddr>>,
    confirmed: Option<IpAddr>,
    /// Whether it refused the last list; then it may still admit an earlier user.
    refused: bool,
}

/// The farm and an independent record of what it said.
struct World {
    farm: Farm,
    exporters: BTreeMap<ConnectionId, Exporter>,
    unanswered: BTreeMap<Ticket, ConnectionId>,
    tickets: Ticket,
    /// Who was told that the place is its own, and has not given it back.
    told: BTreeMap<PlaceId, ConnectionId>,
}

fn address(id: ConnectionId) -> Option<IpAddr> {
    Some(Ipv4Addr::from(0x0a00_0000 | u32::try_from(id).unwrap()).into())
}

fn pick<T: Clone>(index: &Index, items: impl IntoIterator<Item = T>) -> Option<T> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| index.get(&items).clone())
}

impl World {
    fn new() -> Self {
        let farm = Farm::new(0.01, Limits::default());
        Self {
            farm,
            exporters: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            tickets: 0,
            told: BTreeMap::new(),
        }
    }

    fn connections(&self) -> Vec<ConnectionId> {
        self.farm.connections.keys().copied().collect()
    }

    fn ticket(&mut self, connection: ConnectionId) -> Ticket {
        self.tickets += 1;
        self.unanswered.insert(self.tickets, connection);
        self.tickets
    }

    fn happen(&mut self, event: &Event, chance: &mut impl Chance) {
        match event {
            Event::Connect => {
                let next = self.farm.last_connection + 1;
                assert_eq!(self.farm.connect(address(next)), next);
            }
            Event::Register(who) => {
                let Some(who) = pick(who, self.connections()) else { return };
                if self.farm.register(who, &format!("place {who}")).is_ok() {
                    self.exporters.insert(who, Exporter::default());
                }
            }
            Event::Reserve(who, what) => {
                let Some(who) = pick(who, self.connections()) else { return };
                let candidates =
                    what.iter().filter_map(|index| pick(index, self.exporters.keys().copied()));
                let candidates = candidates.collect();
                let ticket = self.ticket(who);
                self.farm.reserve(who, ticket, candidates, chance);
            }
            Event::GiveBack(who, what) => {
                let Some(who) = pick(who, self.connections()) else { return };
                let held = self.farm.connections[&who].held.clone();
                let Some(what) = pick(what, held) else { return };
                let ticket = self.ticket(who);
                self.told.remove(&what);
                self.farm.give_back(who, ticket, what);
            }
            Event::Cancel(which) => {
                let Some((which, _)) = pick(which, self.unanswered.clone()) else { return };
                assert!(self.farm.cancel(which), "an unanswered request is under way");
                self.unanswered.remove(&which);
            }
            Event::Answer(who, well) => {
                let open = self.exporters.iter().filter(|(_, exporter)| exporter.open.is_some());
                let Some(who) = pick(who, open.map(|(id, _)| *id)) else { return };
                let exporter = self.exporters.get_mut(&who).unwrap();
                let list = exporter.open.take().unwrap();
                exporter.refused = !well;
                if *well {
                    exporter.confirmed = list;
                }
                self.farm.answered(who, if *well { Ok(()) } else { Err("no".into()) });
            }
            Event::Disconnect(who) => {
                let Some(who) = pick(who, self.connections()) else { return };
                self.farm.disconnect(who, chance);
                self.exporters.remove(&who);
                self.told.retain(|place, connection| *place != who && *connection != who);
                self.unanswered.retain(|_, connection| *connection != who);
            }
        }
        self.obey();
        self.check();
    }

    /// Carries the effects out, and checks each.
    fn obey(&mut self) {
        for effect in self.farm.take_effects() {
            match effect {
                Effect::Allow { exporter, address } => {
                    let exporter = self
                        .exporters
                        .get_mut(&exporter)
                        .expect("only registered exporters are called");
                    assert_eq!(exporter.open.replace(address), None, "one call at a time");
                }
                Effect::Reply { ticket, outcome } => {
                    let connection = self
                        .unanswered
                        .remove(&ticket)
                        .expect("one answer, and none when cancelled");
                    if let Ok(Outcome::Reserved(place)) = outcome {
                        assert_eq!(
                            self.exporters[&place].confirmed,
                            address(connection),
                            "the exporter admits the new user and nobody else"
                        );
                        assert!(self.farm.connections[&connection].held.contains(&place));
                        self.told.insert(place, connection);
                    }
                }
                Effect::Note(_) => {}
            }
        }
    }

    /// What holds between any two events.
    fn check(&self) {
        let farm = &self.farm;
        let mut holders = BTreeMap::new();
        for (id, connection) in &farm.connections {
            for place in &connection.held {
                assert_eq!(holders.insert(*place, *id), None, "two agents hold {place}");
                assert!(farm.places.contains_key(place), "a place that is gone is not held");
            }
        }
        for (id, place) in &farm.places {
            assert_eq!(place.holder, holders.get(id).copied(), "free, or held by one who knows it");
        }
        assert_eq!(farm.counts().1, holders.len());
        for (place, holder) in &holders {
            let told = self.told.get(place) == Some(holder);
            assert!(
                told != farm.places[place].granting.is_some(),
                "who holds {place} knows it, or will"
            );
        }
        for (ticket, request) in &farm.requests {
            assert_eq!(self.unanswered.get(ticket), Some(&request.connection));
            assert!(farm.connections[&request.connection].requests.contains(ticket));
        }
        assert_eq!(farm.requests.len(), self.unanswered.len(), "nobody is forgotten");
        let waiting =
            farm.requests.iter().filter(|(_, request)| matches!(request.stage, Stage::Waiting));
        assert_eq!(waiting.count(), farm.line.len());
        for (place, _) in farm.places.iter().filter(|(_, place)| place.holder.is_none()) {
            assert!(!farm.line.is_wanted(*place), "a free place that somebody waits for");
        }
    }

    /// Lets every exporter answer well until none is asked any more.
    fn settle(&mut self) {
        while let Some((id, exporter)) =
            self.exporters.iter_mut().find(|(_, exporter)| exporter.open.is_some())
        {
            let id = *id;
            exporter.confirmed = exporter.open.take().unwrap();
            exporter.refused = false;
            self.farm.answered(id, Ok(()));
            self.obey();
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_place_is_doubled_lost_or_handed_on_unconfirmed(
        events in vec(event(), 1..120),
        draws in vec(any::<Index>(), 1..20),
    ) {
        let mut world = World::new();
        let mut draw = 0;
        let mut chance = |count: usize| {
            draw += 1;
            draws[draw % draws.len()].index(count)
        };
        for event in &events {
            world.happen(event, &mut chance);
        }
        world.settle();
        for (id, exporter) in world.exporters.iter().filter(|(_, exporter)| !exporter.refused) {
            let holder = world.farm.places[id].holder;
            assert_eq!(exporter.confirmed, holder.and_then(address), "at rest, the exporter admits the holder only");
        }
        for id in world.connections() {
            world.farm.disconnect(id, &mut chance);
        }
        world.farm.take_effects();
        let farm = &world.farm;
        assert_eq!((farm.counts(), farm.requests.len()), ((0, 0, 0), 0));
        assert_eq!((farm.names.len(), farm.listing.len(), farm.line.candidates()), (0, 0, 0), "nothing leaks");
    }
}
