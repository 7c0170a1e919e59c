//! What of a client's text goes into a log.

use std::borrow::Cow;

/// Longest path in a log line, in bytes: enough to know it by, not to fill a disk with.
const BYTES_MAX: usize = 256;

/// The beginning of `text`, with an ellipsis where more follows.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    if text.len() <= BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(BYTES_MAX)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_long_is_cut_and_never_within_a_character() {
        assert_eq!(excerpt("/dice"), "/dice");
        let (whole, long) = ("a".repeat(BYTES_MAX), "é".repeat(BYTES_MAX));
        assert_eq!(excerpt(&whole), whole);
        assert_eq!(excerpt(&format!("a{long}")), format!("a{}…", "é".repeat((BYTES_MAX - 1) / 2)));
    }
}
