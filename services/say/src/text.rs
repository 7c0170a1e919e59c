//! Words as the engine can take them.
//!
//! The engine has fixed buffers that some short texts overflow: many dotted letters (`c.c.c.…`) or
//! apostrophes (`s's's'…`) in a row, very long words, and clauses of very many words (upstream
//! pull requests 2428 and 2495, in no release yet). [`Script::parse`] words such texts in another
//! way and hands the engine pieces of at most [`PIECE_BYTES_MAX`]. What it misses, the worker's
//! sandbox has to hold.

use std::ffi::CString;

/// Longest piece of text that the engine gets at once.
pub const PIECE_BYTES_MAX: usize = 250;

/// Longest word, in characters; longer ones are spoken in parts.
const WORD_CHARS_MAX: usize = 40;

/// So many dots in one word are taken for spaces. `www.debian.org.` and `U.S.S.R.` stay as they are.
const DOTS: usize = 6;

/// So many apostrophes in one word are taken for spaces. `rock'n'roll's` stays as it is.
const APOSTROPHES: usize = 4;

/// Why words cannot be spoken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Blanks and punctuation alone make no sound.
    #[error("nothing to say: write the words after /say/, as in /say/hello%20world")]
    Empty,
    /// The bound on one request's work.
    #[error("too many words: this has {chars} characters, the limit is {chars_max}")]
    TooLong {
        /// How many characters there are.
        chars: usize,
        /// How many may be.
        chars_max: usize,
    },
}

/// A text the engine gets in one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// No control characters, 1 to [`PIECE_BYTES_MAX`] bytes.
    pub text: CString,
    /// A sentence ends here, so a pause follows.
    pub pause: bool,
}

/// What to say, in pieces. Equal scripts sound the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    pieces: Vec<Piece>,
}

impl Script {
    /// Makes `words` speakable.
    ///
    /// # Errors
    ///
    /// When there is nothing to say, or more than `chars_max` characters.
    pub fn parse(words: &str, chars_max: usize) -> Result<Self, TextError> {
        let chars = words.chars().count();
        if chars > chars_max {
            return Err(TextError::TooLong { chars, chars_max });
        }
        if words.chars().all(is_silent) {
            return Err(TextError::Empty);
        }
        let text = defused(words);
        let mut pieces = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (piece, pause, after) = split(rest);
            if let Ok(text) = CString::new(piece) {
                pieces.push(Piece { text, pause });
            }
            rest = after.trim_start();
        }
        if pieces.is_empty() { Err(TextError::Empty) } else { Ok(Self { pieces }) }
    }

    /// The pieces in order; at least one.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes of text, which is about what the script takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.text.count_bytes() + size_of::<Piece>()).sum()
    }
}

/// What the engine makes no sound for. Symbols such as `+` it names, so they are not here.
fn is_silent(char: char) -> bool {
    is_gap(char)
        || matches!(
            char,
            '.' | ','
                | ';'
                | ':'
                | '!'
                | '?'
                | '\''
                | '"'
                | '-'
                | '_'
                | '('
                | ')'
                | '…'
                | '–'
                | '—'
                | '‘'
                | '’'
                | '“'
                | '”'
        )
}

/// What parts words. A control character could be a command to the engine; NUL would end the text.
fn is_gap(char: char) -> bool {
    char.is_whitespace()
        || char.is_control()
        || matches!(char, '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn is_apostrophe(char: char) -> bool {
    matches!(char, '\'' | '`' | '´' | '‘' | '’' | 'ʼ' | '＇')
}

/// One line, single spaces, no word that is known to overflow the engine.
fn defused(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for word in words.split(is_gap).filter(|word| !word.is_empty()) {
        let dots = word.chars().filter(|char| *char == '.').count() >= DOTS;
        let apostrophes = word.chars().filter(|char| is_apostrophe(*char)).count() >= APOSTROPHES;
        text.push(' ');
        let mut length = 0;
        for char in word.chars() {
            let gap = (dots && char == '.') || (apostrophes && is_apostrophe(char));
            if gap || length == WORD_CHARS_MAX {
                if !text.ends_with(' ') {
                    text.push(' ');
                }
                length = 0;
            }
            if !gap {
                text.push(char);
                length += 1;
            }
        }
    }
    text
}

/// The first piece of `text`, whether a sentence ends with it, and the rest.
///
/// The cut is after the last sentence that fits, else the last clause, else the last word.
fn split(text: &str) -> (&str, bool, &str) {
    if text.len() <= PIECE_BYTES_MAX {
        return (text, true, "");
    }
    let window = &text[..text.floor_char_boundary(PIECE_BYTES_MAX)];
    let after = |marks: &[char]| {
        let mut spaces = window.match_indices(' ').rev().map(|(at, _)| at);
        spaces.find(|at| window[..*at].ends_with(marks))
    };
    let sentence = after(&['.', '!', '?', '…', '。', '！', '？']);
    let at = sentence
        .or_else(|| after(&[',', ';', ':', ')', '–', '—']))
        .or_else(|| window.rfind(' ').filter(|at| *at > 0))
        .unwrap_or(window.len());
    (&text[..at], sentence.is_some(), &text[at..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(words: &str) -> Vec<(String, bool)> {
        let script = Script::parse(words, usize::MAX).unwrap();
        let owned = |piece: &Piece| (piece.text.to_str().unwrap().to_owned(), piece.pause);
        script.pieces().iter().map(owned).collect()
    }

    fn spoken(words: &str) -> String {
        pieces(words).into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "hello world",
            "It's 10:30, isn't it? Dr. Smith paid $5.50 (or more).",
            "www.debian.org U.S.S.R. rock'n'roll 192.168.100.100",
            "naïve 日本語 😀 a+b",
        ] {
            assert_eq!(spoken(text), text);
        }
    }

    #[test]
    fn control_characters_and_blanks_become_one_space() {
        assert_eq!(spoken("  a\u{1}9S\0b\r\n\tc\u{85}\u{7f}d  "), "a 9S b c d");
    }

    #[test]
    fn nothing_to_say_is_said_so() {
        for words in ["", " ", "\0", "...", " - ' \" ", "\u{1}\u{2}", "…?!", "___"] {
            assert_eq!(Script::parse(words, 99), Err(TextError::Empty), "{words:?}");
        }
        for words in ["a", "+", "7", "é", "😀"] {
            assert!(Script::parse(words, 99).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn the_limit_counts_characters_not_bytes() {
        assert!(Script::parse(&"é".repeat(10), 10).is_ok());
        let refused = Err(TextError::TooLong { chars: 11, chars_max: 10 });
        assert_eq!(Script::parse(&"a".repeat(11), 10), refused);
    }

    #[test]
    fn words_that_overflow_the_engine_are_worded_otherwise() {
        assert_eq!(spoken("c.c.c.c.c.c."), "c c c c c c");
        assert_eq!(spoken("s's's's'"), "s s s s");
        assert_eq!(spoken("a’b’c’d’e"), "a b c d e");
        assert_eq!(spoken(&"x".repeat(90)).split(' ').map(str::len).max(), Some(40));
    }

    #[test]
    fn a_long_text_is_cut_where_sentences_end() {
        let sentence = "The quick brown fox jumps over the lazy dog.";
        let pieces = pieces(&[sentence; 12].join(" "));
        assert_eq!(pieces.len(), 3);
        for (text, pause) in &pieces {
            assert!(*pause && text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn a_cut_inside_a_sentence_makes_no_pause() {
        let pieces = pieces(&["word"; 100].join(" "));
        let pauses: Vec<bool> = pieces.iter().map(|(_, pause)| *pause).collect();
        assert_eq!(pauses, [false, true]);
    }

    /// Texts of the kind that crashed the engine, and any others.
    fn hostile() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            "[a-z0-9'.,;:!?|^ -]{1,5}",
            "\\PC{1,8}",
            Just("c.".to_owned()),
            Just("s'".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            (token, 1..600_usize).prop_map(|(token, times)| token.repeat(times)),
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn every_piece_keeps_to_the_bounds(words in hostile()) {
            let Ok(script) = Script::parse(&words, usize::MAX) else { return Ok(()) };
            prop_assert!(!script.pieces().is_empty());
            for piece in script.pieces() {
                let text = piece.text.to_str().unwrap();
                prop_assert!((1..=PIECE_BYTES_MAX).contains(&text.len()));
                prop_assert!(!text.chars().any(char::is_control));
                for word in text.split(' ') {
                    prop_assert!(!word.is_empty());
                    prop_assert!(word.chars().count() <= WORD_CHARS_MAX);
                    prop_assert!(word.matches('.').count() < DOTS);
                    prop_assert!(word.chars().filter(|char| is_apostrophe(*char)).count() < APOSTROPHES);
                }
            }
        }

        #[test]
        fn no_letter_is_lost(words in hostile()) {
            let letters = |text: &str| text.chars().filter(|char| char.is_alphanumeric()).collect::<String>();
            match Script::parse(&words, usize::MAX) {
                Ok(_) => prop_assert_eq!(letters(&spoken(&words)), letters(&words)),
                Err(_) => prop_assert_eq!(letters(&words), ""),
            }
        }
    }
}
