//! Which sites there are, and where the certificate of each comes from: decided by what is
//! configured alone.

pub mod given;
pub mod public;

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::certs::sites::given::GivenSite;
use crate::config::Config;
use crate::edge::certificates::covers;

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

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The private CA of this installation.
    Internal,
    /// A public CA, asked by ACME (RFC 8555). Until its certificate is there, the site is served
    /// by the private CA's.
    Acme,
    /// Files that somebody else keeps.
    Files { chain: PathBuf, key: PathBuf },
}

impl Mode {
    /// One word, as `check`, the status and the settings write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Acme => "acme",
            Self::Files { .. } => "files",
        }
    }
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

/// The sites for `domain` and the `hosts` that routes name: those that are `given` by files, one for
/// each public name when `acme` is configured, and one for all the rest. The site that serves
/// `domain` is not always the first.
///
/// # Errors
///
/// When a name is in two of the given sites.
pub fn plan<'a>(
    domain: &'a str,
    hosts: impl Iterator<Item = &'a str>,
    given: &[GivenSite],
    acme: bool,
) -> Result<Vec<Site>, String> {
    let mut sites = Vec::new();
    let mut taken = BTreeSet::new();
    for site in given {
        if let Some(twice) = site.names.iter().find(|name| !taken.insert(name.as_str())) {
            return Err(format!("sites: `{twice}` is there twice"));
        }
        sites.push(Site {
            name: site.names[0].replacen('*', "_", 1),
            names: site.names.clone(),
            mode: Mode::Files { chain: site.chain.clone(), key: site.key.clone() },
            why: "its files are configured".to_owned(),
        });
    }
    let mut rest: Vec<&str> = Vec::new();
    for name in std::iter::once(domain).chain(hosts) {
        let has_files = given.iter().any(|site| covers(&site.names, name));
        // An underscore is no part of a name in a certificate (RFC 5280 §4.2.1.6).
        if !has_files && !rest.contains(&name) && !name.contains('_') {
            rest.push(name);
        }
    }
    let (public, private): (Vec<&str>, Vec<&str>) =
        rest.into_iter().partition(|name| acme && public::is_public(name));
    sites.extend(public.into_iter().map(|name| Site {
        name: name.to_owned(),
        names: vec![name.to_owned()],
        mode: Mode::Acme,
        why: "it is public and ACME is configured".to_owned(),
    }));
    sites.extend(internal(domain, &private));
    Ok(sites)
}

/// All names of the sites of that `mode`.
pub fn names_of(sites: &[Site], mode: &Mode) -> Vec<String> {
    let sites = sites.iter().filter(|site| site.mode == *mode);
    sites.flat_map(|site| site.names.clone()).collect()
}

/// The one site of all names that have no other: with everything one level below a domain of two
/// labels or more, and for `localhost` the loopback addresses.
fn internal(domain: &str, names: &[&str]) -> Option<Site> {
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
    for (word, public) in [("private", false), ("public, but ACME is not configured", true)] {
        let alike: Vec<&str> =
            names.iter().copied().filter(|name| public::is_public(name) == public).collect();
        if let Some(one) = alike.first() {
            let others = if alike.len() > 1 { " and others are" } else { " is" };
            let separator = if why.is_empty() { "" } else { "; " };
            let _: fmt::Result = write!(why, "{separator}{one}{others} {word}");
        }
    }
    Some(Site { name: (*first).to_owned(), names: all, mode: Mode::Internal, why })
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
    }
}
