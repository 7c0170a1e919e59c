//! Which upstream answers a host and a path.
//!
//! A route with a host beats one without, then the longest whole-segment prefix wins. The path is
//! compared after decoding the percent-encoded characters that need no encoding (RFC 3986 §6.2.2.2),
//! so `/d%69ce` is `/dice`; `%2F` stays data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::Deserialize;

use crate::rules::route::Place;
use crate::rules::route::Route;
use crate::rules::route::RouteError;

/// Most routes in one table.
pub const ROUTES_MAX: usize = 1000;

/// The routing table, and the upstreams that it names.
///
/// Written as whitespace-separated [`Route`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Routes {
    /// Those with a host first, then by prefix, the longest first.
    routes: Vec<Route>,
    /// Of each route, the index of its upstream.
    upstream_of: Vec<usize>,
    upstreams: Vec<Target>,
    hosts: BTreeMap<String, Node>,
    any_host: Node,
}

/// An upstream: where its replicas are, and how to ask whether one is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub places: Vec<Place>,
    /// A path that a replica answers with 2xx or 3xx when it is well.
    pub check: Option<String>,
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

impl Routes {
    /// The table of these routes.
    ///
    /// # Errors
    ///
    /// When two claim the same place, or ask one upstream in two ways whether it is well; and when
    /// there are more than [`ROUTES_MAX`].
    pub fn new(mut routes: Vec<Route>) -> Result<Self, RouteError> {
        if routes.len() > ROUTES_MAX {
            return Err(RouteError::TooMany);
        }
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        let mut table = Self::default();
        let mut taken = BTreeSet::new();
        let mut known: BTreeMap<Vec<Place>, usize> = BTreeMap::new();
        for (index, route) in routes.iter().enumerate() {
            if !taken.insert((&route.host, &route.prefix)) {
                return Err(RouteError::Twice(route.to_string()));
            }
            let upstream = *known.entry(route.to.clone()).or_insert_with_key(|places| {
                table.upstreams.push(Target { places: places.clone(), check: None });
                table.upstreams.len() - 1
            });
            table.upstream_of.push(upstream);
            let target = &mut table.upstreams[upstream];
            match (&target.check, &route.check) {
                (_, None) => {}
                (None, check) => target.check.clone_from(check),
                (Some(one), Some(other)) if one == other => {}
                _ => return Err(RouteError::Checks(route.to_string())),
            }
            let node = match &route.host {
                Some(host) => table.hosts.entry(host.clone()).or_default(),
                None => &mut table.any_host,
            };
            node.insert(&route.prefix, index);
        }
        table.routes = routes;
        Ok(table)
    }

    /// The table of these routes and of `more`.
    ///
    /// # Errors
    ///
    /// See [`Self::new`].
    pub fn with(&self, more: &[Route]) -> Result<Self, RouteError> {
        Self::new(self.routes.iter().chain(more).cloned().collect())
    }

    /// The index of the route for `path` (the raw path of a request) on `host` (lower case, without a
    /// port).
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let path = unreserved_decoded(path);
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        let own = self.hosts.get(host).and_then(|node| node.find(&path));
        own.or_else(|| self.any_host.find(&path))
    }

    /// Every route and the index of its upstream: those with a host first, then by prefix, the
    /// longest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Route, usize)> {
        self.routes.iter().zip(self.upstream_of.iter().copied())
    }

    /// Every upstream once.
    pub fn upstreams(&self) -> &[Target] {
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
        Self::new(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<String> for Routes {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
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
        let index = table.find(host, path)?;
        Some(table.routes[index].to[0].host())
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
    fn one_place_has_one_route_and_one_upstream_one_check() {
        let both = "/a=http://a:1 /a/=http://b:1".parse::<Routes>().unwrap_err();
        assert!(both.to_string().contains("`/a` is there twice"), "{both}");
        let checked = |text: &str, check: &str| Route {
            check: Some(check.to_owned()),
            ..text.parse().unwrap()
        };
        let one = table("/a=http://u:1");
        let with = one.with(&[checked("/b=http://u:1", "/healthz")]).unwrap();
        assert_eq!(with.upstreams()[0].check.as_deref(), Some("/healthz"));
        assert!(with.with(&[checked("/c=http://u:1", "/ok")]).is_err());
        assert!(with.with(&["/b=http://v:1".parse().unwrap()]).is_err());
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
            let found = table.find("h", &path).map(|index| &table.routes[index].prefix);
            prop_assert_eq!(found, expected);
        }
    }
}
