//! Text that is known to crash the engine, and text that might.

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;

use harness::Service;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use crate::support::get;
use crate::support::metric;
use crate::support::say;

/// Speaks, or refuses for a reason; never fails.
fn spoken(say: &Service, words: &str, voice: &str) -> Result<(), String> {
    let path = format!("/say/{}?voice={voice}", utf8_percent_encode(words, NON_ALPHANUMERIC));
    match get(say, &path) {
        reply if matches!(reply.status, 200 | 400 | 413) => Ok(()),
        reply => Err(format!("{words:?}: {}", reply.text())),
    }
}

/// Each aborts a bare espeak-ng 1.51 or 1.52; upstream pull requests 2428 and 2495.
#[test]
fn text_that_crashes_the_bare_engine_is_spoken() {
    let say = say();
    for (token, times) in [
        ("c.", 2_000),
        ("c.", 86),
        (".n", 1_000),
        ("z.", 200),
        ("a.b.c.", 600),
        ("c. ", 1_000),
        ("s'", 2_000),
        ("s'", 68),
        ("s' ", 1_000),
        ("'s", 300),
        ("s’", 300),
        ("9a", 300),
        (";A^ ", 500),
        ("|A(", 500),
        ("a ", 2_000),
        ("1 ", 2_000),
        ("日", 4_000),
        ("日 ", 2_000),
        ("x", 4_000),
        ("é", 4_000),
        ("1", 4_000),
        ("1,000,", 600),
        ("😀", 1_000),
        ("\u{301}", 4_000),
        ("(", 4_000),
        ("&#65;", 700),
        ("<a>", 1_000),
        ("[[a]]", 700),
    ] {
        spoken(&say, &token.repeat(times), "en").unwrap();
    }
    assert_eq!(metric(&say, "say_engine_crashes_total"), 0.0);
}

/// The engine switches to another language where the script is one's own, and crashes when it has
/// no dictionary for it.
#[test]
fn every_script_is_spoken() {
    let say = say();
    let chars = ('\u{80}'..'\u{3100}').step_by(8).chain(('\u{a000}'..'\u{ffff}').step_by(64));
    let chars: Vec<String> = chars.chain('\u{10000}'..'\u{10100}').map(String::from).collect();
    for some in chars.chunks(40) {
        spoken(&say, &some.join(" "), "en").unwrap();
        spoken(&say, &some.concat(), "en-us").unwrap();
    }
    assert_eq!(metric(&say, "say_engine_crashes_total"), 0.0);
}

#[test]
fn repeated_tokens_do_not_crash_the_engine() {
    let say = say();
    let token = prop_oneof!["[a-z0-9'.,;:!?|^() -]{1,5}", "[a-zA-Z'’.][.' ]{1,2}", "\\PC{1,6}",];
    let words = (token, 20..400_usize)
        .prop_map(|(token, times)| token.repeat(times).chars().take(600).collect::<String>());
    let voice = prop_oneof![Just("en"), Just("whisper"), Just("en-us"), Just("klatt4")];
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    // The same cases every time: a text that crashes the engine is found by fuzzing, not by chance here.
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        .run(&(words, voice), |(words, voice)| {
            spoken(&say, &words, voice).map_err(TestCaseError::fail)
        })
        .unwrap();
    assert_eq!(metric(&say, "say_engine_crashes_total"), 0.0);
}
