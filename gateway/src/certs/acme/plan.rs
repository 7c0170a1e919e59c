//! What to do next for one site's certificate, and when. Pure: time and chance are arguments.
//!
//! Sources: RFC 9773 §4 (renewal windows), RFC 8555 §6.6 (`Retry-After` of a rate limit).

use std::time::Duration;

use time::OffsetDateTime;

/// The longest that a server's `Retry-After` is believed; Let's Encrypt counts in weeks.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(8 * 24 * 3600);

/// No failure gives a longer pause, whatever the settings and the server say.
const PAUSE_MAX: Duration = Duration::from_secs(9 * 24 * 3600);

/// Bounds of the time between two questions for a window (RFC 9773 §4.3.2).
const WINDOW_PAUSE_MIN: Duration = Duration::from_secs(60);
const WINDOW_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest pause after a check of our own failed: it costs nobody anything.
pub const PREFLIGHT_PAUSE_MAX: Duration = Duration::from_secs(600);

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Validity {
    fn at(&self, part: f64) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * part
    }
}

/// When the server wants a certificate renewed (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: OffsetDateTime,
    pub end: OffsetDateTime,
}

/// What is known of a site at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub now: OffsetDateTime,
    /// The certificate on the volume, when it is from this server and fits.
    pub in_use: Option<Validity>,
    /// What the server last said about it.
    pub window: Option<Window>,
    /// Drawn once a certificate, from 0 to 1: where in the window it is renewed.
    pub chance: f64,
    /// When to ask for the window again; `None` when the server has none.
    pub ask_at: Option<OffsetDateTime>,
    /// From the last failure.
    pub not_before: Option<OffsetDateTime>,
    /// The last order failed, the server has a staging twin, and that one has not agreed since.
    pub rehearse: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until then.
    Wait(OffsetDateTime),
    /// Ask when the server wants the certificate renewed.
    AskWindow,
    /// Order from the staging server, to see whether it would work.
    Rehearse,
    /// Order.
    Order,
}

/// The next step. Asking again with nothing changed gives the same.
pub fn step(known: &Known) -> Step {
    let due = due(known);
    if let Some(due) = due.filter(|due| *due > known.now) {
        return match known.ask_at {
            Some(ask_at) if ask_at <= known.now => Step::AskWindow,
            Some(ask_at) => Step::Wait(due.min(ask_at)),
            None => Step::Wait(due),
        };
    }
    // A clock that was wrong must not stop a site for years.
    let latest = known.now + PAUSE_MAX;
    match known.not_before.filter(|then| *then <= latest) {
        Some(then) if then > known.now => Step::Wait(then),
        _ if known.rehearse => Step::Rehearse,
        _ => Step::Order,
    }
}

/// When the certificate is to be renewed; `None`: there is none.
pub fn due(known: &Known) -> Option<OffsetDateTime> {
    let validity = known.in_use?;
    let Some(window) = known.window.filter(|window| window.end > window.start) else {
        return Some(validity.at(2.0 / 3.0));
    };
    let chance = if known.chance.is_finite() { known.chance.clamp(0.0, 1.0) } else { 0.0 };
    let chosen = window.start + (window.end - window.start) * chance;
    // A window that ends after the certificate must not cost the site its certificate.
    Some(chosen.min(validity.at(0.9)))
}

/// When to ask for the window again, given what the server said.
pub fn ask_again(now: OffsetDateTime, retry_after: Duration) -> OffsetDateTime {
    now + retry_after.clamp(WINDOW_PAUSE_MIN, WINDOW_PAUSE_MAX)
}

/// The bounds of the pause after a failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first one.
    pub least: Duration,
    pub most: Duration,
}

impl Backoff {
    /// When to try again after the `failures`th failure in a row: twice as long each time, up to a
    /// quarter shorter or longer by `chance` (0 to 1), and never before the server allows.
    pub fn after(
        &self,
        now: OffsetDateTime,
        failures: u32,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> OffsetDateTime {
        let doublings = failures.saturating_sub(1).min(30);
        let pause = self.least.saturating_mul(1 << doublings).min(self.most);
        let chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 0.5 };
        let pause = pause.mul_f64(0.75 + chance / 2.0);
        now + pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn day(days: i64) -> OffsetDateTime {
        START + time::Duration::days(days)
    }

    fn known(now: OffsetDateTime) -> Known {
        Known {
            now,
            in_use: Some(Validity { not_before: START, not_after: day(90) }),
            window: None,
            chance: 0.5,
            ask_at: None,
            not_before: None,
            rehearse: false,
        }
    }

    #[test]
    fn without_a_certificate_one_is_ordered_now() {
        let nothing = Known { in_use: None, ..known(START) };
        assert_eq!(step(&nothing), Step::Order);
        let failed = Known { not_before: Some(day(1)), rehearse: true, ..nothing };
        assert_eq!(step(&failed), Step::Wait(day(1)));
        assert_eq!(step(&Known { now: day(1), ..failed }), Step::Rehearse);
        assert_eq!(step(&Known { now: day(1), rehearse: false, ..failed }), Step::Order);
    }

    #[test]
    fn a_pause_that_no_failure_gives_was_written_by_a_wrong_clock() {
        let nothing = Known { in_use: None, ..known(day(0)) };
        let longest = Known { not_before: Some(day(0) + PAUSE_MAX), ..nothing };
        assert_eq!(step(&longest), Step::Wait(day(0) + PAUSE_MAX));
        for later in [10, 4000] {
            let wrong = Known { not_before: Some(day(later)), ..nothing };
            assert_eq!(step(&wrong), Step::Order);
        }
        let backoff = Backoff { least: PAUSE_MAX, most: Duration::from_secs(7 * 24 * 3600) };
        assert!(backoff.after(day(0), 9, Some(Duration::MAX), 1.0) <= day(0) + PAUSE_MAX);
    }

    #[test]
    fn without_a_window_two_thirds_of_the_life_decide() {
        assert_eq!(step(&known(day(1))), Step::Wait(day(60)));
        assert_eq!(step(&known(day(60))), Step::Order);
    }

    #[test]
    fn the_window_decides_where_there_is_one() {
        let window = Some(Window { start: day(20), end: day(22) });
        let asked = Known { window, ask_at: Some(day(5)), ..known(day(4)) };
        assert_eq!(step(&asked), Step::Wait(day(5)));
        assert_eq!(step(&Known { now: day(5), ..asked }), Step::AskWindow);
        let later = Known { ask_at: Some(day(30)), ..asked };
        assert_eq!(step(&later), Step::Wait(day(21)));
        assert_eq!(step(&Known { now: day(21), ..later }), Step::Order);
        // Moved into the past, as when the certificate is about to be revoked.
        let past = Some(Window { start: day(1), end: day(2) });
        assert_eq!(step(&Known { window: past, ..later }), Step::Order);
    }

    #[test]
    fn a_window_that_makes_no_sense_is_not_followed() {
        let reversed = Some(Window { start: day(22), end: day(20) });
        assert_eq!(due(&Known { window: reversed, ..known(START) }), Some(day(60)));
        let too_late = Some(Window { start: day(100), end: day(200) });
        assert_eq!(due(&Known { window: too_late, ..known(START) }), Some(day(81)));
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_the_server_can_make_it_longer() {
        let backoff = Backoff { least: Duration::from_secs(60), most: Duration::from_secs(4000) };
        let pause = |failures, retry_after, chance| {
            (backoff.after(START, failures, retry_after, chance) - START).whole_seconds()
        };
        assert_eq!(pause(1, None, 0.5), 60);
        assert_eq!(pause(1, None, 0.0), 45);
        assert_eq!(pause(1, None, 1.0), 75);
        assert_eq!(pause(3, None, 0.5), 240);
        assert_eq!(pause(u32::MAX, None, 0.5), 4000);
        assert_eq!(pause(1, Some(Duration::from_secs(3600)), 0.5), 3600);
        assert_eq!(pause(1, Some(Duration::MAX), 0.5), 8 * 24 * 3600);
    }

    proptest! {
        #[test]
        fn waiting_ends_and_never_in_the_past(
            now in 0i64..100, life in 1i64..400, start in -400i64..400, length in -10i64..400,
            chance in 0.0f64..1.0, ask in proptest::option::of(-10i64..400),
            pause in proptest::option::of(-10i64..4000), rehearse: bool, has: bool, windowed: bool,
        ) {
            let known = Known {
                now: day(now),
                in_use: has.then(|| Validity { not_before: START, not_after: day(life) }),
                window: windowed.then(|| Window { start: day(start), end: day(start + length) }),
                chance,
                ask_at: ask.map(day),
                not_before: pause.map(day),
                rehearse,
            };
            match step(&known) {
                Step::Wait(then) => {
                    prop_assert!(then > known.now);
                    // At that moment there is something to do, unless a failure still counts.
                    let next = step(&Known { now: then, ..known });
                    let held = matches!(next, Step::Wait(_));
                    prop_assert!(!held || known.not_before.is_some_and(|not| not > then));
                }
                Step::AskWindow => prop_assert!(has && ask.is_some()),
                Step::Rehearse => prop_assert!(rehearse),
                Step::Order => {}
            }
        }

        #[test]
        fn a_certificate_is_renewed_before_it_ends(
            life in 1i64..400, start in -400i64..800, length in -10i64..400, chance in 0.0f64..1.0,
        ) {
            let known = Known {
                in_use: Some(Validity { not_before: START, not_after: day(life) }),
                window: Some(Window { start: day(start), end: day(start + length) }),
                chance,
                ..known(START)
            };
            let due = due(&known).unwrap();
            prop_assert!(due < day(life));
            if length > 0 && start + length <= life / 2 {
                prop_assert!(due >= day(start) && due <= day(start + length));
            }
        }

        #[test]
        fn the_pause_is_bounded_and_respects_the_server(
            failures: u32, retry_s in proptest::option::of(0u64..10_000_000), chance in 0.0f64..1.0,
        ) {
            let most = Duration::from_secs(14_400);
            let backoff = Backoff { least: Duration::from_secs(60), most };
            let retry = retry_s.map(Duration::from_secs);
            let pause = backoff.after(START, failures, retry, chance) - START;
            prop_assert!(pause >= Duration::from_secs(45));
            prop_assert!(pause >= retry.unwrap_or_default().min(RETRY_AFTER_MAX));
            prop_assert!(pause <= most.mul_f64(1.25).max(RETRY_AFTER_MAX));
        }
    }
}
