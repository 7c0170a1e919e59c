//! Says to services who asked, and drops what clients claim about that.
//!
//! Source: RFC 7239, <https://www.rfc-editor.org/rfc/rfc7239>, and the older `X-Forwarded-*` fields
//! that mean the same. What the peer says is believed only when it is a trusted proxy.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::PoisonError;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use ipnet::IpNet;
use serde::Deserialize;

use crate::rules::policy::Refusal;

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Proxies in front of this one whose word is taken: addresses and CIDRs, whitespace separated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// True when `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |word: &str| -> Result<IpNet, String> {
            let address = word.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
            address
                .or_else(|_| word.parse())
                .map_err(|_| format!("`{word}` is not an address or a CIDR like 192.0.2.0/24"))
        };
        text.split_whitespace().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for Trusted {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Without the IPv4-in-IPv6 wrapping of a dual-stack socket.
    pub address: IpAddr,
    /// True for a proxy whose word is taken.
    pub trusted: bool,
    /// The address as `X-Forwarded-For` writes it.
    text: HeaderValue,
    /// The last host and the element of `Forwarded` for it: a connection mostly asks for one host.
    last: Mutex<Option<(HeaderValue, HeaderValue)>>,
}

impl Peer {
    /// The peer at `address`.
    pub fn new(address: SocketAddr, trusted: &Trusted) -> Self {
        let address = address.ip().to_canonical();
        let text = HeaderValue::from_str(&address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { address, trusted: trusted.contains(address), text, last: Mutex::default() }
    }

    /// The address in words.
    pub fn as_str(&self) -> &str {
        self.text.to_str().unwrap_or("unknown")
    }

    /// The element of `Forwarded` for a request of this peer for `host`.
    fn element(&self, host: &HeaderValue) -> Option<HeaderValue> {
        // A panic under this lock ends only its connection.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, element)) if known == host => Some(element.clone()),
            _ => {
                let element = element(self.address, host)?;
                *last = Some((host.clone(), element.clone()));
                Some(element)
            }
        }
    }
}

/// Rewrites the forwarding fields of a request that came over HTTPS for `host` (as the client
/// wrote it), and says which address the request is from.
pub fn rewrite(
    headers: &mut HeaderMap,
    peer: &Peer,
    host: &HeaderValue,
    trusted: &Trusted,
) -> IpAddr {
    if peer.trusted {
        return append(headers, peer, host, trusted);
    }
    drop_claims(headers);
    headers.insert(FOR.clone(), peer.text.clone());
    headers.insert(PROTO.clone(), HeaderValue::from_static("https"));
    headers.insert(HOST.clone(), host.clone());
    if let Some(element) = peer.element(host) {
        headers.insert(header::FORWARDED, element);
    }
    peer.address
}

/// Refuses fields about who asks, and about framing, that are spelled so that only a CGI-like
/// service takes them for the real ones; and two values where there can be one.
pub fn unambiguous(headers: &HeaderMap) -> Result<(), Refusal> {
    let spelled = |name: &HeaderName| name.as_str().contains('_') && is_claim(name.as_str());
    let repeated = |name: &HeaderName| headers.get_all(name).iter().nth(1).is_some();
    if headers.keys().any(spelled) || SINGLE.iter().any(repeated) {
        return Err(Refusal::Claims);
    }
    Ok(())
}

/// Claims of which there is one a request.
static SINGLE: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// Removes every field by which a client could claim another address, host or scheme; `_` counts
/// as `-`, since CGI-like services cannot tell them apart.
pub fn drop_claims(headers: &mut HeaderMap) {
    drop_where(headers, is_claim);
}

fn drop_where(headers: &mut HeaderMap, is_dropped: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> =
        headers.keys().filter(|name| is_dropped(name.as_str())).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    // The first letter settles most names.
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b'h' | b't' | b'x'))
        && (begins(name, PREFIX)
            || CLAIMS.iter().any(|claim| same(name, claim))
            || name.contains('_') && FRAMING.iter().any(|field| same(name, field)))
}

const PREFIX: &str = "x-forwarded-";

/// What content delivery networks and frameworks read as the client's address or path.
const CLAIMS: [&str; 11] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-original-host",
    "x-real-ip",
    "x-rewrite-url",
];

/// Written with `_`, these are other fields to us and the same to a CGI-like service.
const FRAMING: [&str; 3] = ["content-length", "host", "transfer-encoding"];

fn same(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins(name, wanted)
}

fn begins(name: &str, wanted: &str) -> bool {
    let dashed = |c: u8| if c == b'_' { b'-' } else { c };
    name.len() >= wanted.len()
        && name.bytes().map(dashed).zip(wanted.bytes()).all(|(ours, theirs)| ours == theirs)
}

/// True for the claims that a trusted proxy is believed, in the one spelling that it uses.
fn is_believed(name: &str) -> bool {
    name.starts_with(PREFIX) && !name.contains('_') || matches!(name, "forwarded" | "x-real-ip")
}

/// The peer is a trusted proxy: what it says stays, and the peer itself is added.
fn append(headers: &mut HeaderMap, peer: &Peer, host: &HeaderValue, trusted: &Trusted) -> IpAddr {
    drop_where(headers, |name| is_claim(name) && !is_believed(name));
    let mut chain = text_list(headers, &FOR);
    let client = chain
        .iter()
        .rev()
        .map_while(|hop| address_of(hop))
        .take_while_inclusive(trusted)
        .last()
        .unwrap_or(peer.address);
    let mut elements = text_list(headers, &header::FORWARDED);
    if elements.is_empty() {
        elements = chain.iter().filter_map(|hop| address_of(hop)).map(for_pair).collect();
    }
    chain.push(peer.address.to_string());
    let set = |headers: &mut HeaderMap, name: &HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name.clone(), value);
        }
    };
    set(headers, &FOR, chain.join(", "));
    if let Some(own) = peer.element(host) {
        elements.push(own.to_str().unwrap_or_default().to_owned());
    }
    set(headers, &header::FORWARDED, elements.join(", "));
    if !headers.contains_key(&PROTO) {
        headers.insert(PROTO.clone(), HeaderValue::from_static("https"));
    }
    if !headers.contains_key(&HOST) {
        headers.insert(HOST.clone(), host.clone());
    }
    client
}

/// Takes addresses while they are trusted, and the first that is not.
trait TakeWhileInclusive: Iterator<Item = IpAddr> + Sized {
    fn take_while_inclusive(self, trusted: &Trusted) -> impl Iterator<Item = IpAddr> {
        let mut done = false;
        self.take_while(move |address| {
            let take = !done;
            done = !trusted.contains(*address);
            take
        })
    }
}

impl<I: Iterator<Item = IpAddr>> TakeWhileInclusive for I {}

/// The members of a list field over all its lines, as they are.
fn text_list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|member| member.trim().to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

/// The address in a member of `X-Forwarded-For`, which may carry a port and brackets.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let ip = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

/// `for=` with the address as RFC 7239 §6 writes it: IPv6 in brackets and quotes.
fn for_pair(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    }
}

/// One element of `Forwarded`. A host with a port is no token and is quoted (RFC 7239 §4).
fn element(address: IpAddr, host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let token = host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    let quote = if token { "" } else { "\"" };
    let element = format!("{};host={quote}{host}{quote};proto=https", for_pair(address));
    HeaderValue::from_str(&element).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(address: &str, trusted: &Trusted) -> Peer {
        Peer::new(address.parse().unwrap(), trusted)
    }

    fn get(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_a_client_claims_is_dropped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded_proto", "http"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/x"),
            ("x-forwarded-anything", "x"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x_real_ip", "1.2.3.4"),
            ("true-client-ip", "1.2.3.4"),
            ("cf_connecting-ip", "1.2.3.4"),
            ("x-original-url", "/metrics"),
            ("transfer_encoding", "chunked"),
            ("x-real-ipv", "kept"),
            ("x-other", "kept"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let none = Trusted::default();
        let host = HeaderValue::from_static("a.example:8443");
        let client = rewrite(&mut headers, &peer("[::ffff:192.0.2.1]:5", &none), &host, &none);
        assert_eq!(client.to_string(), "192.0.2.1");
        assert_eq!(get(&headers, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(get(&headers, "x-forwarded-proto"), ["https"]);
        assert_eq!(get(&headers, "x-forwarded-host"), ["a.example:8443"]);
        let forwarded = r#"for=192.0.2.1;host="a.example:8443";proto=https"#;
        assert_eq!(get(&headers, "forwarded"), [forwarded]);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let expected = [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-other",
            "x-real-ipv",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn each_request_has_its_own_host() {
        let none = Trusted::default();
        let peer = peer("192.0.2.1:5", &none);
        for host in ["a", "a", "b", "a"] {
            let mut headers = HeaderMap::new();
            rewrite(&mut headers, &peer, &HeaderValue::from_static(host), &none);
            let forwarded = format!("for=192.0.2.1;host={host};proto=https");
            assert_eq!(get(&headers, "forwarded"), [forwarded]);
        }
    }

    #[test]
    fn ipv6_is_written_as_rfc_7239_wants_it() {
        let mut headers = HeaderMap::new();
        let none = Trusted::default();
        let host = HeaderValue::from_static("localhost");
        rewrite(&mut headers, &peer("[2001:db8::1]:5", &none), &host, &none);
        assert_eq!(get(&headers, "x-forwarded-for"), ["2001:db8::1"]);
        let forwarded = r#"for="[2001:db8::1]";host=localhost;proto=https"#;
        assert_eq!(get(&headers, "forwarded"), [forwarded]);
    }

    #[test]
    fn a_trusted_proxy_is_believed_back_to_the_first_stranger() {
        let trusted: Trusted = "10.0.0.0/8 192.0.2.9".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 203.0.113.5, 10.1.1.1".parse().unwrap());
        headers.append("x-forwarded-proto", "http".parse().unwrap());
        let host = HeaderValue::from_static("inner");
        let client = rewrite(&mut headers, &peer("192.0.2.9:5", &trusted), &host, &trusted);
        assert_eq!(client.to_string(), "203.0.113.5");
        let chain = ["6.6.6.6, 203.0.113.5, 10.1.1.1, 192.0.2.9"];
        assert_eq!(get(&headers, "x-forwarded-for"), chain);
        assert_eq!(get(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(get(&headers, "x-forwarded-host"), ["inner"]);
        let forwarded = "for=6.6.6.6, for=203.0.113.5, for=10.1.1.1, \
                         for=192.0.2.9;host=inner;proto=https";
        assert_eq!(get(&headers, "forwarded"), [forwarded]);
    }

    #[test]
    fn a_trusted_proxy_that_says_nothing_is_the_client() {
        let trusted: Trusted = "10.0.0.1".parse().unwrap();
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_static("h");
        let client = rewrite(&mut headers, &peer("10.0.0.1:5", &trusted), &host, &trusted);
        assert_eq!(client.to_string(), "10.0.0.1");
        assert_eq!(get(&headers, "x-forwarded-for"), ["10.0.0.1"]);
    }

    #[test]
    fn trusted_proxies_are_addresses_and_networks() {
        assert!("10.0.0.0/8 ::1 fd00::/8".parse::<Trusted>().is_ok());
        assert!("".parse::<Trusted>().is_ok());
        let error = "gateway".parse::<Trusted>().unwrap_err();
        assert!(error.contains("gateway"), "{error}");
    }

    proptest! {
        #[test]
        fn a_stranger_can_say_nothing(
            fields in prop::collection::vec(
                ("(x[-_]forwarded[-_][a-z]{1,8}|forwarded|x[-_]real[-_]ip)", "[ -~]{0,20}"), 0..6),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let none = Trusted::default();
            let host = HeaderValue::from_static("h");
            rewrite(&mut headers, &peer("192.0.2.1:5", &none), &host, &none);
            prop_assert_eq!(headers.len(), 4);
            prop_assert_eq!(get(&headers, "x-forwarded-for"), ["192.0.2.1"]);
        }
    }
}
