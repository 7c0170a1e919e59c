//! Which sites there are, and where the certificate of each comes from: decided by what is
//! configured alone.

pub mod given;
pub mod mode;
pub mod public;

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use crate::certs::sites::given::GivenSite;
pub use crate::certs::sites::mode::Mode;
use crate::config::Config;
use crate::edge::certificates::covers;

/// Why names have the private CA's certificate.
const PRIVATE: &str = "private";
const NO_ACME: &str = "public, but ACME is not configured";
const CONFIGURED: &str = "configured so";

/// One certificate, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its folder and its label: the first of `names` (`_.example.org` for a wildcard).
    pub name: String,
    /// Names in lower case, `*.` ones included, and addresses as text without brackets; never empty.
    pub names: Vec<String>,
    pub mode: Mode,
    /// Why it has that mode, for people.
    pub why: String,
}

impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, mode, why, .. } = self;
        write!(out, "site {name}: {} ({why}), for {}", mode.word(), self.names.join(" "))
    }
}

/// The sites that the settings ask for.
///
/// # Errors
///
/// See [`plan`].
pub fn configured(config: &Config) -> Result<Vec<Site>, String> {
    let domain = config.domain.as_str();
    plan(domain, config.routes.hosts(), config.sites.as_slice(), config.acme_is_configured())
}

/// The sites for `domain` and the `hosts` that routes name: those that are `given`, one for each
/// other public name when `acme` is configured, and one for all the rest. The site that serves
/// `domain` is not always the first.
///
/// # Errors
///
/// When a name is in two of the given sites.
pub fn plan<'a>(
    domain: &'a str,
    hosts: impl Iterator<Item = &'a str>,
    given: &'a [GivenSite],
    acme: bool,
) -> Result<Vec<Site>, String> {
    let mut taken = BTreeSet::new();
    for name in given.iter().flat_map(|site| &site.names) {
        if !taken.insert(name.as_str()) {
            return Err(format!("sites: `{name}` is there twice"));
        }
    }
    // The private CA has one certificate for all its names.
    let (kept, own): (Vec<&GivenSite>, Vec<&GivenSite>) =
        given.iter().partition(|site| site.mode == Mode::Internal);
    let mut sites: Vec<Site> = own
        .iter()
        .map(|site| Site {
            name: folder(&site.names[0]),
            names: site.names.clone(),
            mode: site.mode.clone(),
            why: match site.mode {
                Mode::Files { .. } => "its files are configured".to_owned(),
                _ => "it is configured so".to_owned(),
            },
        })
        .collect();
    // What is written out beats a wildcard.
    let of = |name: &str| {
        let exact = given.iter().find(|site| site.names.iter().any(|known| known == name));
        exact.or_else(|| given.iter().find(|site| covers(&site.names, name)))
    };
    let names = kept.iter().flat_map(|site| &site.names).map(String::as_str);
    let (mut public, mut private, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for name in std::iter::once(domain).chain(hosts).chain(names) {
        // An underscore is no part of a name in a certificate (RFC 5280 §4.2.1.6).
        if name.contains('_') || !seen.insert(name) {
            continue;
        }
        match of(name).map(|site| &site.mode) {
            None if acme && public::is_public(name) => public.push(name),
            None => private.push(name),
            Some(Mode::Internal) => {
                private.push(name);
                kept.push(name);
            }
            Some(_) => {}
        }
    }
    sites.extend(public.into_iter().map(|name| Site {
        name: name.to_owned(),
        names: vec![name.to_owned()],
        mode: Mode::Acme,
        why: "it is public and ACME is configured".to_owned(),
    }));
    sites.extend(internal(domain, &private, &kept));
    Ok(sites)
}

/// The folder and the label of a site whose first name that is.
fn folder(name: &str) -> String {
    name.replacen('*', "_", 1)
}

/// All names of the sites of that `mode`.
pub fn names_of(sites: &[Site], mode: &Mode) -> Vec<String> {
    let sites = sites.iter().filter(|site| site.mode == *mode);
    sites.flat_map(|site| site.names.clone()).collect()
}

/// The one site of all names that have no other: with everything one level below a domain of two
/// labels or more, and for `localhost` the loopback addresses.
fn internal(domain: &str, names: &[&str], kept: &[&str]) -> Option<Site> {
    let first = names.first()?;
    let mut all: Vec<String> = vec![(*first).to_owned()];
    if *first == domain {
        // Firefox and rustls refuse a certificate under name constraints whole that has a wildcard with
        // one label below it, `*.localhost` say.
        if public::address(domain).is_none() && domain.contains('.') {
            all.push(format!("*.{domain}"));
        }
        if domain == "localhost" {
            all.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
    }
    for name in &names[1..] {
        if !all.iter().any(|known| known == name) {
            all.push((*name).to_owned());
        }
    }
    let mut why = String::new();
    let reason = |name: &str| match (kept.contains(&name), public::is_public(name)) {
        (true, _) => CONFIGURED,
        (false, false) => PRIVATE,
        (false, true) => NO_ACME,
    };
    for word in [PRIVATE, NO_ACME, CONFIGURED] {
        let alike: Vec<&str> = names.iter().copied().filter(|name| reason(name) == word).collect();
        if let Some(one) = alike.first() {
            let others = if alike.len() > 1 { " and others are" } else { " is" };
            let separator = if why.is_empty() { "" } else { "; " };
            let _: fmt::Result = write!(why, "{separator}{one}{others} {word}");
        }
    }
    Some(Site { name: folder(first), names: all, mode: Mode::Internal, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(domain: &str, hosts: &[&str], given: &str, acme: bool) -> Vec<String> {
        let given: given::GivenSites = given.to_owned().try_into().unwrap();
        let sites = plan(domain, hosts.iter().copied(), given.as_slice(), acme).unwrap();
        let line =
            |site: &Site| format!("{} {}: {}", site.mode.word(), site.name, site.names.join(" "));
        sites.iter().map(line).collect()
    }

    #[test]
    fn private_names_share_one_site_with_a_wildcard() {
        for acme in [false, true] {
            assert_eq!(
                planned("localhost", &["dice.localhost", "localhost"], "", acme),
                ["internal localhost: localhost 127.0.0.1 ::1 dice.localhost"],
            );
            assert_eq!(
                planned("192.168.1.2", &[], "", acme),
                ["internal 192.168.1.2: 192.168.1.2"]
            );
        }
    }

    #[test]
    fn with_acme_each_public_name_is_a_site_of_its_own() {
        let hosts = ["dice.farm.net", "farm.lan", "a_b.farm.net", "203.0.113.7"];
        assert_eq!(
            planned("farm.net", &hosts, "", true),
            [
                "acme farm.net: farm.net",
                "acme dice.farm.net: dice.farm.net",
                "acme 203.0.113.7: 203.0.113.7",
                "internal farm.lan: farm.lan",
            ],
        );
        assert_eq!(
            planned("farm.net", &hosts, "", false),
            ["internal farm.net: farm.net *.farm.net dice.farm.net farm.lan 203.0.113.7"],
        );
    }

    #[test]
    fn files_come_first_and_cover_what_their_names_do() {
        assert_eq!(
            planned("farm.net", &["dice.farm.net", "a.b.farm.net"], "*.farm.net=/c,/k", true),
            [
                "files _.farm.net: *.farm.net",
                "acme farm.net: farm.net",
                "acme a.b.farm.net: a.b.farm.net",
            ],
        );
        assert_eq!(planned("farm.net", &[], "farm.net=/c,/k", false), ["files farm.net: farm.net"]);
    }

    #[test]
    fn given_names_share_one_certificate_by_acme() {
        for acme in [false, true] {
            let planned =
                planned("farm.net", &["www.farm.net"], "farm.net,www.farm.net=acme", acme);
            assert_eq!(planned, ["acme farm.net: farm.net www.farm.net"]);
        }
        assert_eq!(
            planned("farm.net", &["b.net", "c.net"], "c.net,d.net=acme *.farm.net=/c,/k", true),
            [
                "acme c.net: c.net d.net",
                "files _.farm.net: *.farm.net",
                "acme farm.net: farm.net",
                "acme b.net: b.net",
            ],
        );
    }

    #[test]
    fn given_public_names_stay_with_the_private_ca() {
        assert_eq!(
            planned("farm.net", &["a.farm.net", "b.net"], "b.net,c.net=internal", true),
            [
                "acme farm.net: farm.net",
                "acme a.farm.net: a.farm.net",
                "internal b.net: b.net c.net"
            ],
        );
        assert_eq!(
            planned("farm.net", &["b.net"], "farm.net=internal", true),
            ["acme b.net: b.net", "internal farm.net: farm.net *.farm.net"],
        );
        // What is written out beats another site's wildcard.
        assert_eq!(
            planned("localhost", &["a.b.net"], "*.b.net=/c,/k a.b.net=internal", false),
            ["files _.b.net: *.b.net", "internal localhost: localhost 127.0.0.1 ::1 a.b.net"],
        );
        assert_eq!(
            planned("b.net", &["x.a.net"], "*.a.net=internal b.net=/c,/k", false),
            ["files b.net: b.net", "internal x.a.net: x.a.net *.a.net"],
        );
        assert_eq!(
            planned("b.net", &["x.a.net", "y.a.net"], "*.a.net=internal y.a.net=acme", true),
            ["acme y.a.net: y.a.net", "acme b.net: b.net", "internal x.a.net: x.a.net *.a.net"],
        );
        assert_eq!(
            planned("b.net", &[], "*.a.net=internal b.net=acme", true),
            ["acme b.net: b.net", "internal _.a.net: *.a.net"],
        );
    }

    #[test]
    fn a_name_in_two_given_sites_is_refused() {
        let given: given::GivenSites =
            "a.net,b.net=/c,/k B.net=/d,/l".to_owned().try_into().unwrap();
        let error = plan("localhost", [].into_iter(), given.as_slice(), false).unwrap_err();
        assert!(error.contains("`b.net` is there twice"), "{error}");
    }

    #[test]
    fn the_reason_names_what_it_is_about() {
        let site = |domain: &str, hosts: &[&str]| {
            plan(domain, hosts.iter().copied(), &[], false).unwrap().remove(0).why
        };
        assert_eq!(site("localhost", &["a.localhost"]), "localhost and others are private");
        assert_eq!(site("farm.net", &[]), "farm.net is public, but ACME is not configured");
        let kept: given::GivenSites = "b.net=internal".to_owned().try_into().unwrap();
        let sites = plan("a.lan", [].into_iter(), kept.as_slice(), true).unwrap();
        assert_eq!(sites[0].why, "a.lan is private; b.net is configured so");
    }
}
