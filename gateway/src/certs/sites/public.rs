//! Which names and addresses a public CA could certify.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Last labels under which nobody has a public name: RFC 2606 and 6761, RFC 6762 (`local`, and those
/// of its appendix G), RFC 9476 (`alt`), ICANN's `internal`, and what home routers hand out.
const PRIVATE: [&str; 15] = [
    "alt",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
    "test",
    "workgroup",
];

/// True for a name of the public DNS and for an address that the internet can reach.
pub fn is_public(name: &str) -> bool {
    match address(name) {
        Some(IpAddr::V4(address)) => public_v4(address),
        Some(IpAddr::V6(address)) => public_v6(address),
        None => public_name(name),
    }
}

/// The address that `name` is, if it is one.
pub fn address(name: &str) -> Option<IpAddr> {
    name.parse().ok()
}

fn public_name(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => false,
        Some((rest, last)) => {
            // RFC 8375
            let home = last == "arpa" && rest.rsplit('.').next() == Some("home");
            !home && !PRIVATE.contains(&last)
        }
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // Between a provider and its customers (RFC 6598).
    let shared = first == 100 && second & 0xc0 == 64;
    let reserved = first == 0 || first >= 224;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || shared
        || reserved)
}

fn public_v6(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        Some(address) => public_v4(address),
        // All that is given out is in there (RFC 4291 §2.4).
        None => address.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_internet_can_reach_is_public() {
        for (name, expected) in [
            ("farm.net", true),
            ("a.b.co.uk", true),
            ("example.org", true),
            ("localhost", false),
            ("farm", false),
            ("a.localhost", false),
            ("farm.local", false),
            ("farm.internal", false),
            ("farm.test", false),
            ("farm.lan", false),
            ("farm.home.arpa", false),
            ("home.arpa", false),
            ("xhome.arpa", true),
            ("203.0.113.7", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.0.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("2a01:4f8::1", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_public(name), expected, "{name}");
        }
    }
}
