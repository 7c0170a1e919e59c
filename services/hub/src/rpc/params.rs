//! The arguments of a call, bound to a method's parameters as Python binds them, with Python's words when they
//! do not fit: these are the texts that users of the clients know.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most arguments that are kept; no method takes more than one.
const KEPT_MAX: usize = 8;

/// The arguments of a call.
#[derive(Debug)]
pub enum Params<'a> {
    /// By position; the number is how many there were, of which the first few are kept.
    List(Vec<&'a RawValue>, usize),
    /// By name; the first few names, the last value of each.
    Named(BTreeMap<Cow<'a, str>, &'a RawValue>),
}

impl<'a> Params<'a> {
    /// Reads `params`: absent means none. `None` when it is no list or object.
    pub fn read(raw: Option<&'a RawValue>) -> Option<Self> {
        raw.map_or_else(
            || Some(Self::List(Vec::new(), 0)),
            |raw| serde_json::from_str(raw.get()).ok(),
        )
    }

    /// No arguments at all.
    ///
    /// # Errors
    /// When there are some.
    pub fn none(&self, method: &str) -> Result<(), String> {
        match self {
            Self::List(_, 0) => Ok(()),
            Self::List(_, given) => Err(format!(
                "Hub.{method}() takes 1 positional argument but {} were given",
                given + 1
            )),
            Self::Named(named) => match named.keys().next() {
                None => Ok(()),
                Some(name) => Err(unexpected(method, name)),
            },
        }
    }

    /// The one argument, called `name`.
    ///
    /// # Errors
    /// When it is missing, or there are others.
    pub fn one(&self, method: &str, name: &str) -> Result<&'a RawValue, String> {
        let missing = || format!("Hub.{method}() missing 1 required positional argument: '{name}'");
        match self {
            Self::List(list, 1) => list.first().copied().ok_or_else(missing),
            Self::List(_, 0) => Err(missing()),
            Self::List(_, given) => Err(format!(
                "Hub.{method}() takes 2 positional arguments but {} were given",
                given + 1
            )),
            Self::Named(named) => match named.keys().find(|key| *key != name) {
                Some(other) => Err(unexpected(method, other)),
                None => named.get(name).copied().ok_or_else(missing),
            },
        }
    }
}

fn unexpected(method: &str, name: &str) -> String {
    format!("Hub.{method}() got an unexpected keyword argument '{name}'")
}

impl<'de> Deserialize<'de> for Params<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                let mut count = 0;
                while count < KEPT_MAX {
                    let Some(value) = list.next_element()? else {
                        return Ok(Params::List(kept, count));
                    };
                    kept.push(value);
                    count += 1;
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Params::List(kept, count))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut named = BTreeMap::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value()?;
                    if named.len() < KEPT_MAX || named.contains_key(&name) {
                        named.insert(name, value);
                    }
                }
                Ok(Params::Named(named))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A place id given to the hub: an integer. What can be no place's id is `Ok(None)`.
///
/// # Errors
/// Python's text when the value cannot be looked up.
pub fn integer(raw: &RawValue) -> Result<Option<u64>, String> {
    match raw.get().as_bytes().first() {
        Some(b'[') => Err("unhashable type: 'list'".to_owned()),
        Some(b'{') => Err("unhashable type: 'dict'".to_owned()),
        _ => Ok(raw.get().parse().ok()),
    }
}

/// A string argument.
///
/// # Errors
/// When it is something else.
pub fn text(raw: &RawValue, name: &str) -> Result<String, String> {
    serde_json::from_str(raw.get())
        .map_err(|_| format!("{name}: Expected str, got {}", type_name(raw)))
}

/// Python's name for the type of a JSON value.
pub fn type_name(raw: &RawValue) -> &'static str {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => "str",
        Some(b'[') => "list",
        Some(b'{') => "dict",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ if raw.contains(['.', 'e', 'E']) => "float",
        _ => "int",
    }
}

/// The candidates of a reservation: the ids in the list for which `known` is true, each once. What is no integer
/// is no place. Only the known ones are kept, so a long list costs no memory.
///
/// # Errors
/// Python's text when the value cannot be gone through.
pub fn candidates(raw: &RawValue, known: impl Fn(u64) -> bool) -> Result<BTreeSet<u64>, String> {
    match type_name(raw) {
        "list" => {}
        // Python goes through letters and names, of which none is a place.
        "str" | "dict" => return Ok(BTreeSet::new()),
        other => return Err(format!("'{other}' object is not iterable")),
    }
    struct Reader<F>(F);
    impl<'de, F: Fn(u64) -> bool> Visitor<'de> for Reader<F> {
        type Value = Result<BTreeSet<u64>, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut ids = BTreeSet::new();
            let mut failure = None;
            while let Some(value) = list.next_element::<&RawValue>()? {
                match integer(value) {
                    Ok(id) => ids.extend(id.filter(|id| (self.0)(*id))),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            Ok(failure.map_or(Ok(ids), Err))
        }
    }
    let mut json = serde_json::Deserializer::from_str(raw.get());
    json.deserialize_seq(Reader(known)).map_err(|error| error.to_string())?
}
