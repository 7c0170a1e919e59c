//! What a request may cost.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use crate::support::PLAIN;
use crate::support::get;
use crate::support::heard;
use crate::support::samples;
use crate::support::say;
use crate::support::say_with;
use crate::support::status;

#[test]
fn too_many_characters_are_a_problem_that_names_the_limit() {
    let say = say();
    let most = "word%20".repeat(819) + "a"; // 4096 characters
    assert!(!heard(&say, &format!("/say/{most}")).is_empty());
    let reply = get(&say, &format!("/say/{most}b"));
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("4096") && reply.text().contains("4097"), "{}", reply.text());
    let tiny = say_with(&[("SAY__CHARS_MAX", "5")]);
    assert_eq!(get(&tiny, "/say/%C3%A9t%C3%A9s").status, 200, "characters, not bytes");
    assert_eq!(get(&tiny, "/say/summer").status, 413);
}

#[test]
fn the_longest_text_fits_a_url_however_it_is_encoded() {
    let say = say_with(&[("SAY__CHARS_MAX", "5000"), ("SAY__AUDIO_S_MAX", "60")]);
    let reply = get(&say, &format!("/say/{}", "%F0%9F%98%80".repeat(5000)));
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("60 seconds"), "{}", reply.text());
}

#[test]
fn too_much_audio_is_a_problem_that_names_the_limit() {
    let say = say_with(&[("SAY__AUDIO_S_MAX", "2")]);
    let reply = get(&say, "/say/one%20two%20three%20four%20five%20six%20seven%20eight");
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("2 seconds"), "{}", reply.text());
    assert!(!heard(&say, "/say/one").is_empty());
}

#[test]
fn a_long_text_is_spoken_to_its_end() {
    let say = say();
    let sentence = "The%20quick%20brown%20fox%20jumps%20over%20the%20lazy%20dog.%20";
    let seconds = |times: usize| {
        heard(&say, &format!("/say/{}", sentence.repeat(times))).len() as f64 / 22_050.0
    };
    let (one, twenty) = (seconds(1), seconds(20));
    assert!((18.0..21.0).contains(&(twenty / one)), "{one} s, {twenty} s");
}

/// Many clients ask for much and read nothing: memory stays within the setting, and comes back.
#[test]
fn audio_that_nobody_reads_takes_bounded_memory() {
    let say = say_with(&[
        ("SAY__MEMORY_MIB", "40"),
        ("SAY__CACHE_MIB", "4"),
        ("SAY__AUDIO_S_MAX", "200"),
    ]);
    let memory_mib =
        |name| status(say.id(), name).trim_end_matches(" kB").parse::<usize>().unwrap() / 1024;
    let before = memory_mib("VmRSS");
    let address = say.address(0).trim_start_matches("http://").to_owned();
    let mut lazy = Vec::new();
    let mut refused = 0;
    for number in 0..40 {
        // About 150 s, 6.5 MB as it is, 4 MB in gzip.
        let text = format!("number%20{number}{}", "%20thousand%20words".repeat(165));
        let mut client = TcpStream::connect(&address).unwrap();
        let head =
            format!("GET /say/{text} HTTP/1.1\r\nhost: say\r\naccept-encoding: identity\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).unwrap();
        match &first[9..] {
            b"200" => {}
            b"503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
        lazy.push(client);
    }
    let most = memory_mib("VmHWM");
    println!("{before} MiB before, {most} MiB at most, {refused} refused");
    assert!(refused > 0, "the setting was reached");
    assert!(most < before + 40 + 12, "{before} MiB, then {most} MiB");
    assert_eq!(get(&say, "/say/a%20few%20words").status, 200, "the small are served still");
    drop(lazy);
    let long = format!("/say/{}", "thousand%20words%20".repeat(165));
    crate::support::until("memory comes back", || {
        harness::get(&say.url(&long), &[PLAIN]).status == 200
    });
    assert!(samples(&get(&say, &long).body).len() > 22_050 * 60);
}

#[test]
fn many_answers_take_no_more_memory_than_the_cache_may() {
    let say = say_with(&[("SAY__MEMORY_MIB", "40"), ("SAY__CACHE_MIB", "8")]);
    let memory_mib =
        || status(say.id(), "VmHWM").trim_end_matches(" kB").parse::<usize>().unwrap() / 1024;
    let before = memory_mib();
    let mut bytes = 0;
    for number in 0..400 {
        bytes += get(&say, &format!("/say/{number}%20green%20bottles%20hanging%20on%20the%20wall"))
            .body
            .len();
    }
    assert!(bytes > 48 << 20, "much was made: {bytes}");
    let after = memory_mib();
    assert!(after < before + 8 + 24, "{before} MiB, then {after} MiB");
}
