//! Speech through the gateway, as two recognisers hear it.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::Output;
use harness::Stack;
use harness::run;

/// Bytes of a WAV before its samples.
const WAV_HEAD_BYTES: usize = 44;

/// Fetches speech just as the README shows: `curl --cacert ca.pem URL --compressed`.
fn fetch(stack: &Stack, path: &str, file: &Path) -> Vec<u8> {
    let audio = stack.curl(path, &["--fail", "--compressed"]).success().stdout;
    assert!(audio.starts_with(b"RIFF"), "{path} is a WAV");
    fs::write(file, &audio).unwrap();
    audio
}

/// Whether both recognisers hear the words; see `tests/python/hear.py` for what that means.
fn hear(stack: &Stack, file: &Path, words: &str) -> Output {
    let script = stack.folder().join("tests/python/hear.py");
    let output = run(Command::new(stack.python("python")).arg(script).arg(file).arg(words));
    assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
    output
}

#[test]
fn recognisers_hear_the_words() {
    let stack = Stack::from_env();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    for (words, query) in [
        ("one two three", ""),
        ("hello world", ""),
        ("please close the window", ""),
        ("where is the station", ""),
        ("purple monkey dishwasher", ""),
        ("one two three", "?voice=whisper"),
        ("thank you very much", "?voice=whisper"),
    ] {
        let path = format!("/say/{}{query}", words.replace(' ', "%20"));
        fetch(&stack, &path, &file);
        let output = hear(&stack, &file, words);
        assert_eq!(output.code, Some(0), "{path}: {}", output.text());
    }
}

/// Else the test above would prove nothing.
#[test]
fn recognisers_do_not_hear_other_words() {
    let stack = Stack::from_env();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    let audio = fetch(&stack, "/say/one%20two%20three", &file);
    for other in ["seven eight nine", "open the door", "three two one"] {
        let output = hear(&stack, &file, other);
        assert_eq!(output.code, Some(1), "{other}: {}", output.text());
    }
    let (head, samples) = audio.split_at(WAV_HEAD_BYTES);
    let backwards = samples.rchunks_exact(2).flatten().copied();
    let backwards: Vec<u8> = head.iter().copied().chain(backwards).collect();
    fs::write(&file, backwards).unwrap();
    let output = hear(&stack, &file, "one two three");
    assert_eq!(output.code, Some(1), "backwards: {}", output.text());
}

#[test]
fn gzip_is_what_curl_gets_without_asking() {
    let stack = Stack::from_env();
    let answer = |arguments: &[&str]| {
        let mut all = vec!["--fail", "--dump-header", "-"];
        all.extend(arguments);
        let output = stack.curl("/say/hello%20world", &all).success().stdout;
        let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&output[..end]).to_ascii_lowercase();
        (head, output[end + 4..].to_vec())
    };
    let (head, body) = answer(&[]);
    assert!(head.contains("content-encoding: gzip") && body.starts_with(&[0x1f, 0x8b]), "{head}");
    assert!(head.contains("vary: accept-encoding"), "{head}");
    let (head, body) = answer(&["--header", "Accept-Encoding: identity"]);
    assert!(!head.contains("content-encoding") && body.starts_with(b"RIFF"), "{head}");
    let (head, body) = answer(&["--compressed"]);
    assert!(head.contains("content-encoding: gzip") && body.starts_with(b"RIFF"), "{head}");
}
