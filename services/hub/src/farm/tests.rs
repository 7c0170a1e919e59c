//! The rules of reservations, each by an example.

use std::net::Ipv4Addr;

use super::*;

/// A farm with a ticket counter: what the caller of the farm adds.
struct Story {
    farm: Farm,
    ticket: Ticket,
}

impl Story {
    fn new() -> Self {
        Self { farm: Farm::new(0.01, Limits::default()), ticket: 0 }
    }

    /// A participant at 10.0.0.N, where N is its id.
    fn agent(&mut self) -> ConnectionId {
        let next = u8::try_from(self.farm.last_connection + 1).unwrap();
        self.farm.connect(address(next.into()))
    }

    fn exporter(&mut self, name: &str) -> PlaceId {
        let id = self.agent();
        let place = self.farm.register(id, name).unwrap();
        self.farm.take_effects();
        place
    }

    fn reserve(&mut self, agent: ConnectionId, candidates: &[PlaceId]) -> Ticket {
        self.ticket += 1;
        self.farm.reserve(
            agent,
            self.ticket,
            candidates.iter().copied().collect(),
            &mut |_: usize| 0,
        );
        self.ticket
    }

    fn give_back(&mut self, agent: ConnectionId, place: PlaceId) -> Ticket {
        self.ticket += 1;
        self.farm.give_back(agent, self.ticket, place);
        self.ticket
    }

    /// An agent that has reserved the place and been told so.
    fn holder(&mut self, place: PlaceId) -> ConnectionId {
        let agent = self.agent();
        let ticket = self.reserve(agent, &[place]);
        self.farm.answered(place, Ok(()));
        assert!(self.effects().contains(&reserved(ticket, place)));
        agent
    }

    fn leave(&mut self, connection: ConnectionId) {
        self.farm.disconnect(connection, &mut |_: usize| 0);
    }

    /// What is to be done, without the log.
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = self.farm.take_effects();
        effects.retain(|effect| !matches!(effect, Effect::Note(_)));
        effects
    }

    fn notes(&mut self) -> Vec<String> {
        let notes = |effect| match effect {
            Effect::Note(note) => Some(note.to_string()),
            _ => None,
        };
        self.farm.take_effects().into_iter().filter_map(notes).collect()
    }
}

fn address(id: ConnectionId) -> Option<IpAddr> {
    Some(Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()).into())
}

fn reserved(ticket: Ticket, place: PlaceId) -> Effect {
    Effect::Reply { ticket, outcome: Ok(Outcome::Reserved(place)) }
}

fn returned(ticket: Ticket) -> Effect {
    Effect::Reply { ticket, outcome: Ok(Outcome::Returned) }
}

fn refused(ticket: Ticket, refusal: Refusal) -> Effect {
    Effect::Reply { ticket, outcome: Err(refusal) }
}

fn allow(exporter: ConnectionId, agent: ConnectionId) -> Effect {
    Effect::Allow { exporter, address: address(agent) }
}

fn allow_nobody(exporter: ConnectionId) -> Effect {
    Effect::Allow { exporter, address: None }
}

#[test]
fn a_reservation_is_answered_after_the_exporter_has_confirmed() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let agent = story.agent();
    let ticket = story.reserve(agent, &[place]);
    assert_eq!(story.effects(), [allow(place, agent)]);
    assert_eq!(story.farm.counts(), (1, 1, 0));
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [reserved(ticket, place)]);
    assert_eq!(story.farm.reservations().collect::<Vec<_>>(), [(place, agent)]);
}

#[test]
fn a_returned_place_is_free_at_once_and_the_answer_waits_for_the_exporter() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let agent = story.holder(place);
    let ticket = story.give_back(agent, place);
    assert_eq!(story.farm.counts(), (1, 0, 0));
    assert_eq!(story.effects(), [allow_nobody(place)]);
    story.farm.answered(place, Err("boom".into()));
    assert_eq!(story.effects(), [returned(ticket)], "returned although the exporter erred");
}

#[test]
fn a_hand_over_tells_the_exporter_the_next_user_with_no_empty_list_between() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let first = story.holder(place);
    let second = story.agent();
    let waiting = story.reserve(second, &[place]);
    assert_eq!(story.farm.counts(), (1, 1, 1));
    assert_eq!(story.effects(), []);
    let back = story.give_back(first, place);
    assert_eq!(story.farm.counts(), (1, 1, 0), "never free in between");
    assert_eq!(story.effects(), [returned(back), allow(place, second)]);
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [reserved(waiting, place)]);
}

#[test]
fn a_place_goes_to_the_first_in_line_for_it() {
    let mut story = Story::new();
    let (left, right) = (story.exporter("left"), story.exporter("right"));
    let (on_left, on_right) = (story.holder(left), story.holder(right));
    let agent = story.agent();
    let early = story.reserve(agent, &[left]);
    let late = story.reserve(agent, &[left, right]);
    story.give_back(on_right, right);
    story.farm.answered(right, Ok(()));
    assert!(
        story.effects().contains(&reserved(late, right)),
        "a later waiter with another candidate is served"
    );
    story.give_back(on_left, left);
    story.farm.answered(left, Ok(()));
    assert!(story.effects().contains(&reserved(early, left)));
}

#[test]
fn the_calls_of_a_return_and_the_next_reservation_go_out_in_order() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let first = story.holder(place);
    let back = story.give_back(first, place);
    let second = story.agent();
    let ticket = story.reserve(second, &[place]);
    assert_eq!(story.effects(), [allow_nobody(place)]);
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [allow(place, second), returned(back)]);
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [reserved(ticket, place)]);
}

#[test]
fn a_cancelled_request_leaves_the_queue_without_an_answer() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let first = story.holder(place);
    let agent = story.agent();
    let ticket = story.reserve(agent, &[place]);
    assert!(story.farm.cancel(ticket));
    assert_eq!(story.farm.counts(), (1, 1, 0));
    story.give_back(first, place);
    assert_eq!(story.effects(), [allow_nobody(place)]);
    assert!(!story.farm.cancel(ticket), "it is forgotten");
}

#[test]
fn cancelling_right_after_the_hand_over_gives_the_place_to_the_next() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let first = story.holder(place);
    let (second, third) = (story.agent(), story.agent());
    let cancelled = story.reserve(second, &[place]);
    let next = story.reserve(third, &[place]);
    story.give_back(first, place);
    assert!(story.farm.cancel(cancelled));
    assert_eq!(story.effects().last(), Some(&allow(place, second)), "already on its way");
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [allow(place, third)]);
    story.farm.answered(place, Ok(()));
    assert_eq!(story.effects(), [reserved(next, place)]);
    assert_eq!(story.farm.reservations().collect::<Vec<_>>(), [(place, third)]);
}

#[test]
fn when_the_exporter_dies_before_it_confirms_another_candidate_is_given() {
    let mut story = Story::new();
    let (dying, other) = (story.exporter("dying"), story.exporter("other"));
    let agent = story.agent();
    let ticket = story.reserve(agent, &[dying, other]);
    assert_eq!(story.effects(), [allow(dying, agent)]);
    story.leave(dying);
    assert_eq!(story.effects(), [allow(other, agent)]);
    story.farm.answered(other, Ok(()));
    assert_eq!(story.effects(), [reserved(ticket, other)]);
}

#[test]
fn when_the_exporter_dies_before_it_confirms_the_request_waits_on_in_its_old_turn() {
    let mut story = Story::new();
    let (dying, other) = (story.exporter("dying"), story.exporter("other"));
    let holder = story.holder(other);
    let (early, late) = (story.agent(), story.agent());
    let ticket = story.reserve(early, &[dying, other]);
    story.reserve(late, &[other]);
    story.leave(dying);
    assert_eq!(story.farm.counts(), (1, 1, 2));
    story.effects();
    story.give_back(holder, other);
    story.farm.answered(other, Ok(()));
    assert!(story.effects().contains(&reserved(ticket, other)));
}

#[test]
fn a_request_fails_when_its_last_candidate_is_gone() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let holder = story.holder(place);
    let agent = story.agent();
    let waiting = story.reserve(agent, &[place]);
    story.leave(place);
    assert_eq!(story.effects(), [refused(waiting, Refusal::AllGone)]);
    let ticket = story.give_back(holder, place);
    assert_eq!(story.effects(), [returned(ticket)], "returning a place that is gone succeeds");
    let again = story.give_back(holder, place);
    assert_eq!(story.effects(), [refused(again, Refusal::Unknown(place))]);
}

#[test]
fn a_return_that_waits_for_a_dying_exporter_succeeds() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let holder = story.holder(place);
    let ticket = story.give_back(holder, place);
    story.effects();
    story.leave(place);
    assert_eq!(story.effects(), [returned(ticket)]);
}

#[test]
fn an_exporters_error_fails_the_reservation_and_frees_the_place() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let agent = story.agent();
    let ticket = story.reserve(agent, &[place]);
    story.effects();
    story.farm.answered(place, Err("boom".into()));
    assert_eq!(story.farm.counts(), (1, 0, 0));
    assert_eq!(
        story.effects(),
        [allow_nobody(place), refused(ticket, Refusal::Exporter("boom".into()))]
    );
}

#[test]
fn an_agent_that_leaves_gives_everything_back_and_its_requests_leave_the_queue() {
    let mut story = Story::new();
    let (kept, wanted) = (story.exporter("kept"), story.exporter("wanted"));
    let other = story.holder(wanted);
    let leaving = story.holder(kept);
    let next = story.agent();
    story.reserve(leaving, &[wanted]);
    let ticket = story.reserve(next, &[kept]);
    story.leave(leaving);
    assert_eq!(story.effects(), [allow(kept, next)]);
    story.farm.answered(kept, Ok(()));
    assert_eq!(story.effects(), [reserved(ticket, kept)]);
    story.give_back(other, wanted);
    assert_eq!(story.effects(), [allow_nobody(wanted)], "nobody waits for it any more");
}

#[test]
fn a_place_is_held_once_its_reservation_is_answered_and_not_before() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let agent = story.agent();
    story.reserve(agent, &[place]);
    story.effects();
    let early = story.give_back(agent, place);
    assert_eq!(story.effects(), [refused(early, Refusal::Unknown(place))]);
}

#[test]
fn names_are_unique_and_a_connection_has_one_place() {
    let mut story = Story::new();
    let place = story.exporter("board");
    assert_eq!(story.farm.register(place, "other"), Err(Refusal::Registered));
    let second = story.agent();
    assert_eq!(story.farm.register(second, "board"), Err(Refusal::NameTaken("board".into())));
    story.leave(place);
    assert_eq!(story.farm.register(second, "board"), Ok(second), "the name is free again");
    assert_eq!(story.notes(), ["Place @board disappeared", "New place registered: @board"]);
}

#[test]
fn the_listing_is_in_order_of_registration() {
    let mut story = Story::new();
    let (first, second) = (story.agent(), story.agent());
    story.farm.register(second, "b").unwrap();
    story.farm.register(first, "a").unwrap();
    let order: Vec<_> = story.farm.listing().map(|(place, _)| place).collect();
    assert_eq!(order, [second, first]);
}

#[test]
fn the_common_place_is_given_before_the_unique_one() {
    let mut story = Story::new();
    let (unique, common) = (story.exporter("unique"), story.exporter("common"));
    let agent = story.holder(unique);
    story.give_back(agent, unique);
    story.farm.answered(unique, Ok(()));
    story.effects();
    assert_eq!(story.farm.uniqueness(unique), Ok(0.5), "asked for alone, of two");
    assert_eq!(story.farm.uniqueness(common), Ok(0.0));
    story.reserve(agent, &[unique, common]);
    assert_eq!(story.effects(), [allow(common, agent)]);
    assert_eq!(story.farm.uniqueness(unique), Ok(0.375));
    assert_eq!(story.farm.uniqueness(99), Err(Refusal::Unknown(99)));
}

#[test]
fn a_request_that_has_to_wait_counts_for_uniqueness_too() {
    let mut story = Story::new();
    let place = story.exporter("board");
    story.exporter("other");
    story.holder(place);
    assert_eq!(story.farm.uniqueness(place), Ok(0.5));
    story.exporter("third");
    story.exporter("fourth");
    let agent = story.agent();
    story.reserve(agent, &[place]);
    assert_eq!(story.farm.uniqueness(place), Ok(0.5625));
}

#[test]
fn the_log_has_the_words_operators_know() {
    let mut story = Story::new();
    let place = story.exporter("board");
    let (first, second) = (story.agent(), story.agent());
    story.reserve(first, &[place]);
    story.farm.answered(place, Ok(()));
    story.reserve(second, &[place]);
    story.give_back(first, place);
    story.farm.answered(place, Ok(()));
    story.give_back(second, place);
    assert_eq!(
        story.notes(),
        [
            "Place @board reserved by <2>",
            "Place @board returned by <2>. Now reserved by <3>",
            "Place @board returned by <3>"
        ]
    );
}

#[test]
fn the_queue_is_bounded() {
    let limits = Limits { waiting_max: 1, places_max: 1, ..Limits::default() };
    let mut story = Story { farm: Farm::new(0.01, limits), ticket: 0 };
    let place = story.exporter("board");
    let agent = story.holder(place);
    story.reserve(agent, &[place]);
    let refusal = story.reserve(agent, &[place]);
    assert_eq!(story.effects(), [refused(refusal, Refusal::QueueFull)]);
    assert_eq!(story.farm.register(agent, "second"), Err(Refusal::FarmFull(1)));
}

#[test]
fn a_request_keeps_some_other_candidates_while_an_exporter_is_asked() {
    let mut story = Story::new();
    let places: Vec<PlaceId> = (0..100).map(|n| story.exporter(&format!("board {n}"))).collect();
    let agent = story.agent();
    let ticket = story.reserve(agent, &places);
    let Some(Request { stage: Stage::Granting { place, candidates }, .. }) =
        story.farm.requests.get(&ticket)
    else {
        panic!("one is free");
    };
    assert_eq!((candidates.len(), candidates.contains(place)), (FALLBACK_MAX, false));
    let place = *place;
    story.leave(place);
    let asked = story.effects();
    assert!(matches!(asked.as_slice(), [.., Effect::Allow { exporter, .. }] if *exporter != place));
}
