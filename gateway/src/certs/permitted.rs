//! For which names a private root may sign, as name constraints say it (RFC 5280 §4.2.1.10), so that
//! a root that is stolen forges nobody else's site.

use std::net::IpAddr;

use ipnet::IpNet;
use rcgen::CidrSubnet;
use rcgen::GeneralSubtree;
use rcgen::NameConstraints;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::GeneralSubtree as ParsedSubtree;

/// Every address, excluded where none is permitted.
const ALL_ADDRESSES: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// What `localhost` may resolve to (RFC 6761 §6.3).
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Names and addresses; `None` where there is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// Each with all below it.
    names: Option<Vec<String>>,
    addresses: Option<Vec<IpNet>>,
}

impl Permitted {
    /// No more than `names` (a wildcard counts as what it is below) and what is below them.
    pub fn only(names: &[String]) -> Self {
        let mut permitted = Self { names: Some(Vec::new()), addresses: Some(Vec::new()) };
        let mut bases: Vec<&str> =
            names.iter().map(|name| name.strip_prefix("*.").unwrap_or(name)).collect();
        // The widest first, so that what another one covers is left out.
        bases.sort_by_key(|base| (base.parse::<IpAddr>().is_ok(), base.len()));
        for base in bases {
            if permitted.allows(base) {
                continue;
            }
            if let (Ok(address), Some(known)) = (base.parse::<IpAddr>(), &mut permitted.addresses) {
                known.push(IpNet::from(address));
            } else if let Some(known) = &mut permitted.names {
                known.push(base.to_owned());
            }
            if let ("localhost", Some(known)) = (base, &mut permitted.addresses) {
                known.extend(LOOPBACK.iter().filter_map(|net| net.parse::<IpNet>().ok()));
            }
        }
        permitted
    }

    /// What `root` may sign for, as far as we read constraints: by permitted names and addresses,
    /// and by the exclusion of all of a kind.
    pub fn read(root: &X509Certificate<'_>) -> Self {
        let mut permitted = Self { names: None, addresses: None };
        let Ok(Some(extension)) = root.name_constraints() else { return permitted };
        let bases = |trees: &Option<Vec<ParsedSubtree<'_>>>| -> (Vec<String>, Vec<IpNet>) {
            let trees = trees.as_deref().unwrap_or_default();
            let names = trees.iter().filter_map(|tree| match &tree.base {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            });
            let nets = trees.iter().filter_map(|tree| match &tree.base {
                GeneralName::IPAddress(octets) => net(octets),
                _ => None,
            });
            (names.collect(), nets.collect())
        };
        let (names, nets) = bases(&extension.value.permitted_subtrees);
        let (no_names, no_nets) = bases(&extension.value.excluded_subtrees);
        if !names.is_empty() || no_names.iter().any(String::is_empty) {
            permitted.names = Some(names);
        }
        if !nets.is_empty() || no_nets.iter().any(|net| net.prefix_len() == 0) {
            permitted.addresses = Some(nets);
        }
        permitted
    }

    /// Whether a certificate for `name` (or the wildcard that it is) is permitted.
    pub fn allows(&self, name: &str) -> bool {
        match name.parse::<IpAddr>() {
            Ok(address) => {
                self.addresses.as_ref().is_none_or(|nets| nets.iter().any(|n| n.contains(&address)))
            }
            Err(_) => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                let below = |base: &String| {
                    name.strip_suffix(base.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                self.names.as_ref().is_none_or(|bases| bases.iter().any(below))
            }
        }
    }

    /// True where there is no bound on names or none on addresses.
    pub fn is_open(&self) -> bool {
        self.names.is_none() || self.addresses.is_none()
    }

    /// As the extension. Of a kind of which nothing is permitted all is excluded: what an extension
    /// does not speak of it does not bind.
    pub fn constraints(&self) -> NameConstraints {
        let mut constraints =
            NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: Vec::new() };
        let names = self.names.as_deref().unwrap_or_default();
        let nets = self.addresses.as_deref().unwrap_or_default();
        let permitted = &mut constraints.permitted_subtrees;
        permitted.extend(names.iter().cloned().map(GeneralSubtree::DnsName));
        permitted.extend(nets.iter().map(subtree));
        let excluded = &mut constraints.excluded_subtrees;
        if names.is_empty() && self.names.is_some() {
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        if nets.is_empty() && self.addresses.is_some() {
            let all = ALL_ADDRESSES.iter().filter_map(|net| net.parse::<IpNet>().ok());
            excluded.extend(all.map(|net| subtree(&net)));
        }
        constraints
    }
}

fn subtree(net: &IpNet) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net.network(), net.prefix_len()))
}

/// An address as a certificate writes it.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

/// An address and its mask, one after the other.
fn net(octets: &[u8]) -> Option<IpNet> {
    let (base, mask) = octets.split_at_checked(octets.len() / 2)?;
    IpNet::with_netmask(address(base)?, address(mask)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Permitted {
        Permitted::only(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_permits_what_is_below_it_and_nothing_else() {
        let permitted = only(&["dice.farm.net", "farm.net", "*.farm.net", "192.0.2.1"]);
        for (name, expected) in [
            ("farm.net", true),
            ("*.farm.net", true),
            ("a.b.farm.net", true),
            ("xfarm.net", false),
            ("net", false),
            ("*.net", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::1", false),
        ] {
            assert_eq!(permitted.allows(name), expected, "{name}");
        }
        assert_eq!(permitted.names.as_deref(), Some(&["farm.net".to_owned()][..]));
        assert!(!permitted.is_open());
    }

    #[test]
    fn localhost_brings_the_loopback_addresses() {
        let permitted = only(&["localhost", "127.0.0.1", "::1"]);
        assert_eq!(permitted, only(&["localhost"]));
        for (name, expected) in [
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("128.0.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(permitted.allows(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_excluded() {
        let constraints = only(&["farm.net"]).constraints();
        assert_eq!(constraints.excluded_subtrees.len(), 2);
        let constraints = only(&["192.0.2.1"]).constraints();
        assert_eq!(constraints.excluded_subtrees, [GeneralSubtree::DnsName(String::new())]);
        assert!(only(&["localhost"]).constraints().excluded_subtrees.is_empty());
    }
}
