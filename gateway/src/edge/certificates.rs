//! Certificates by name, swapped while running.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

use crate::certs::acme::challenges;
use crate::certs::acme::challenges::Challenges;
use crate::certs::board::Source;
use crate::certs::leaf::Leaf;

/// A certificate in use.
#[derive(Debug)]
pub struct Served {
    key: Arc<CertifiedKey>,
    /// What it covers, by itself.
    pub names: Vec<String>,
    /// Clients trust it without being told: not the private CA's.
    pub public: bool,
}

impl Served {
    fn new(leaf: &Leaf, source: Source) -> Arc<Self> {
        let public = source != Source::Internal;
        Arc::new(Self { key: Arc::clone(&leaf.certified), names: leaf.names.clone(), public })
    }

    /// Whether it covers `host` (lower case, an address without brackets).
    pub fn covers(&self, host: &str) -> bool {
        covers(&self.names, host)
    }
}

/// The certificates in use. A new handshake sees a swap at once; connections live on.
#[derive(Debug)]
pub struct Certificates {
    /// Who asks for no name that we know gets this one's.
    domain: String,
    shelf: ArcSwap<Shelf>,
}

#[derive(Debug, Default, Clone)]
struct Shelf {
    /// The private CA's: for its names where no site has one.
    private: Option<Arc<Served>>,
    /// By site: the names that it answers to, and its certificate.
    sites: BTreeMap<String, (Vec<String>, Arc<Served>)>,
    /// By name in lower case; `*.example.org` covers one level.
    by_name: HashMap<String, Arc<Served>>,
    /// For clients that name a server that we do not know.
    other: Option<Arc<Served>>,
    /// For clients that name none: most of them asked for an address.
    nameless: Option<Arc<Served>>,
}

impl Certificates {
    /// None yet.
    pub fn new(domain: &str) -> Self {
        Self { domain: domain.to_owned(), shelf: ArcSwap::default() }
    }

    /// Serves the leaf of the private CA for its names where no site has a certificate.
    pub fn set_private(&self, leaf: &Leaf) {
        let served = Served::new(leaf, Source::Internal);
        self.change(|shelf| shelf.private = Some(Arc::clone(&served)));
    }

    /// Serves `leaf` for the `names` of `site`.
    pub fn set(&self, site: &str, names: &[String], leaf: &Leaf, source: Source) {
        let served = Served::new(leaf, source);
        self.change(|shelf| {
            shelf.sites.insert(site.to_owned(), (names.to_vec(), Arc::clone(&served)));
        });
    }

    /// Drops the certificates of sites that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.change(|shelf| shelf.sites.retain(|site, _| keep(site)));
    }

    fn change(&self, change: impl Fn(&mut Shelf)) {
        self.shelf.rcu(|shelf| {
            let mut shelf = Shelf::clone(shelf);
            change(&mut shelf);
            shelf.index(&self.domain);
            shelf
        });
    }

    /// The certificate that a client gets who asks for `name`.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Served>> {
        let shelf = self.shelf.load();
        match name {
            Some(name) => shelf.named(name).or(shelf.other.as_ref()).cloned(),
            None => shelf.nameless.clone(),
        }
    }
}

impl Shelf {
    fn index(&mut self, domain: &str) {
        self.by_name.clear();
        if let Some(private) = &self.private {
            let names = private.names.iter().map(|name| (name.clone(), Arc::clone(private)));
            self.by_name.extend(names);
        }
        for (names, served) in self.sites.values() {
            self.by_name.extend(names.iter().map(|name| (name.clone(), Arc::clone(served))));
        }
        let first = self.sites.values().next().map(|(_, served)| served);
        let other = self.named(domain).or(self.private.as_ref()).or(first).cloned();
        let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
        let site = self.sites.values().find(|(names, _)| names.iter().any(is_address));
        self.nameless = site.map(|(_, served)| Arc::clone(served)).or_else(|| other.clone());
        self.other = other;
    }

    fn named(&self, name: &str) -> Option<&Arc<Served>> {
        self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

/// True when a certificate for `names` covers `host`: by name, or by a wildcard one level above
/// (RFC 6125 §6.4.3).
pub fn covers(names: &[String], host: &str) -> bool {
    names.iter().any(|name| match name.strip_prefix('*') {
        Some(parent) => host.split_once('.').is_some_and(|(first, _)| {
            !first.is_empty() && host.strip_prefix(first) == Some(parent)
        }),
        None => name == host,
    })
}

/// Lets rustls ask; the trait wants a type of its own around the shared handles.
#[derive(Debug)]
pub struct ByName {
    pub certificates: Arc<Certificates>,
    pub challenges: Challenges,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        let name = hello.server_name();
        if hello.alpn().is_some_and(|offer| offer.eq([challenges::ALPN])) {
            // None ends the handshake: an ACME server must not take any other certificate.
            return self.challenges.certificate(name);
        }
        self.certificates.find(name).map(|served| Arc::clone(&served.key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::*;
    use crate::certs::ca;
    use crate::certs::ca::Authority;
    use crate::certs::permitted::Permitted;

    #[test]
    fn a_wildcard_covers_one_level() {
        let names = ["example.org", "*.example.org", "192.0.2.1"].map(str::to_owned);
        for (host, expected) in [
            ("example.org", true),
            ("a.example.org", true),
            ("a.b.example.org", false),
            (".example.org", false),
            ("xexample.org", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("org", false),
        ] {
            assert_eq!(covers(&names, host), expected, "{host}");
        }
    }

    #[test]
    fn a_site_beats_the_private_leaf_and_a_name_beats_a_wildcard() {
        let now = OffsetDateTime::now_utc();
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let all = names(&["org", "192.0.2.1"]);
        let root = ca::new_root(&Permitted::only(&all), now).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let authority = Authority::open(&root.certificate, Some(&root.key), provider, now).unwrap();
        let leaf = |names: &[String]| {
            let pems = authority.issue(names, now, Duration::from_secs(3600)).unwrap().unwrap();
            authority.fit(&pems, names, now).unwrap()
        };
        let shelf = Certificates::new("a.org");
        assert!(shelf.find(Some("a.org")).is_none());
        let private = names(&["a.org", "*.a.org", "b.org"]);
        shelf.set_private(&leaf(&private));
        let found = |name: Option<&str>| shelf.find(name).unwrap().names.join(" ");
        assert_eq!(found(Some("b.org")), private.join(" "));
        shelf.set("b.org", &names(&["b.org"]), &leaf(&names(&["b.org"])), Source::Acme);
        let wild = names(&["*.a.org"]);
        shelf.set("_.a.org", &wild, &leaf(&wild), Source::Files);
        for (name, expected) in [
            (Some("b.org"), "b.org"),
            (Some("a.org"), "a.org *.a.org b.org"),
            (Some("x.a.org"), "*.a.org"),
            (Some("x.y.a.org"), "a.org *.a.org b.org"),
            (Some("unknown.net"), "a.org *.a.org b.org"),
            (None, "a.org *.a.org b.org"),
        ] {
            assert_eq!(found(name), expected, "{name:?}");
        }
        let address = names(&["192.0.2.1"]);
        shelf.set("192.0.2.1", &address, &leaf(&address), Source::Acme);
        assert_eq!(found(None), "192.0.2.1");
        assert!(shelf.find(Some("b.org")).unwrap().public);
        shelf.retain(|site| site != "b.org");
        assert_eq!(found(Some("b.org")), private.join(" "));
        assert!(!shelf.find(Some("b.org")).unwrap().public);
    }
}
