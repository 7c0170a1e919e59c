//! What a client gets.

use crate::support::PLAIN;
use crate::support::expanded;
use crate::support::get;
use crate::support::heard;
use crate::support::metric;
use crate::support::raw;
use crate::support::samples;
use crate::support::say;

#[test]
fn words_are_a_wav() {
    let say = say();
    let reply = harness::get(&say.url("/say/hello%20world"), &[PLAIN]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("content-type"), Some("audio/wav"));
    assert_eq!(reply.field("content-encoding"), None);
    assert_eq!(reply.field("vary"), Some("Accept-Encoding"));
    let samples = samples(&reply.body);
    let seconds = samples.len() as f64 / 22_050.0;
    // 0.73 s of speech and the pause that espeak's own program leaves at the end.
    assert!((0.9..1.2).contains(&seconds), "{seconds}");
    assert!(samples.iter().any(|sample| sample.abs() > 5_000), "it can be heard");
    assert!(samples.iter().rev().take(4_000).all(|sample| *sample == 0), "the pause is silent");
}

#[test]
fn who_does_not_refuse_gzip_gets_it() {
    let say = say();
    let plain = get(&say, "/say/hello%20world").body;
    for fields in [&[][..], &[("accept-encoding", "gzip")], &[("accept-encoding", "br, *;q=0.5")]] {
        let reply = harness::get(&say.url("/say/hello%20world"), fields);
        assert_eq!(reply.field("content-encoding"), Some("gzip"), "{fields:?}");
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"), "{fields:?}");
        assert!(reply.body.len() < plain.len() * 3 / 4, "it is smaller");
        assert_eq!(expanded(&reply.body), plain, "{fields:?}");
    }
    for fields in [("accept-encoding", "gzip;q=0"), ("accept-encoding", "*;q=0"), PLAIN] {
        let reply = harness::get(&say.url("/say/hello%20world"), &[fields]);
        assert_eq!(reply.field("content-encoding"), None, "{fields:?}");
        assert_eq!(reply.body, plain, "{fields:?}");
    }
}

#[test]
fn both_codings_come_from_one_synthesis() {
    let say = say();
    for (fields, path) in [(&[][..], "/say/gzip%20first"), (&[PLAIN], "/say/plain%20first")] {
        let before = metric(&say, "say_syntheses_total");
        let one = harness::get(&say.url(path), fields);
        let other = harness::get(&say.url(path), if fields.is_empty() { &[PLAIN] } else { &[] });
        let (gzip, plain) = if fields.is_empty() { (one, other) } else { (other, one) };
        assert_eq!(expanded(&gzip.body), plain.body, "{path}");
        assert_eq!(metric(&say, "say_syntheses_total"), before + 1.0, "{path}");
    }
}

#[test]
fn the_same_words_are_the_same_bytes_in_any_process() {
    let path = "/say/the%20quick%20brown%20fox?voice=whisper";
    let (one, other) = (say(), say());
    let first = get(&one, path);
    heard(&other, "/say/something%20else%20before?voice=en-us%2Bf3");
    let second = get(&other, path);
    assert!(first.body == second.body);
    assert_eq!(first.field("etag"), second.field("etag"));
}

#[test]
fn a_client_that_has_the_audio_is_told_so() {
    let say = say();
    let url = say.url("/say/once%20is%20enough");
    let tag =
        |fields: &[(&str, &str)]| harness::get(&url, fields).field("etag").unwrap().to_owned();
    let (gzip, plain) = (tag(&[]), tag(&[PLAIN]));
    assert!(gzip.starts_with('"'), "a strong one: {gzip}");
    assert_ne!(gzip, plain, "RFC 9110 §8.8.3.3");
    for known in [gzip.clone(), format!("\"other\", {gzip}"), format!("W/{gzip}"), "*".to_owned()] {
        let reply = harness::get(&url, &[("if-none-match", &known)]);
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{known}");
        assert_eq!(reply.field("etag"), Some(gzip.as_str()), "{known}");
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"), "{known}");
        assert!(reply.field("cache-control").is_some(), "{known}");
    }
    assert_eq!(harness::get(&url, &[("if-none-match", &plain)]).status, 200);
    assert_eq!(harness::get(&url, &[PLAIN, ("if-none-match", &plain)]).status, 304);
}

#[test]
fn head_is_get_without_the_body() {
    let say = say();
    let url = say.url("/say/hello");
    let (get, head) = (harness::get(&url, &[]), harness::send("HEAD", &url, &[]));
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-encoding", "content-length", "etag", "vary"] {
        assert!(head.field(name).is_some(), "{name}");
        assert_eq!(head.field(name), get.field(name), "{name}");
    }
}

#[test]
fn a_path_means_the_words_it_spells() {
    let say = say();
    let words = |path: &str| heard(&say, &format!("/say/{path}"));
    assert!(words("one%20two") == words("one%20%20two%09"), "blanks are blanks");
    assert!(words("a/b") == words("a%2Fb"), "a slash is one of the words' own");
    assert!(words("a/b") != words("a%20b"), "it is spoken");
    assert!(words("one+two") == words("one%2Btwo"), "a plus is a plus");
    assert!(words("one+two") != words("one%20two"), "it is spoken");
    assert!(words("50%25") != words("50"), "a percent sign is spoken");
    assert!(words("caf%C3%A9") != words("caf"), "Unicode is spoken");
    assert!(words("hello%01world%00again") == words("hello%20world%20again"), "no commands");
}

#[test]
fn nothing_to_say_is_a_problem() {
    let say = say();
    for path in
        ["/say", "/say/", "/say/%20", "/say/...", "/say/%00", "/say/%E2%80%A6", "/say/%EF%B8%8F"]
    {
        let reply = get(&say, path);
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.text().contains("nothing to say"), "{path}: {}", reply.text());
    }
}

#[test]
fn a_problem_is_json_for_who_asks_for_it() {
    let say = say();
    let reply = harness::get(&say.url("/say/"), &[("accept", "application/json")]);
    assert_eq!(reply.field("content-type"), Some("application/problem+json"));
    assert!(reply.text().contains(r#""status":400"#), "{}", reply.text());
}

#[test]
fn words_that_are_not_utf_8_are_refused() {
    let reply = get(&say(), "/say/%FF");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("UTF-8"), "{}", reply.text());
}

#[test]
fn a_voice_is_chosen_by_name() {
    let say = say();
    let voice = |query: &str| heard(&say, &format!("/say/hello%20world{query}"));
    let default = voice("");
    assert!(default == voice("?voice=en") && default == voice("?voice=EN"));
    assert!(voice("?voice=whisper") == voice("?voice=en%2Bwhisper"));
    assert!(voice("?voice=whisper") == voice("?voice=en+whisper"), "a query's plus is a space");
    let mut all = vec![default];
    for name in ["whisper", "en-us", "en-gb-scotland", "en-us%2Bf3", "Mr%20serious", "klatt4"] {
        let this = voice(&format!("?voice={name}"));
        assert!(!all.contains(&this), "{name} sounds different");
        all.push(this);
    }
}

#[test]
fn an_unknown_voice_is_a_problem_that_names_some() {
    let say = say();
    for name in ["robot", "", "en%2B../../../etc/passwd", "mb-en1", "../en", "en%00"] {
        let reply = get(&say, &format!("/say/hello?voice={name}"));
        assert_eq!(reply.status, 400, "{name}");
        assert!(
            reply.text().contains("en-us") && reply.text().contains("whisper"),
            "{}",
            reply.text()
        );
    }
    let reply = get(&say, "/say/hello?vioce=whisper");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("voice"), "{}", reply.text());
}

#[test]
fn the_root_greets() {
    let say = say();
    let reply = get(&say, "/");
    assert_eq!(reply.status, 307);
    heard(&say, reply.field("location").unwrap());
}

#[test]
fn other_addresses_and_methods_are_problems() {
    let say = say();
    assert_eq!(get(&say, "/sayhello").status, 404);
    assert_eq!(harness::send("DELETE", &say.url("/say/hello"), &[]).status, 405);
    let answer = raw(&say, "GET /say/hello HTTP/1.1\r\nhost: say\r\ncontent-length: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn what_happens_is_counted() {
    let say = say();
    let _ = (get(&say, "/say/count%20this"), get(&say, "/say/count%20this"));
    assert_eq!(metric(&say, "say_cache_requests_total{result=\"miss\"}"), 1.0);
    assert_eq!(metric(&say, "say_cache_requests_total{result=\"hit\"}"), 1.0);
    assert_eq!(metric(&say, "say_syntheses_total"), 1.0);
    assert_eq!(metric(&say, "say_synthesis_seconds_count"), 1.0);
    assert!(metric(&say, "say_audio_seconds_total") > 0.3);
    assert_eq!(metric(&say, "say_engine_crashes_total"), 0.0);
}
