//! Text of clients, made safe for one line of a log.
//!
//! Source: RFC 8259 §7. More is escaped than JSON asks for: DEL and the controls U+0080 to U+009F
//! drive terminals too.

use std::io::Write as _;

/// Appends `text` as a JSON string, with its quotes.
pub fn json(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    json_inside(line, text);
    line.push(b'"');
}

fn json_inside(line: &mut Vec<u8>, text: &str) {
    push(line, text, |line, character| match character {
        '"' => line.extend_from_slice(b"\\\""),
        '\\' => line.extend_from_slice(b"\\\\"),
        // All of them are below U+FFFF.
        control => number(line, control),
    });
}

/// Appends `text` as one word of a line for people: quoted when it is empty or holds what would
/// look like the end of the word.
pub fn word(line: &mut Vec<u8>, text: &str) {
    let quoted =
        text.is_empty() || text.bytes().any(|byte| matches!(byte, b' ' | b'=' | b'"' | b'\\'));
    if quoted {
        return json(line, text);
    }
    push(line, text, number);
}

fn number(line: &mut Vec<u8>, character: char) {
    // Writing into memory cannot fail.
    let _: std::io::Result<()> = write!(line, "\\u{:04x}", u32::from(character));
}

/// Appends `text`, with `escape` for quotes, backslashes and control characters.
fn push(line: &mut Vec<u8>, text: &str, escape: impl Fn(&mut Vec<u8>, char)) {
    let bytes = text.as_bytes();
    // Without a branch a byte, so that the compiler takes many at once; most texts end here.
    let special = |byte: u8| (byte < 0x20) | matches!(byte, b'"' | b'\\' | 0x7f | 0xc2);
    if !bytes.iter().fold(false, |any, &byte| any | special(byte)) {
        return line.extend_from_slice(bytes);
    }
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let (character, length) = match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f => (char::from(byte), 1),
            // In UTF-8, U+0080 to U+009F are 0xC2 and the number itself.
            0xc2 => match bytes.get(index + 1) {
                Some(&second) if second < 0xa0 => (char::from(second), 2),
                _ => continue,
            },
            _ => continue,
        };
        line.extend_from_slice(&bytes[plain..index]);
        escape(line, character);
        plain = index + length;
    }
    line.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: fn(&mut Vec<u8>, &str), text: &str) -> String {
        let mut line = Vec::new();
        write(&mut line, text);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_drives_a_terminal_or_ends_a_line_is_escaped() {
        let expected = r#""a\"b\\c\u000a\u001b[2J\u007f\u009b\u0080é€""#;
        assert_eq!(written(json, "a\"b\\c\n\u{1b}[2J\u{7f}\u{9b}\u{80}é€"), expected);
    }

    #[test]
    fn a_word_is_quoted_only_when_it_must_be() {
        for (text, expected) in [
            ("/dice/2d6", "/dice/2d6"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a=b", r#""a=b""#),
            ("a\nb", r"a\u000ab"),
            ("a\u{9b}b", r"a\u009bb"),
        ] {
            assert_eq!(written(word, text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn serde_reads_back_what_was_written_and_nothing_controls(text in any::<String>()) {
            let line = written(json, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text.clone());
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(!written(word, &text).chars().any(char::is_control));
        }
    }
}
