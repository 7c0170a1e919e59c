//! What the hub writes: replies, its own calls and notifications, as one line of JSON each.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Id;

/// The real clients read at most 1 MiB a message and drop the connection above it.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest error text that is passed on, in bytes: it may repeat what a peer sent.
const TEXT_BYTES_MAX: usize = 4096;

/// Why a call has no result, with the codes of JSON-RPC 2.0 §5.1 that upstream uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// -32600: no call at all.
    InvalidRequest,
    /// -32601: no such method.
    MethodNotFound,
    /// -32603: everything else; the text is for the user.
    Refused(String),
}

impl Failure {
    fn code(&self) -> i32 {
        match self {
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::Refused(_) => -32603,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::InvalidRequest => "Invalid Request",
            Self::MethodNotFound => "Method not found",
            Self::Refused(text) => shorten(text),
        }
    }
}

/// A reply with a result. A result that the clients could not read becomes an error that says so.
pub fn result(id: &Id, value: &impl Serialize) -> String {
    let value = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    let reply = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{value}}}"#, id.as_json());
    if reply.len() > MESSAGE_BYTES_MAX {
        return error(
            id,
            &Failure::Refused("The answer is longer than the 1 MiB that clients read".into()),
        );
    }
    reply
}

/// A reply with an error. The clients show `data.traceback` below the message, so there is always one.
pub fn error(id: &Id, failure: &Failure) -> String {
    let error = serde_json::json!({
        "code": failure.code(),
        "message": failure.message(),
        "data": { "traceback": concat!("hubbub hub ", env!("CARGO_PKG_VERSION")) },
    });
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.as_json())
}

/// A call of the hub. Without arguments, `params` is an object: that is what upstream sends.
pub fn call(id: u64, method: &str, params: &impl Serialize) -> String {
    let message =
        serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    message.to_string()
}

/// A notification of the hub, without arguments.
pub fn notification(method: &str) -> String {
    serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": {} }).to_string()
}

/// The text of a peer's error: its message, and its traceback indented below.
pub fn error_text(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Error {
        message: String,
        #[serde(default)]
        data: serde_json::Value,
    }
    if error.get().len() > 1 << 16 {
        return "The peer answered an error that is too long to show".to_owned();
    }
    let Ok(error) = serde_json::from_str::<Error>(error.get()) else {
        return "The peer answered a malformed error".to_owned();
    };
    match error.data.get("traceback").and_then(serde_json::Value::as_str) {
        None => error.message,
        Some(traceback) => {
            let lines = traceback.lines().map(|line| format!("\n    {line}"));
            error.message + &lines.collect::<String>()
        }
    }
}

/// The text up to its bound, cut between characters.
fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
