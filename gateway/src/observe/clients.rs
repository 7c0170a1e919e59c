//! Notices when every client seems to come from one address of the inside: then something in front
//! hides who connects, and services, logs and limits all see that one.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::rules::addresses::is_private;

/// So many connections in a row from one address are no chance.
const STREAK: u32 = 20;

/// The connections of late, from whom.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Option<Streak>>);

#[derive(Clone, Copy, Debug)]
struct Streak {
    address: IpAddr,
    connections: u32,
}

/// What stands in front, by the address that hides all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The gateway of this machine's (or container's) own network: its host passes connections on.
    Host(IpAddr),
    /// A proxy or a load balancer, on this machine or near.
    Proxy(IpAddr),
}

impl Clients {
    /// A connection came from `address`, which is no proxy that the settings name.
    pub fn see(&self, address: IpAddr) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(match *last {
            Some(streak) if streak.address == address => {
                Streak { connections: streak.connections.saturating_add(1), ..streak }
            }
            _ => Streak { address, connections: 1 },
        });
    }

    /// Who hides everybody, if somebody does; `gateways` are the routers of our own networks.
    pub fn hidden(&self, gateways: &[IpAddr]) -> Option<Hidden> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Streak { address, connections } = last?;
        match connections >= STREAK && is_private(address) {
            false => None,
            true if gateways.contains(&address) => Some(Hidden::Host(address)),
            true => Some(Hidden::Proxy(address)),
        }
    }
}

impl Hidden {
    /// What to do about it.
    pub fn remedy(self) -> String {
        match self {
            Self::Host(address) => format!(
                "Each of the last {STREAK} connections came from {address}, the host of this \
                 container: it passes connections on and hides who makes them. Where all clients are \
                 on the host itself, nothing is wrong. Else, with Docker as root: do not set \
                 \"iptables\": false in /etc/docker/daemon.json, and for clients that come by IPv6 give the \
                 network `outside` `enable_ipv6: true`; with \"userland-proxy\": false nothing is passed on \
                 unseen. Rootless Docker: start it with \
                 DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=slirp4netns (rootless Podman: \
                 --network slirp4netns:port_handler=slirp4netns, or pasta). Or run the gateway with \
                 network_mode: host. Docker Desktop always hides clients."
            ),
            Self::Proxy(address) => format!(
                "Each of the last {STREAK} connections came from {address}, a private address. Where \
                 that is one client on your own network, nothing is wrong. If a load balancer or proxy is \
                 there, let it send a PROXY protocol header and set proxy_protocol_from = \
                 \"{address}\"; or, if it ends TLS itself and sends X-Forwarded-For, set \
                 trusted_proxies = \"{address}\"."
            ),
        }
    }
}

/// The routers in the kernel's table of IPv4 routes, as `/proc/net/route` has it: `proc(5)`, the
/// third column, hexadecimal in the machine's own byte order.
pub fn gateways(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let number = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
        (number != 0).then(|| IpAddr::from(number.to_ne_bytes()))
    };
    table.lines().skip(1).filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(addresses: impl IntoIterator<Item = [u8; 4]>) -> Clients {
        let clients = Clients::default();
        addresses.into_iter().for_each(|address| clients.see(address.into()));
        clients
    }

    #[test]
    fn many_in_a_row_from_one_private_address_are_told() {
        const N: usize = STREAK as usize;
        let (bridge, balancer, public) = ([172, 18, 0, 1], [10, 0, 0, 7], [192, 0, 2, 1]);
        let gateways = [bridge.into()];
        for (clients, expected) in [
            (seen([]), None),
            (seen([bridge; N]), Some(Hidden::Host(bridge.into()))),
            (seen([bridge; N - 1]), None),
            (seen([balancer; N]), Some(Hidden::Proxy(balancer.into()))),
            (seen([[127, 0, 0, 1]; N]), Some(Hidden::Proxy([127, 0, 0, 1].into()))),
            (seen([public; N]), None),
            (seen([bridge; N].into_iter().chain([public])), None),
            (seen([public; N].into_iter().chain([bridge; N])), Some(Hidden::Host(bridge.into()))),
        ] {
            assert_eq!(clients.hidden(&gateways), expected, "{clients:?}");
        }
    }

    #[test]
    fn the_remedy_names_the_address_and_the_setting() {
        let address = [10, 0, 0, 7].into();
        let proxy = Hidden::Proxy(address).remedy();
        assert!(proxy.contains("proxy_protocol_from = \"10.0.0.7\""), "{proxy}");
        let host = Hidden::Host(address).remedy();
        assert!(host.contains("\"userland-proxy\": false"), "{host}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_names_the_routers() {
        let table = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t00000000\t010012AC\t0003\n\
                     eth0\t000012AC\t00000000\t0001\n\
                     junk\n";
        assert_eq!(gateways(table), [IpAddr::from([172, 18, 0, 1])]);
        assert_eq!(gateways(""), [] as [IpAddr; 0]);
    }
}
