//! What a voice leaves behind in the engine must not be heard in the next one.

use std::collections::HashMap;

use crate::support::get;
use crate::support::metric;
use crate::support::say;
use crate::support::say_with;

/// All voices of the engine, and variants that set what others leave alone: pitch, breath, klatt,
/// echo, speed.
const VOICES: [&str; 25] = [
    "en",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-shaw",
    "en-us",
    "en-us-nyc",
    "whisper",
    "whisperf",
    "croak",
    "f1",
    "f5",
    "m8",
    "klatt",
    "klatt2",
    "klatt6",
    "robosoft5",
    "Demonic",
    "UniRobot",
    "Storm",
    "Mr%20serious",
    "en-us%2Bwhisper",
    "en-us%2Bfast",
];

#[test]
fn a_voice_sounds_the_same_after_any_other() {
    // No cache: each answer comes from the engine.
    let one = say_with(&[("SAY__WORKERS", "1"), ("SAY__CACHE_MIB", "0")]);
    let mut first: HashMap<&str, Vec<u8>> = HashMap::new();
    // Each voice once after each other.
    for step in 1..VOICES.len() {
        for turn in 0..VOICES.len() {
            let voice = VOICES[turn * step % VOICES.len()];
            let reply = get(&one, &format!("/say/one%20more%20time?voice={voice}"));
            assert_eq!(reply.status, 200, "{voice}");
            let heard = first.entry(voice).or_insert_with(|| reply.body.clone());
            assert!(*heard == reply.body, "{voice} in round {step}");
        }
    }
    assert_eq!(first.len(), VOICES.len());
    for voice in VOICES {
        let fresh = say_with(&[("SAY__WORKERS", "1")]);
        let reply = get(&fresh, &format!("/say/one%20more%20time?voice={voice}"));
        assert!(first[voice] == reply.body, "{voice} in a fresh worker");
    }
}

#[test]
fn every_language_that_is_offered_speaks_with_and_without_a_variant() {
    let say = say();
    let refusal = get(&say, "/say/hello?voice=robot");
    assert_eq!(refusal.status, 400);
    let offered = refusal.text().split_once("there are ").unwrap().1;
    let languages: Vec<&str> = offered.split_once(", each").unwrap().0.split(", ").collect();
    for known in ["en", "en-gb", "en-gb-scotland", "en-shaw", "en-us"] {
        assert!(languages.contains(&known), "{known} of {languages:?}");
    }
    for language in languages {
        for variant in ["", "%2Bf3", "%2Bwhisper"] {
            let reply = get(&say, &format!("/say/hello?voice={language}{variant}"));
            assert_eq!(reply.status, 200, "{language}{variant}: {}", reply.text());
        }
    }
}

#[test]
fn two_names_of_one_voice_are_one_synthesis() {
    let say = say();
    let british = get(&say, "/say/hello?voice=en-gb%2Bf3");
    assert!(british.status == 200 && british.body == get(&say, "/say/hello?voice=en%2Bf3").body);
    assert_eq!(metric(&say, "say_syntheses_total"), 1.0);
}
