//! One route: which requests it takes, and where they go.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::rules::table::ROUTES_MAX;

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
///
/// Written as `[HOST]/PREFIX=http://NAME:PORT[,NAME:PORT…]`; in place of `http://` there may be
/// `https://`, and in place of all that `unix:/PATH[,/PATH…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lower case, without a port; `None` takes any host.
    pub host: Option<String>,
    /// Without the slash at its end: the root is empty.
    pub prefix: String,
    /// Where the replicas are; never empty.
    pub to: Vec<Place>,
    /// A path by which each replica is asked whether it is well.
    pub check: Option<String>,
    pub limits: Limits,
}

/// What a route allows its requests, where that is not what the settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a request's body; 0 is no limit.
    pub body_bytes_max: Option<u64>,
    /// Time without a byte after which a body is given up.
    pub idle: Option<Duration>,
    /// Time for the head of an answer.
    pub answer: Option<Duration>,
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() { "/" } else { &self.prefix };
        write!(out, "{}{prefix}", self.host.as_deref().unwrap_or_default())
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
    #[error("the route `{0}` checks its upstream in another way than another route does")]
    Checks(String),
    #[error("at most {ROUTES_MAX} routes")]
    TooMany,
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (at, to) = text.split_once('=').ok_or_else(|| RouteError::Form(text.to_owned()))?;
        Self::new(at, to)
    }
}

impl Route {
    /// The route from `at` (`[HOST]/PREFIX`) to `to` (`http://NAME:PORT[,NAME:PORT…]`).
    ///
    /// # Errors
    ///
    /// When one of them is written in another way.
    pub fn new(at: &str, to: &str) -> Result<Self, RouteError> {
        let (host, prefix) = parse_from(at)?;
        let to = parse_upstream(to).ok_or_else(|| RouteError::Upstream(to.to_owned()))?;
        Ok(Self { host, prefix, to, check: None, limits: Limits::default() })
    }
}

fn parse_from(from: &str) -> Result<(Option<String>, String), RouteError> {
    let slash = from.find('/').ok_or_else(|| RouteError::Form(from.to_owned()))?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn several_places_make_one_upstream() {
        let route: Route = "/=http://10.0.0.1:80,[::1]:81".parse().unwrap();
        let places: Vec<String> = route.to.iter().map(Place::to_string).collect();
        assert_eq!(places, ["10.0.0.1:80", "[::1]:81"]);
    }

    #[test]
    fn an_upstream_may_speak_tls_or_be_a_socket_in_the_file_system() {
        let tls = Route::new("/a", "https://Say.example:443").unwrap();
        let name = "say.example".to_owned();
        let host = Place::Host { name, port: 443, scheme: Scheme::Https };
        assert_eq!(tls.to, [host]);
        assert_eq!(tls.to[0].to_string(), "https://say.example:443");
        let h2c = Route::new("/c", "h2c://a:1,[::1]:2").unwrap();
        assert_eq!(h2c.to[1].to_string(), "h2c://[::1]:2");
        let sockets = Route::new("/b", "unix:/run/a.sock,/run/b.sock").unwrap();
        let sockets: Vec<String> = sockets.to.iter().map(Place::to_string).collect();
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
        ] {
            let error = text.parse::<Route>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(
            at in "([a-z]{1,3}(\\.[a-z]{1,3})?)?(/[a-z0-9]{1,3}){0,3}/?",
            port in 1u16..,
        ) {
            let at = if at.contains('/') { at } else { format!("{at}/") };
            let route = Route::new(&at, &format!("http://u:{port}")).unwrap();
            let again = Route::new(&route.to_string(), &format!("http://{}", route.to[0])).unwrap();
            prop_assert_eq!(route, again);
        }
    }
}
