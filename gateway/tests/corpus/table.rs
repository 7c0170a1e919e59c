//! Cases read from text files: one a line, with the bytes spelled so that they can be read.

/// One case.
#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    /// The statuses that answer it, in order.
    pub statuses: Vec<u16>,
    /// `~`: the service may see its head and some of its body.
    pub partly: bool,
    /// `!`: the client's side ends after the bytes.
    pub ends: bool,
    /// `.`: the connection is closed after the answers, though nothing was refused.
    pub closes: bool,
    pub bytes: Vec<u8>,
    /// What the service must see: how a request starts, and its body.
    pub seen: Vec<(String, Vec<u8>)>,
}

/// The cases of a file.
pub fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('>') {
            None => cases.push(case(line)),
            Some(seen) => {
                let (times, seen) = seen.split_once(' ').unwrap();
                let (method, rest) = seen.split_once(' ').unwrap();
                let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let start = format!("{method} {}", String::from_utf8(expand(target)).unwrap());
                let case = cases.last_mut().unwrap();
                for _ in 0..times.parse().unwrap_or(1) {
                    case.seen.push((start.clone(), expand(body)));
                }
            }
        }
    }
    cases
}

fn case(line: &str) -> Case {
    let (answer, rest) = line.split_once(' ').unwrap();
    let (name, bytes) = rest.trim_start().split_once(' ').unwrap();
    let answer = String::from_utf8(expand(answer)).unwrap();
    let statuses = answer.trim_end_matches(['~', '!', '.']);
    Case {
        name: name.to_owned(),
        statuses: statuses.split(',').map(|status| status.parse().unwrap()).collect(),
        partly: answer.contains('~'),
        ends: answer.contains('!'),
        closes: answer.contains('.'),
        bytes: expand(bytes.trim_start()),
        seen: Vec::new(),
    }
}

/// What a smuggler hides: 44 bytes.
pub const HIDDEN: &str = "GET /hidden?44 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The bytes that `text` spells.
pub fn expand(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let kind = rest.chars().next().unwrap();
                rest = &rest[1..];
                bytes.push(match kind {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    '\\' => b'\\',
                    'x' => {
                        let byte = u8::from_str_radix(&rest[..2], 16).unwrap();
                        rest = &rest[2..];
                        byte
                    }
                    other => panic!("\\{other} in {text}"),
                });
            }
            '{' => {
                let end = matching(rest);
                bytes.extend(named(&rest[..end]));
                rest = &rest[end + 1..];
            }
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Where the `}` is that ends what `text` begins within.
fn matching(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    panic!("no end of {{{text}");
}

fn named(name: &str) -> Vec<u8> {
    match name {
        "host" => b"Host: localhost\r\n".to_vec(),
        "te" => b"Transfer-Encoding: chunked\r\n".to_vec(),
        "ws" => b"Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            .to_vec(),
        "hidden" => HIDDEN.as_bytes().to_vec(),
        _ => {
            let (times, text) = name.split_once('*').unwrap();
            expand(text).repeat(times.parse().unwrap())
        }
    }
}
