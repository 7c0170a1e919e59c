//! Which trace a request belongs to, so that the gateway's log and the services' traces can be
//! joined. The gateway takes no part in a trace: what a client sends goes on unchanged.
//!
//! Source: W3C Trace Context, <https://www.w3.org/TR/trace-context/> §3.2 (`traceparent`), §3.3
//! (`tracestate`) and §3.2.2 (versions that are still to come).

use std::fmt;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::wire::hex;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00, and of the part of a later one that we can read.
const LENGTH: usize = 55;

/// Where the trace id is in it.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// Where the parent id is.
const PARENT_ID: std::ops::Range<usize> = 36..52;

/// A trace's id: 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// As text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Leaves a good `traceparent` and its `tracestate` as they are. Where there is none, or one that
/// cannot be read, a trace begins here, with ids from `draw`, and nobody's `tracestate` goes on.
///
/// A new trace is marked as sampled: the access log is a record of it, and services that decide as
/// their caller did would otherwise never record one.
pub fn carry(headers: &mut HeaderMap, draw: impl FnOnce() -> (u128, u64)) -> TraceId {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    if let (Some(line), None) = (lines.next(), lines.next())
        && let Some(id) = read(line.as_bytes())
    {
        return id;
    }
    let (trace, parent) = draw();
    // An id of zeros means none.
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    hex::write(&mut text[TRACE_ID], &trace.max(1).to_be_bytes());
    hex::write(&mut text[PARENT_ID], &parent.max(1).to_be_bytes());
    headers.remove(&TRACESTATE);
    let mut id = [0; 32];
    id.copy_from_slice(&text[TRACE_ID]);
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(TRACEPARENT.clone(), value);
    }
    TraceId(id)
}

/// The trace id of a `traceparent`, if it is a good one.
fn read(value: &[u8]) -> Option<TraceId> {
    let head: &[u8; LENGTH] = value.first_chunk()?;
    let shaped = head.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let version = &head[..2];
    let whole = match (version, value.get(LENGTH)) {
        (b"ff", _) => false,
        (_, None) => true,
        // A later version may have more fields.
        (b"00", Some(_)) => false,
        (_, Some(next)) => *next == b'-',
    };
    let is_zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    if !shaped || !whole || is_zero(&head[TRACE_ID]) || is_zero(&head[PARENT_ID]) {
        return None;
    }
    head[TRACE_ID].try_into().ok().map(TraceId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_good_one_passes_unchanged_with_its_state() {
        for good in [
            GOOD,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings",
        ] {
            let sent =
                headers(&[("traceparent", good), ("tracestate", "a=1"), ("tracestate", "b=2")]);
            let mut passed = sent.clone();
            let id = carry(&mut passed, || panic!("no new trace for {good}"));
            assert_eq!(id.as_str(), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(passed, sent, "{good}");
        }
    }

    #[test]
    fn a_trace_begins_here_where_there_is_none_to_read() {
        let two = [("traceparent", GOOD), ("traceparent", GOOD)];
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-000",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-00",
        ] {
            let one = [("traceparent", bad), ("tracestate", "a=1")];
            for sent in [&one[..], &two, &[("tracestate", "a=1")]] {
                let mut passed = headers(sent);
                let id = carry(&mut passed, || (0xabc, 0xdef));
                let made = "00-00000000000000000000000000000abc-0000000000000def-01";
                assert_eq!(passed, headers(&[("traceparent", made)]), "{sent:?}");
                assert_eq!(id.as_str(), "00000000000000000000000000000abc");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_on_can_always_be_read(value in "[0-9a-f-]{50,60}", trace: u128, parent: u64) {
            let mut passed = headers(&[("traceparent", &value)]);
            let id = carry(&mut passed, || (trace, parent));
            prop_assert_eq!(read(passed[&TRACEPARENT].as_bytes()), Some(id));
        }
    }
}
