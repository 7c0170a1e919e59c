//! Removes the header fields that belong to one connection before a message is passed on.
//!
//! Source: RFC 9110 §7.6.1, <https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1>.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

/// Fields that RFC 9110 §7.6.1 says to remove whether `Connection` names them or not, and
/// `HTTP2-Settings`, which belongs to an upgrade (RFC 7540 §3.2.1) that is never passed on. And what
/// is between a client and a proxy (RFC 9110 §11.7), or reads as such in a CGI-like service (`Proxy`).
static FIELDS: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// What one connection asked of the next hop, read before its fields are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `Connection: upgrade` with `Upgrade: websocket` (RFC 6455 §4.1).
    pub websocket: bool,
    /// `TE: trailers` (RFC 9110 §10.1.4): trailers may be passed on.
    pub trailers: bool,
}

/// Removes from `headers` what ends at this hop, and says what it asked for.
pub fn remove(headers: &mut HeaderMap) -> Asked {
    let mut asked = Asked::default();
    if headers.contains_key(header::TE) {
        asked.trailers = has_token(headers, &header::TE, "trailers");
        headers.remove(header::TE);
    }
    if headers.contains_key(header::CONNECTION) {
        asked.websocket = has_token(headers, &header::CONNECTION, "upgrade")
            && has_token(headers, &header::UPGRADE, "websocket");
        for name in named(headers) {
            headers.remove(name);
        }
    }
    // Most messages have none of them, and a look at each field is cheaper than nine searches.
    if headers.keys().any(|name| FIELDS.contains(name)) {
        for name in &FIELDS {
            headers.remove(name);
        }
    }
    asked
}

/// Removes from `trailers` what may not stand there (RFC 9110 §6.5.1): what says how the message is
/// delimited, routed or read, since who merges trailers into the head would believe it.
pub fn trailers(trailers: &mut HeaderMap) {
    remove(trailers);
    for name in &NO_TRAILERS {
        trailers.remove(name);
    }
}

static NO_TRAILERS: [HeaderName; 11] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::SET_COOKIE,
    header::TRAILER,
    header::TE,
];

/// The field names in `Connection`, the ones that it may name: not what says where a request
/// goes and how long it is, which is for every recipient (RFC 9110 §7.6.1, last paragraph).
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter(|token| !token.eq_ignore_ascii_case("close"))
        .filter_map(|token| token.parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect()
}

/// True when the list field `name` holds `token`, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The members of a list field (RFC 9110 §5.6.1), over all its lines, without parameters.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|member| member.split(';').next().unwrap_or_default().trim())
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_connection_names_goes_and_the_rest_stays() {
        let mut map = headers(&[
            ("connection", "close, X-One"),
            ("connection", " x-two ,,"),
            ("x-one", "1"),
            ("x-one", "again"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip"),
            ("proxy", "http://elsewhere"),
            ("proxy-authorization", "Basic eDp5"),
            ("trailer", "x-sum"),
        ]);
        assert_eq!(remove(&mut map), Asked::default());
        assert_eq!(map, headers(&[("x-three", "3"), ("trailer", "x-sum")]));
    }

    #[test]
    fn trailers_say_nothing_about_the_message_s_form() {
        let mut map = headers(&[
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "elsewhere"),
            ("connection", "x"),
            ("set-cookie", "a=b"),
            ("grpc-status", "0"),
        ]);
        trailers(&mut map);
        assert_eq!(map, headers(&[("grpc-status", "0")]));
    }

    #[test]
    fn what_every_recipient_needs_stays() {
        let mut map = headers(&[
            ("connection", "Host, Content-Length"),
            ("host", "localhost"),
            ("content-length", "3"),
        ]);
        remove(&mut map);
        assert_eq!(map, headers(&[("host", "localhost"), ("content-length", "3")]));
    }

    #[test]
    fn a_websocket_is_asked_for_by_both_fields() {
        for (connection, upgrade, websocket) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "h2c", false),
            ("upgrade", "", false),
        ] {
            let mut map = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(remove(&mut map).websocket, websocket, "{connection} {upgrade}");
            assert!(map.is_empty());
        }
        assert!(!remove(&mut headers(&[("upgrade", "websocket")])).websocket);
    }

    #[test]
    fn te_is_understood_only_as_trailers() {
        assert!(remove(&mut headers(&[("te", "deflate;q=0.5, trailers")])).trailers);
        assert!(!remove(&mut headers(&[("te", "deflate")])).trailers);
    }

    proptest! {
        #[test]
        fn nothing_of_one_connection_is_left(
            names in prop::collection::vec("[a-z-]{1,12}", 0..8),
            listed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut map = HeaderMap::new();
            for name in &names {
                map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("v"));
            }
            let listed: Vec<&String> =
                listed.iter().filter(|_| !names.is_empty()).map(|n| n.get(&names)).collect();
            for name in &listed {
                map.append(header::CONNECTION, name.parse().unwrap());
            }
            remove(&mut map);
            prop_assert!(!map.contains_key(header::CONNECTION));
            for name in &listed {
                // `close` is an option of the connection, not the name of a field.
                let stays = ["close", "host"].contains(&name.as_str());
                prop_assert!(stays || !map.contains_key(name.as_str()));
            }
            for name in &names {
                let hop = listed.contains(&name)
                    || name == "te"
                    || FIELDS.iter().any(|field| field == name.as_str());
                prop_assert!(hop || map.contains_key(name.as_str()));
            }
        }
    }
}
