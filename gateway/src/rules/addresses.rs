//! How many connections and requests each client has, and whether it may have one more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Counts by client. There are no more entries than connections, so what bounds those bounds this.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<Client, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    /// Counted by each of its connections, without the table's lock.
    requests: Arc<AtomicUsize>,
}

/// Who counts as one client: an IPv4 address, or a /64 of IPv6, the least that a provider gives
/// a customer (RFC 6177), who may use every address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client(IpAddr);

impl Client {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) >> 64 << 64;
                Ipv6Addr::from(network).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl Addresses {
    /// Counts one more connection of the client at `address`, until what is returned is dropped;
    /// `None` when it has `most` already.
    pub fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Entered> {
        let client = Client::of(address);
        let mut counts = self.counts();
        if counts.get(&client).map_or(0, |count| count.connections) >= most {
            return None;
        }
        let count = counts.entry(client).or_default();
        count.connections += 1;
        let requests = Arc::clone(&count.requests);
        Some(Entered { addresses: Arc::clone(self), client, requests, requests_most: usize::MAX })
    }

    /// Sections under this lock are short and never await.
    fn counts(&self) -> MutexGuard<'_, HashMap<Client, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that counts.
#[derive(Debug)]
pub struct Entered {
    addresses: Arc<Addresses>,
    client: Client,
    requests: Arc<AtomicUsize>,
    requests_most: usize,
}

impl Entered {
    /// Its client may have `most` requests at once.
    pub fn allow(mut self, most: usize) -> Self {
        self.requests_most = most;
        self
    }

    /// Counts one more request of the client, until [`Self::end`]; false when it has as many as it
    /// may have already.
    pub fn begin(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) < self.requests_most
    }

    /// One request less.
    pub fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            count.connections -= 1;
            if count.connections == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// True for an address that is no one client's on the internet: this machine's, or a private
/// network's, behind which Docker's proxy or a NAT may hide everybody.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // 100.64.0.0/10: a provider's own NAT (RFC 6598).
            let shared = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_its_own_count_and_gets_its_places_back() {
        let addresses = Arc::new(Addresses::default());
        let one = addresses.enter(ip("192.0.2.1"), 2).unwrap();
        let two = addresses.enter(ip("::ffff:192.0.2.1"), 2).unwrap();
        assert!(addresses.enter(ip("192.0.2.1"), 2).is_none());
        assert!(addresses.enter(ip("192.0.2.2"), 2).is_some());
        drop(one);
        assert!(addresses.enter(ip("192.0.2.1"), 2).is_some());
        drop(two);
        assert_eq!(addresses.counts().len(), 0);
    }

    #[test]
    fn all_connections_of_a_client_share_its_requests() {
        let addresses = Arc::new(Addresses::default());
        let enter = |client| addresses.enter(ip(client), 2).unwrap().allow(2);
        let (one, two, other) = (enter("192.0.2.1"), enter("192.0.2.1"), enter("192.0.2.2"));
        assert!(one.begin() && two.begin());
        assert!(!one.begin());
        assert!(other.begin());
        one.end();
        two.end();
        assert!(one.begin());
        assert!(!two.begin());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let addresses = Arc::new(Addresses::default());
        let _one = addresses.enter(ip("2001:db8::1"), 1).unwrap();
        assert!(addresses.enter(ip("2001:db8::ffff:2"), 1).is_none());
        assert!(addresses.enter(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn private_addresses_may_stand_for_many() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.18.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "::ffff:172.18.0.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "8.8.8.8", "2001:db8::1"] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }

    proptest! {
        #[test]
        fn it_counts_what_is_open(steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..60)) {
            let addresses = Arc::new(Addresses::default());
            let mut open: HashMap<u8, Vec<Entered>> = HashMap::new();
            for (client, enters) in steps {
                let mine = open.entry(client).or_default();
                if enters {
                    let entered = addresses.enter([10, 0, 0, client].into(), 3);
                    prop_assert_eq!(entered.is_some(), mine.len() < 3);
                    mine.extend(entered);
                } else {
                    mine.pop();
                }
            }
            let clients = open.values().filter(|mine| !mine.is_empty()).count();
            prop_assert_eq!(addresses.counts().len(), clients);
        }
    }
}
