//! The hub's dialect of JSON-RPC 2.0: what a message is, and how replies are written. Pure.
//!
//! A message is read without building it in memory: the parts stay slices of the text, so that 16 MiB of
//! JSON cost 16 MiB and no more. Differences from <https://www.jsonrpc.org/specification>, all of them
//! upstream's: `jsonrpc` is not looked at, there is no batch, what cannot be understood is ignored.

mod params;
mod reply;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub use params::{Params, candidates, integer, text};
pub use reply::{Failure, call, error, notification, result};

/// The longest id that is taken, in bytes of JSON: every reply repeats it, and every waiting request keeps it.
const ID_LENGTH_MAX: usize = 128;

/// A request's id, as JSON: `1` and `"1"` are two ids, and so are the two ends of a 30-digit integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Reads a string or an integer; `None` for anything else.
    pub fn read(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        if raw.len() > ID_LENGTH_MAX {
            return None;
        }
        match raw.as_bytes().first()? {
            // Written anew, so that two spellings of one string are one id.
            b'"' => serde_json::from_str::<Cow<'_, str>>(raw).ok().and_then(|text| {
                let text = serde_json::to_string(&text).ok()?;
                Some(Self(text))
            }),
            b'-' | b'0'..=b'9' if raw.contains(['.', 'e', 'E']) => None,
            b'-' if raw == "-0" => Some(Self("0".to_owned())),
            // Python counts true and false among the integers.
            b'-' | b'0'..=b'9' | b't' | b'f' => Some(Self(raw.to_owned())),
            _ => None,
        }
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The number, where it is one that the hub itself may have given.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

/// What a peer said.
#[derive(Debug)]
pub enum Message<'a> {
    /// A call; without an id it is a notification and gets no reply.
    Call {
        /// What the reply repeats.
        id: Option<Id>,
        /// The method's name.
        method: Cow<'a, str>,
        /// The arguments.
        params: Params<'a>,
    },
    /// A call that has an id and cannot be understood otherwise.
    Invalid(Id),
    /// The answer to a call of the hub.
    Response {
        /// The hub's id.
        id: Id,
        /// The peer's error text, if it failed.
        outcome: Result<(), String>,
    },
}

/// Reads one message; the error says why it is ignored.
///
/// # Errors
/// When it is no JSON object, or neither a call nor a response.
pub fn read(message: &[u8]) -> Result<Message<'_>, &'static str> {
    let text = std::str::from_utf8(message).map_err(|_| "not UTF-8")?;
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| "not a JSON object")?;
    let id = match present(members.id) {
        None => None,
        Some(raw) => {
            Some(Id::read(raw).ok_or("the id is no string or integer of sensible length")?)
        }
    };
    if let Some(method) = present(members.method) {
        let call = serde_json::from_str(method.get()).ok().zip(Params::read(members.params));
        return match (call, id) {
            (Some((method, params)), id) => Ok(Message::Call { id, method, params }),
            (None, Some(id)) => Ok(Message::Invalid(id)),
            (None, None) => Err("a notification that cannot be understood"),
        };
    }
    let id = id.ok_or("neither an id nor a method")?;
    let outcome = match members.error.filter(|error| is_truthy(error)) {
        Some(error) => Err(reply::error_text(error)),
        None => members.result.map(|_| ()).ok_or_else(|| "'result'".to_owned()),
    };
    Ok(Message::Response { id, outcome })
}

/// A member that is there; `null` counts as absent.
fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// Python's truth: false are `null`, `false`, zero, and what is empty.
fn is_truthy(raw: &RawValue) -> bool {
    let inside = |open, close| {
        raw.get().strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).map(str::trim)
    };
    match raw.get() {
        "null" | "false" | "\"\"" => false,
        number if number.parse() == Ok(0.0) => false,
        _ => inside('{', '}').or_else(|| inside('[', ']')) != Some(""),
    }
}

/// The members that matter; of a name that comes twice, the last counts.
#[derive(Default)]
struct Members<'a> {
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    match name.as_ref() {
                        "id" => members.id = Some(map.next_value()?),
                        "method" => members.method = Some(map.next_value()?),
                        "params" => members.params = Some(map.next_value()?),
                        "result" => members.result = Some(map.next_value()?),
                        "error" => members.error = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests;
