//! Sites as settings write them: which names share a certificate, and where that comes from.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::certs::sites::mode::Mode;
use crate::certs::sites::public;
use crate::rules::domain::Domain;

/// Most sites in one list, and names of one: a plan compares each with each.
const SITES_MAX: usize = 200;
const NAMES_MAX: usize = 100;

/// One site: a table `[[site]]` of a TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct GivenSite {
    /// In lower case, at least one; `*.` may lead a name.
    pub names: Vec<String>,
    pub mode: Mode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    names: Vec<String>,
    mode: Option<Word>,
    /// The certificate, then those between it and the root, in PEM.
    chain: Option<PathBuf>,
    /// Its key, in PEM.
    key: Option<PathBuf>,
}

/// See [`Mode`].
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Acme,
    Internal,
    Files,
}

impl TryFrom<Raw> for GivenSite {
    type Error = String;

    fn try_from(Raw { names, mode, chain, key }: Raw) -> Result<Self, String> {
        if names.is_empty() || names.len() > NAMES_MAX {
            return Err(format!("a site has from 1 to {NAMES_MAX} names"));
        }
        let names: Vec<String> = names.into_iter().map(name).collect::<Result<_, _>>()?;
        let mode = match (mode, chain, key) {
            (None | Some(Word::Files), Some(chain), Some(key)) => {
                if chain.as_os_str().is_empty() || key.as_os_str().is_empty() {
                    return Err("a site has the paths of its `chain` and of its `key`".to_owned());
                }
                Mode::Files { chain, key }
            }
            (Some(Word::Acme), None, None) => {
                names.iter().try_for_each(|name| provable(name))?;
                Mode::Acme
            }
            (Some(Word::Internal), None, None) => {
                names.iter().try_for_each(|name| usable(name))?;
                Mode::Internal
            }
            (Some(Word::Acme | Word::Internal), ..) => {
                return Err("a site with `chain` and `key` has `mode = \"files\"`, or none \
                            written: leave out either"
                    .to_owned());
            }
            (None | Some(Word::Files), ..) => {
                return Err("a site has `chain` and `key`, the paths of PEM files, or else \
                            `mode = \"acme\"` or `mode = \"internal\"`"
                    .to_owned());
            }
        };
        Ok(Self { names, mode })
    }
}

fn name(text: String) -> Result<String, String> {
    let (star, rest) = match text.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", text.as_str()),
    };
    let domain = Domain::try_from(rest.to_owned())?;
    if !star.is_empty() && public::address(domain.as_str()).is_some() {
        return Err(format!("`{text}`: an address has no wildcard"));
    }
    Ok(format!("{star}{}", domain.as_str()))
}

/// Whether a public CA can be shown, by HTTP-01 or TLS-ALPN-01, that `name` is ours.
fn provable(name: &str) -> Result<(), String> {
    if name.starts_with("*.") {
        // RFC 8555 §7.1.3 has wildcards, and CAs take DNS-01 alone for them.
        return Err(format!(
            "`{name}`: a wildcard can be proven by DNS alone, which the gateway does not do: name \
             each host, or give `chain` and `key`"
        ));
    }
    match public::is_public(name) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is private, no public CA can certify it: use `mode = \"internal\"`, or give \
             `chain` and `key`"
        )),
    }
}

/// Whether clients take a certificate of the private CA for `name`.
fn usable(name: &str) -> Result<(), String> {
    // Firefox and rustls refuse such a certificate under name constraints whole.
    match name.strip_prefix("*.").is_some_and(|parent| !parent.contains('.')) {
        true => Err(format!("`{name}`: a wildcard has two labels or more below it")),
        false => Ok(()),
    }
}

/// Given sites: a list of tables, or a text of whitespace-separated `NAME[,NAME…]=CHAIN,KEY`,
/// `NAME[,NAME…]=acme` and `NAME[,NAME…]=internal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenSites(Vec<GivenSite>);

impl GivenSites {
    /// In the order in which they are written.
    pub fn as_slice(&self) -> &[GivenSite] {
        &self.0
    }

    /// These and `more`.
    ///
    /// # Errors
    ///
    /// When that is too many.
    pub fn with(&self, more: &[GivenSite]) -> Result<Self, String> {
        bounded(self.0.iter().chain(more).cloned().collect())
    }
}

impl TryFrom<String> for GivenSites {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let site = |entry: &str| -> Result<GivenSite, String> {
            let form = || {
                format!(
                    "`{entry}`: a site is written NAME[,NAME…]=CHAIN,KEY, the paths of PEM files, \
                     or NAME[,NAME…]=acme or =internal"
                )
            };
            let (names, from) = entry.split_once('=').ok_or_else(form)?;
            let names = names.split(',').map(str::to_owned).collect();
            let raw = match from {
                "acme" => Raw { names, mode: Some(Word::Acme), chain: None, key: None },
                "internal" => Raw { names, mode: Some(Word::Internal), chain: None, key: None },
                files => {
                    let (chain, key) = files.split_once(',').ok_or_else(form)?;
                    Raw { names, mode: None, chain: Some(chain.into()), key: Some(key.into()) }
                }
            };
            raw.try_into()
        };
        let sites: Vec<GivenSite> = text.split_whitespace().map(site).collect::<Result<_, _>>()?;
        bounded(sites)
    }
}

fn bounded(sites: Vec<GivenSite>) -> Result<GivenSites, String> {
    match sites.len() <= SITES_MAX {
        true => Ok(GivenSites(sites)),
        false => Err(format!("at most {SITES_MAX} sites")),
    }
}

impl<'de> Deserialize<'de> for GivenSites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTables)
    }
}

struct TextOrTables;

impl<'de> Visitor<'de> for TextOrTables {
    type Value = GivenSites;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(
            "NAME[,NAME…]=CHAIN,KEY or =acme or =internal, \
             or tables with `names`, and `chain` and `key` or `mode`",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<GivenSites, E> {
        text.to_owned().try_into().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<GivenSites, A::Error> {
        let mut sites = Vec::new();
        while let Some(site) = tables.next_element()? {
            sites.push(site);
        }
        bounded(sites).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        sites: GivenSites,
    }

    fn read(toml: &str) -> Result<GivenSites, String> {
        toml::from_str::<Settings>(toml).map(|s| s.sites).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_and_a_table_say_the_same() {
        let text = read("sites = 'Farm.net,*.farm.net=/c.pem,/k.pem'").unwrap();
        let tables =
            "[[sites]]\nnames = ['farm.net', '*.farm.net']\nchain = '/c.pem'\nkey = '/k.pem'";
        assert_eq!(read(tables).unwrap(), text);
        assert_eq!(text.as_slice()[0].names, ["farm.net", "*.farm.net"]);
        assert_eq!(read(&format!("{tables}\nmode = 'files'")).unwrap(), text);
        assert_eq!(read("sites = ''").unwrap(), GivenSites::default());
        for (word, mode) in [("acme", Mode::Acme), ("internal", Mode::Internal)] {
            let text = read(&format!("sites = 'farm.net,203.0.113.7={word}'")).unwrap();
            let table = format!("[[sites]]\nnames = ['farm.net', '203.0.113.7']\nmode = '{word}'");
            assert_eq!(read(&table).unwrap(), text);
            assert_eq!(text.as_slice()[0].mode, mode);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (toml, word) in [
            ("sites = 'farm.net'", "is written"),
            ("sites = 'farm.net=/c'", "is written"),
            ("sites = '=/c,/k'", "not a domain name"),
            ("sites = 'a/b=/c,/k'", "not a domain name"),
            ("sites = '*.*.net=/c,/k'", "not a domain name"),
            ("sites = '*.192.0.2.1=/c,/k'", "no wildcard"),
            ("sites = 'farm.net=,/k'", "paths"),
            ("sites = 1", "NAME"),
            ("[[sites]]\nnames = []\nchain = 'c'\nkey = 'k'", "from 1"),
            ("[[sites]]\nnames = ['a.net']\nchain = 'c'", "`chain` and `key`"),
            ("[[sites]]\nnames = ['a.net']", "mode"),
            ("[[sites]]\nnames = ['a.net']\nmode = 'files'", "`chain` and `key`"),
            ("[[sites]]\nnames = ['a.net']\nchain = 'c'\nkey = 'k'\nmode = 'x'", "`acme`"),
            ("[[sites]]\nnames = ['a.net']\nkey = 'k'\nmode = 'acme'", "leave out"),
            (
                "[[sites]]\nnames = ['a.net']\nchain = 'c'\nkey = 'k'\nmode = 'internal'",
                "leave out",
            ),
            ("[[sites]]\nnames = ['a.net']\ncolour = 1\nmode = 'acme'", "unknown field"),
            ("sites = 'a.net=ACME'", "is written"),
            ("sites = 'a.net,*.a.net=acme'", "`*.a.net`: a wildcard can be proven by DNS"),
            ("sites = 'a.net,a.lan=acme'", "`a.lan` is private"),
            ("sites = '10.0.0.1=acme'", "`10.0.0.1` is private"),
            ("sites = '*.lan=internal'", "two labels"),
        ] {
            let error = read(toml).unwrap_err();
            assert!(error.contains(word), "{toml}: {error}");
        }
    }
}
