//! Which upstream answers a host and a path.
//!
//! A route with a host beats one without, then the longest whole-segment prefix wins. The path is
//! compared after decoding the percent-encoded characters that need no encoding (RFC 3986 §6.2.2.2),
//! so `/d%69ce` is `/dice`; `%2F` stays data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::Deserialize;

/// Most routes in one table.
const ROUTES_MAX: usize = 1000;

/// Where replicas of one upstream are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A name in DNS, or an address.
    Host {
        /// A host name, or an IP address as text (IPv6 without brackets).
        name: String,
        /// TCP port, never 0.
        port: u16,
        scheme: Scheme,
    },
    /// A socket in the file system, by its absolute path.
    Unix(String),
}

/// What is spoken to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    /// HTTPS, with a certificate for the host's name.
    Https,
    /// HTTP/2 without TLS, from the first byte (RFC 9113 §3.3).
    H2c,
}

impl Place {
    /// The host, as a service may see it in `Host`; of a socket in the file system, `localhost`.
    pub fn host(&self) -> &str {
        match self {
            Self::Host { name, .. } => name,
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port, scheme } => {
                let scheme = match scheme {
                    Scheme::Http => "",
                    Scheme::Https => "https://",
                    Scheme::H2c => "h2c://",
                };
                match name.contains(':') {
                    true => write!(out, "{scheme}[{name}]:{port}"),
                    false => write!(out, "{scheme}{name}:{port}"),
                }
            }
            Self::Unix(path) => write!(out, "unix:{path}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lower case, without a port; `None` takes any host.
    pub host: Option<String>,
    /// Without the slash at its end: the root is empty.
    pub prefix: String,
    /// Index into [`Routes::upstreams`].
    pub upstream: usize,
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() { "/" } else { &self.prefix };
        write!(out, "{}{prefix}", self.host.as_deref().unwrap_or_default())
    }
}

/// The routing table, and the upstreams that it names.
///
/// Written as whitespace-separated `[HOST]/PREFIX=http://NAME:PORT[,NAME:PORT…]`; in place of
/// `http://` there may be `https://` or `h2c://`, and in place of all that `unix:/PATH[,/PATH…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Routes {
    /// Those with a host first, then by prefix, the longest first.
    routes: Vec<Route>,
    upstreams: Vec<Vec<Place>>,
    hosts: BTreeMap<String, Node>,
    any_host: Node,
}

/// Routes that begin with the same segments. A choice looks at a segment of the path at a time, so
/// that it costs no more with a thousand routes than with ten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// Index of the route whose prefix ends here.
    route: Option<usize>,
    below: BTreeMap<String, Self>,
}

impl Node {
    /// The route with the longest prefix of `path`, a slash before each segment.
    fn find(&self, path: &str) -> Option<usize> {
        let (mut node, mut found, mut rest) = (self, self.route, path);
        while let Some(path) = rest.strip_prefix('/') {
            if node.below.is_empty() {
                break;
            }
            let end = path.find('/').unwrap_or(path.len());
            let Some(next) = node.below.get(&path[..end]) else { break };
            (node, rest) = (next, &path[end..]);
            found = node.route.or(found);
        }
        found
    }

    fn insert(&mut self, prefix: &str, route: usize) {
        let mut node = self;
        for segment in prefix.split('/').skip(1) {
            node = node.below.entry(segment.to_owned()).or_default();
        }
        node.route = Some(route);
    }
}

/// What is wrong with a table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error(
        "`{0}`: a route is written [HOST]/PREFIX=http://NAME:PORT, like /dice=http://dice:8080"
    )]
    Form(String),
    #[error("`{0}`: the host may hold letters, digits, `-` and `.`")]
    Host(String),
    #[error("`{0}`: the prefix may hold no empty or dot segment, no query and no `%`")]
    Prefix(String),
    #[error(
        "`{0}`: the upstream is written http://NAME:PORT, like http://dice:8080, or \
         https://NAME:PORT, h2c://NAME:PORT or unix:/PATH"
    )]
    Upstream(String),
    #[error("the route `{0}` is there twice")]
    Twice(String),
    #[error("at most {ROUTES_MAX} routes")]
    TooMany,
}

impl Routes {
    /// The route for `path` (the raw path of a request) on `host` (lower case, without a port).
    pub fn find(&self, host: &str, path: &str) -> Option<(usize, &Route)> {
        let path = unreserved_decoded(path);
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        let own = self.hosts.get(host).and_then(|node| node.find(&path));
        let index = own.or_else(|| self.any_host.find(&path))?;
        Some((index, &self.routes[index]))
    }

    /// Every route: those with a host first, then by prefix, the longest first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Every upstream once, in order of first mention.
    pub fn upstreams(&self) -> &[Vec<Place>] {
        &self.upstreams
    }

    /// The hosts that routes name.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter_map(|route| route.host.as_deref())
    }

    /// True when there is nowhere to go.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl FromStr for Routes {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let mut table = Self::default();
        let mut known: BTreeMap<Vec<Place>, usize> = BTreeMap::new();
        for entry in text.split_whitespace() {
            let (from, to) =
                entry.split_once('=').ok_or_else(|| RouteError::Form(entry.to_owned()))?;
            let (host, prefix) = parse_from(from, entry)?;
            let places = parse_upstream(to).ok_or_else(|| RouteError::Upstream(to.to_owned()))?;
            let upstream = *known.entry(places).or_insert_with_key(|places| {
                table.upstreams.push(places.clone());
                table.upstreams.len() - 1
            });
            let route = Route { host, prefix, upstream };
            let same = |other: &Route| other.host == route.host && other.prefix == route.prefix;
            if table.routes.iter().any(same) {
                return Err(RouteError::Twice(route.to_string()));
            }
            table.routes.push(route);
        }
        if table.routes.len() > ROUTES_MAX {
            return Err(RouteError::TooMany);
        }
        table
            .routes
            .sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        for (index, route) in table.routes.iter().enumerate() {
            let node = match &route.host {
                Some(host) => table.hosts.entry(host.clone()).or_default(),
                None => &mut table.any_host,
            };
            node.insert(&route.prefix, index);
        }
        Ok(table)
    }
}

impl TryFrom<String> for Routes {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
}

fn parse_from(from: &str, entry: &str) -> Result<(Option<String>, String), RouteError> {
    let slash = from.find('/').ok_or_else(|| RouteError::Form(entry.to_owned()))?;
    let (host, path) = from.split_at(slash);
    let host_fits = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        && !host.split('.').any(str::is_empty);
    if !host.is_empty() && !host_fits {
        return Err(RouteError::Host(host.to_owned()));
    }
    let prefix = path.strip_suffix('/').unwrap_or(path);
    let bad = prefix.split('/').skip(1).any(|segment| matches!(segment, "" | "." | ".."))
        || !prefix.bytes().all(|c| c.is_ascii_graphic() && !b"%?#\\\"<>".contains(&c));
    if bad {
        return Err(RouteError::Prefix(path.to_owned()));
    }
    Ok(((!host.is_empty()).then(|| host.to_ascii_lowercase()), prefix.to_owned()))
}

fn parse_upstream(to: &str) -> Option<Vec<Place>> {
    if let Some(paths) = to.strip_prefix("unix:") {
        return paths.split(',').map(parse_socket).collect();
    }
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https), ("h2c", Scheme::H2c)];
    let (scheme, authorities) = to.split_once("://")?;
    let (_, scheme) = *schemes.iter().find(|(name, _)| *name == scheme)?;
    let authorities = authorities.strip_suffix('/').unwrap_or(authorities);
    authorities.split(',').map(|authority| parse_place(authority, scheme)).collect()
}

/// Longest path of a socket (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

fn parse_socket(path: &str) -> Option<Place> {
    let fits = path.starts_with('/') && !path.ends_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX;
    (fits && !path.contains(char::is_control)).then(|| Place::Unix(path.to_owned()))
}

fn parse_place(authority: &str, scheme: Scheme) -> Option<Place> {
    let (name, port) = authority.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let name = match name.strip_prefix('[') {
        Some(v6) => {
            let v6 = v6.strip_suffix(']')?;
            v6.parse::<std::net::Ipv6Addr>().ok()?.to_string()
        }
        None => {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            (!name.is_empty() && name.chars().all(fits)).then(|| name.to_ascii_lowercase())?
        }
    };
    Some(Place::Host { name, port, scheme })
}

/// `path` with percent-encoded unreserved characters (RFC 3986 §2.3) decoded, all else untouched.
fn unreserved_decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(c) if c.is_ascii_alphanumeric() || b"-._~".contains(&c) => {
                plain.push(char::from(c));
                rest = &rest[at + 3..];
            }
            _ => {
                let _: fmt::Result = plain.write_char('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> Routes {
        text.parse().unwrap()
    }

    fn upstream<'a>(table: &'a Routes, host: &str, path: &str) -> Option<&'a str> {
        let (_, route) = table.find(host, path)?;
        Some(table.upstreams()[route.upstream][0].host())
    }

    #[test]
    fn the_longest_whole_prefix_wins() {
        let table = table("/dice=http://a:1 /dice/fair=http://b:1");
        for (path, expected) in [
            ("/dice/2d6", Some("a")),
            ("/dice", Some("a")),
            ("/dice/", Some("a")),
            ("/dice/fair/2d6", Some("b")),
            ("/dice/fairest", Some("a")),
            ("/diceware", None),
            ("/", None),
            ("//dice", None),
        ] {
            assert_eq!(upstream(&table, "any", path), expected, "{path}");
        }
    }

    #[test]
    fn a_host_beats_a_longer_prefix_without_one() {
        let table = table("/=http://hub:1 /dice=http://dice:1 Say.localhost/=http://say:1");
        for (host, path, expected) in [
            ("say.localhost", "/dice/6", "say"),
            ("localhost", "/dice/6", "dice"),
            ("localhost", "/x", "hub"),
            ("other", "/", "hub"),
        ] {
            assert_eq!(upstream(&table, host, path), Some(expected), "{host}{path}");
        }
    }

    #[test]
    fn an_encoded_letter_is_the_letter_and_an_encoded_slash_is_data() {
        let table = table("/=http://hub:1 /dice=http://dice:1");
        for (path, expected) in [
            ("/d%69ce", "dice"),
            ("/%64%69%63%65/6", "dice"),
            ("/dice%2F6", "hub"),
            ("/dice%2f", "hub"),
            ("/%", "hub"),
            ("/%6", "hub"),
            ("/%zz", "hub"),
            ("/é%", "hub"),
        ] {
            assert_eq!(upstream(&table, "x", path), Some(expected), "{path}");
        }
    }

    #[test]
    fn two_routes_may_share_an_upstream() {
        let table = table("/=http://hub:1 hub.localhost/=http://hub:1 /dice=http://dice:1");
        assert_eq!(table.upstreams().len(), 2);
    }

    #[test]
    fn several_places_make_one_upstream() {
        let table = table("/=http://10.0.0.1:80,[::1]:81");
        let places: Vec<String> = table.upstreams()[0].iter().map(Place::to_string).collect();
        assert_eq!(places, ["10.0.0.1:80", "[::1]:81"]);
    }

    #[test]
    fn an_upstream_may_speak_tls_or_be_a_socket_in_the_file_system() {
        let table = table(
            "/a=https://Say.example:443 /b=unix:/run/a.sock,/run/b.sock /c=h2c://a:1,[::1]:2",
        );
        let name = "say.example".to_owned();
        let host = Place::Host { name, port: 443, scheme: Scheme::Https };
        assert_eq!(table.upstreams()[0], [host]);
        assert_eq!(table.upstreams()[0][0].to_string(), "https://say.example:443");
        assert_eq!(table.upstreams()[2][1].to_string(), "h2c://[::1]:2");
        let sockets: Vec<String> = table.upstreams()[1].iter().map(Place::to_string).collect();
        assert_eq!(sockets, ["unix:/run/a.sock", "unix:/run/b.sock"]);
    }

    #[test]
    fn a_bad_route_is_refused_with_the_reason() {
        for (text, word) in [
            ("/dice", "written"),
            ("dice=http://a:1", "written"),
            ("/dice=https://a", "upstream"),
            ("/dice=unix:a", "upstream"),
            ("/dice=unix:/a/", "upstream"),
            ("/dice=unix:/a,", "upstream"),
            ("/dice=http://a", "upstream"),
            ("/dice=http://a:0", "upstream"),
            ("/dice=http://a:99999", "upstream"),
            ("/dice=http://a:1/path", "upstream"),
            ("/dice=http://:1", "upstream"),
            ("/dice=http://a:1,", "upstream"),
            ("/dice=http://[::g]:1", "upstream"),
            ("/a//b=http://a:1", "prefix"),
            ("/../b=http://a:1", "prefix"),
            ("/%64=http://a:1", "prefix"),
            ("a..b/=http://a:1", "host"),
            ("a:80/=http://a:1", "host"),
            ("/a=http://a:1 /a/=http://b:1", "twice"),
        ] {
            let error = text.parse::<Routes>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _: Result<Routes, RouteError> = text.parse();
        }

        #[test]
        fn the_choice_agrees_with_a_slow_definition(
            prefixes in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 1..6),
            path in "(/[ab]{1,2}){1,4}/?",
        ) {
            let text: Vec<String> = prefixes
                .iter()
                .enumerate()
                .map(|(n, prefix)| format!("{prefix}/=http://u{n}:1"))
                .collect();
            let table = table(&text.join(" "));
            let segments = |path: &str| -> Vec<String> {
                path.split('/').skip(1).map(str::to_owned).collect()
            };
            let expected = prefixes
                .iter()
                .filter(|prefix| segments(&path).starts_with(&segments(prefix)))
                .max_by_key(|prefix| segments(prefix).len());
            let found = table.find("h", &path).map(|(_, route)| &route.prefix);
            prop_assert_eq!(found, expected);
        }
    }
}
