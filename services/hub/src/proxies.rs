//! Whose `X-Forwarded-For` is believed, and what a participant's address is.
//!
//! Exporters admit the address that the hub tells them, so it must be the participant's own: neither the
//! gateway's, nor whatever a participant writes into a header.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Deserialize;
use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The longest chain of proxies that is looked at.
const HOPS_MAX: usize = 64;

/// Host names are asked for at most once in this time, whoever knocks.
const NAMES_FRESH: Duration = Duration::from_secs(1);

/// The address of a known proxy is believed this long before its name is asked for again.
const PROXY_FRESH: Duration = Duration::from_secs(30);

/// A name's last addresses count this long while the name server does not answer: its outage is none of the hub.
const NAMES_KEPT: Duration = Duration::from_secs(300);

/// A name server that does not answer holds nobody up for longer.
const NAMES_TIMEOUT: Duration = Duration::from_secs(5);

/// The most addresses that a host name may stand for; a gateway has a few.
const NAMED_MAX: usize = 256;

/// The proxies that are believed, as the operator writes them: addresses, networks, host names, or `*` for
/// everybody, separated by spaces or commas.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Trusted {
    everybody: bool,
    networks: Vec<IpNet>,
    /// Addresses that were written as such: no participant is expected there.
    addresses: Vec<IpAddr>,
    names: Vec<String>,
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut trusted = Self {
            everybody: false,
            networks: Vec::new(),
            addresses: Vec::new(),
            names: Vec::new(),
        };
        for word in text.split([' ', '\t', '\n', ',']).filter(|word| !word.is_empty()) {
            if word == "*" {
                trusted.everybody = true;
            } else if let Ok(address) = word.parse::<IpAddr>() {
                trusted.addresses.push(address.to_canonical());
            } else if let Ok(network) = word.parse::<IpNet>() {
                trusted.networks.push(network.trunc());
            } else if is_host_name(word) {
                trusted.names.push(word.to_owned());
            } else {
                return Err(format!("`{word}` is no address, network or host name"));
            }
        }
        Ok(trusted)
    }
}

impl TryFrom<String> for Trusted {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Default for Trusted {
    /// The machine itself.
    fn default() -> Self {
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        Self {
            everybody: false,
            networks: Vec::new(),
            addresses: loopback.to_vec(),
            names: Vec::new(),
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, and not digits only: that would be a mistyped address.
fn is_host_name(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    word.len() <= 253
        && word.bytes().all(allowed)
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl Trusted {
    /// Whether `address` is one of them; `named` are the addresses of the host names.
    fn contains(&self, address: IpAddr, named: &HashSet<IpAddr>) -> bool {
        self.everybody
            || self.addresses.contains(&address)
            || self.networks.iter().any(|network| network.contains(&address))
            || named.contains(&address)
    }

    /// The client of a request from `peer` with these `X-Forwarded-For` lines. The lines count as one list; from
    /// its right end, the first that is no proxy is the client. If all are, it is the leftmost.
    ///
    /// # Errors
    /// When the client cannot be known.
    fn client(
        &self,
        peer: IpAddr,
        lines: &[&str],
        named: &HashSet<IpAddr>,
    ) -> Result<IpAddr, Unknown> {
        let peer = peer.to_canonical();
        if !self.contains(peer, named) {
            return Ok(peer);
        }
        let mut hops = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
        if self.everybody {
            return hops.next().map_or(Ok(peer), hop);
        }
        let hops: Vec<&str> = hops.rev().filter(|hop| !hop.is_empty()).take(HOPS_MAX).collect();
        if hops.is_empty()
            && !peer.is_loopback()
            && (self.addresses.contains(&peer) || named.contains(&peer))
        {
            return Err(Unknown::Proxy(peer));
        }
        let mut client = peer;
        for text in hops {
            client = hop(text)?;
            if !self.contains(client, named) {
                break;
            }
        }
        Ok(client)
    }
}

/// One hop: an address, perhaps with a port.
fn hop(text: &str) -> Result<IpAddr, Unknown> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address
        .map(|address| address.to_canonical())
        .map_err(|_| Unknown::NoAddress(text.chars().take(64).collect()))
}

/// Why a participant's address is not known; it can then neither register nor reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// The proxy wrote something else, such as `unknown`.
    NoAddress(String),
    /// The address is that of a proxy, which did not say for whom it asks.
    Proxy(IpAddr),
    /// Somebody asks for another, and no name server says whether it is a trusted proxy.
    Unresolved(IpAddr),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(text) => {
                write!(f, "'{text}' does not appear to be an IPv4 or IPv6 address")
            }
            Self::Unresolved(address) => {
                write!(
                    f,
                    "The hub cannot tell whether {address} is a trusted proxy: names are not resolved"
                )
            }
            Self::Proxy(address) => write!(
                f,
                "The hub cannot see your address: the proxy {address} sends no X-Forwarded-For (setting trusted_proxies)"
            ),
        }
    }
}

/// [`Trusted`] with the addresses of its host names, asked for when they are needed.
#[derive(Debug)]
pub struct Proxies {
    trusted: Trusted,
    named: Mutex<Named>,
}

#[derive(Debug, Clone, Default)]
struct Named {
    addresses: HashSet<IpAddr>,
    /// What each name stood for when it was last resolved, and when.
    last: HashMap<String, (HashSet<IpAddr>, Instant)>,
    /// Some names have no answer.
    incomplete: bool,
    asked: Option<Instant>,
}

impl Proxies {
    /// The proxies that the operator trusts.
    pub fn new(trusted: Trusted) -> Self {
        Self { trusted, named: Mutex::default() }
    }

    /// The client of a request from `peer` with these `X-Forwarded-For` lines.
    ///
    /// # Errors
    /// When the client cannot be known.
    pub async fn client(&self, peer: IpAddr, lines: &[&str]) -> Result<IpAddr, Unknown> {
        let peer = peer.to_canonical();
        if self.trusted.names.is_empty() || self.trusted.contains(peer, &HashSet::new()) {
            return self.trusted.client(peer, lines, &HashSet::new());
        }
        let named = self.named(peer).await;
        if named.incomplete && !lines.is_empty() && !named.addresses.contains(&peer) {
            return Err(Unknown::Unresolved(peer));
        }
        self.trusted.client(peer, lines, &named.addresses)
    }

    /// The addresses of the host names: those at hand if the peer is among them, else asked for anew, at most
    /// once in [`NAMES_FRESH`] whatever the number of requests.
    async fn named(&self, peer: IpAddr) -> Named {
        let mut named = self.named.lock().await;
        let fresh = if named.addresses.contains(&peer) { PROXY_FRESH } else { NAMES_FRESH };
        if named.asked.is_some_and(|asked| asked.elapsed() < fresh) {
            return named.clone();
        }
        let mut answer = Named { last: named.last.clone(), ..Named::default() };
        for name in &self.trusted.names {
            let found = match timeout(NAMES_TIMEOUT, lookup_host((name.as_str(), 0))).await {
                Ok(Ok(found)) => {
                    Some(found.map(|socket| socket.ip().to_canonical()).take(NAMED_MAX).collect())
                }
                Ok(Err(error)) => {
                    log::warn!("the trusted proxy {name} is not resolved: {error}");
                    None
                }
                Err(_) => {
                    log::warn!(
                        "the trusted proxy {name} is not resolved: no answer in {NAMES_TIMEOUT:?}"
                    );
                    None
                }
            };
            answer.take(name, found, Instant::now());
        }
        answer.asked = Some(Instant::now());
        named.clone_from(&answer);
        answer
    }
}

impl Named {
    /// Takes in what a name stands for; without an answer, what it stood for not long ago.
    fn take(&mut self, name: &str, found: Option<HashSet<IpAddr>>, now: Instant) {
        if let Some(found) = found {
            self.addresses.extend(&found);
            self.last.insert(name.to_owned(), (found, now));
            return;
        }
        self.incomplete = true;
        match self.last.get(name) {
            Some((kept, at)) if now.duration_since(*at) <= NAMES_KEPT => {
                self.addresses.extend(kept);
            }
            _ => {
                self.last.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
