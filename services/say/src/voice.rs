//! Which voice speaks: a language, and perhaps a variant of it.
//!
//! The engine takes any path for a voice, so a name from outside is only ever looked up in the
//! list that the engine gave when it started.

use std::ffi::CString;

use crate::engine::Language;

/// A voice that the engine has, under the engine's own name, such as `en-us+f3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voice(CString);

impl Voice {
    /// The engine's name of it.
    #[must_use]
    pub fn name(&self) -> &CString {
        &self.0
    }
}

/// No such voice; the message names some that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no voice has this name; there are {languages}, each also with a variant such as en+{variants}"
)]
pub struct UnknownVoice {
    languages: String,
    variants: String,
}

/// The voices that the engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voices {
    /// With codes such as `en-us`.
    pub languages: Vec<Language>,
    /// Names such as `whisper`.
    pub variants: Vec<String>,
}

/// What a variant on its own is a variant of.
const LANGUAGE: &str = "en";

/// Variants that the message about an unknown voice shows.
const SHOWN: [&str; 6] = ["whisper", "f3", "m3", "croak", "klatt4", "Gene"];

impl Voices {
    /// Looks up a name: `en-us`, `en-us+f3`, or a variant alone, `whisper`, which is `en+whisper`.
    ///
    /// Case does not matter, and a space will do for `+`, since that is what a query makes of it.
    /// Codes of the same voice, `en` and `en-gb`, find the same.
    ///
    /// # Errors
    ///
    /// When the engine does not have it.
    pub fn find(&self, name: &str) -> Result<Voice, UnknownVoice> {
        let (language, variant) = match name.split_once(['+', ' ']) {
            Some((language, variant)) if self.language(language).is_some() => {
                (language, Some(variant))
            }
            None if self.language(name).is_some() => (name, None),
            // Some variants have a space in their name.
            _ => (LANGUAGE, Some(name)),
        };
        let language = self.language(language).ok_or_else(|| self.unknown())?;
        let full = match variant {
            None => language.to_owned(),
            Some(variant) => {
                let variant = self.variant(variant).ok_or_else(|| self.unknown())?;
                format!("{language}+{variant}")
            }
        };
        CString::new(full).map(Voice).map_err(|_| self.unknown())
    }

    /// The engine's name for the language with this code, in any case.
    fn language(&self, code: &str) -> Option<&str> {
        let known = self.languages.iter().find(|known| known.code.eq_ignore_ascii_case(code));
        known.map(|language| language.name.as_str())
    }

    /// The engine's name for the variant with this name, in any case.
    fn variant(&self, name: &str) -> Option<&str> {
        self.variants.iter().map(String::as_str).find(|known| known.eq_ignore_ascii_case(name))
    }

    fn unknown(&self) -> UnknownVoice {
        let codes: Vec<&str> = self.languages.iter().map(|known| known.code.as_str()).collect();
        let shown: Vec<&str> =
            SHOWN.into_iter().filter(|name| self.variant(name).is_some()).collect();
        UnknownVoice { languages: codes.join(", "), variants: shown.join(", en+") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voices() -> Voices {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Voices {
            languages: [("en", "en"), ("en-gb", "en"), ("en-us", "en-us")]
                .map(|(code, name)| Language { code: code.to_owned(), name: name.to_owned() })
                .into(),
            variants: owned(&["Mr serious", "f3", "whisper"]),
        }
    }

    #[test]
    fn a_voice_is_found_by_any_spelling_of_its_name() {
        for (asked, found) in [
            ("en", "en"),
            ("EN-us", "en-us"),
            ("whisper", "en+whisper"),
            ("en+whisper", "en+whisper"),
            ("en whisper", "en+whisper"),
            ("en-gb", "en"),
            ("en-GB+F3", "en+f3"),
            ("en-gb whisper", "en+whisper"),
            ("mr serious", "en+Mr serious"),
            ("en-us Mr serious", "en-us+Mr serious"),
        ] {
            assert_eq!(voices().find(asked).unwrap().name().to_str(), Ok(found), "{asked}");
        }
    }

    #[test]
    fn only_voices_of_the_engine_are_found() {
        for asked in [
            "",
            "xx",
            "en+",
            "+whisper",
            "en+../../etc/passwd",
            "en++f3",
            "en+f3+f3",
            "en\0",
            "de+f3",
            "f3+en",
        ] {
            assert!(voices().find(asked).is_err(), "{asked:?}");
        }
    }

    #[test]
    fn the_error_names_some_voices() {
        let message = voices().find("robot").unwrap_err().to_string();
        for name in ["en-us", "en+whisper", "en+f3"] {
            assert!(message.contains(name), "{message}");
        }
        assert!(!message.contains("klatt4"), "only what there is: {message}");
    }
}
