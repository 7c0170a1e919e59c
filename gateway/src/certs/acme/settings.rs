//! The settings of ACME: what is refused at the start, and what follows from them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use http::Uri;
use instant_acme::LetsEncrypt;
use serde::Deserialize;

use crate::certs::acme::plan::Backoff;
use crate::config::Config;

/// The URL of a server's directory (RFC 8555 §7.1.1); without one, Let's Encrypt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(Uri);

impl Directory {
    /// The whole URL.
    pub fn url(&self) -> String {
        self.0.to_string()
    }

    /// Its parts.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// The server to try first after a failure, which has limits of its own (set, or Let's
    /// Encrypt's for Let's Encrypt's).
    pub fn staging(&self, set: Option<&Self>) -> Option<Self> {
        let known = self.url() == LetsEncrypt::Production.url();
        let staging = || Self(Uri::from_static(LetsEncrypt::Staging.url()));
        set.cloned().or_else(|| known.then(staging))
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self(Uri::from_static(LetsEncrypt::Production.url()))
    }
}

impl TryFrom<String> for Directory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        // RFC 8555 §6.1 asks for HTTPS.
        let uri = Uri::from_str(text).ok();
        let uri = uri.filter(|uri| uri.scheme() == Some(&http::uri::Scheme::HTTPS));
        let uri = uri.filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let example = LetsEncrypt::Production.url();
        uri.map(Self).ok_or_else(|| format!("`{text}` is not an https URL such as {example}"))
    }
}

/// How the server finds out that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over plain HTTP (RFC 8555 §8.3).
    Http01,
    /// In a TLS handshake (RFC 8737).
    TlsAlpn01,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

/// Which kind is used first; after a failure it is the other's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum First {
    /// HTTP-01 when our own check has seen port 80 work, else TLS-ALPN-01.
    #[default]
    Auto,
    Http01,
    TlsAlpn01,
}

impl TryFrom<String> for First {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.trim() {
            "" | "auto" => Self::Auto,
            "http-01" => Self::Http01,
            "tls-alpn-01" => Self::TlsAlpn01,
            other => return Err(format!("`{other}` is not auto, http-01 or tls-alpn-01")),
        })
    }
}

impl First {
    /// The kind for the try after `failures` failures.
    pub fn kind(self, preflight: bool, failures: u32) -> Kind {
        let http = match self {
            Self::Auto => preflight,
            Self::Http01 => true,
            Self::TlsAlpn01 => false,
        };
        if http == failures.is_multiple_of(2) { Kind::Http01 } else { Kind::TlsAlpn01 }
    }
}

/// A key that the server's owner gave us for its account (RFC 8555 §7.3.4).
#[derive(Clone)]
pub struct Eab {
    pub kid: String,
    pub key: Vec<u8>,
}

/// What the engine works with.
#[derive(Clone)]
pub struct Settings {
    pub directory: Directory,
    pub staging: Option<Directory>,
    pub root: Option<PathBuf>,
    pub email: Option<String>,
    pub eab: Option<Eab>,
    pub profile: Option<String>,
    pub first: First,
    /// Whether names are checked before they are ordered, and at which port.
    pub preflight: bool,
    pub http_port: u16,
    pub backoff: Backoff,
}

impl Settings {
    /// What `config` says of ACME.
    ///
    /// # Errors
    ///
    /// The key that is wrong, and what is expected of it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let url = |key: &str, text: &str| {
            Directory::try_from(text.to_owned()).map_err(|why| format!("{key}: {why}"))
        };
        let directory = url("acme_directory", &config.acme_directory)?;
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let email = some(&config.acme_email);
        if let Some(email) = &email
            && !is_address(email)
        {
            return Err(format!("acme_email: `{email}` is not an address such as me@example.org"));
        }
        let eab = match (some(&config.acme_eab_kid), config.acme_eab_key.reveal()) {
            (None, None) => None,
            (Some(kid), Some(key)) => Some(Eab { kid, key: decode(key)? }),
            (Some(_), None) => {
                return Err("acme_eab_key: it is not set, but acme_eab_kid is; \
                                           the ACME server's owner gives both"
                    .to_owned());
            }
            (None, Some(_)) => {
                return Err("acme_eab_kid: it is not set, but acme_eab_key is; \
                                           the ACME server's owner gives both"
                    .to_owned());
            }
        };
        if config.acme_backoff_max_s < config.acme_backoff_s {
            return Err(format!(
                "acme_backoff_max_s: {} is less than acme_backoff_s",
                config.acme_backoff_max_s
            ));
        }
        let set = some(&config.acme_staging_directory)
            .map(|text| url("acme_staging_directory", &text))
            .transpose()?;
        Ok(Self {
            staging: directory.staging(set.as_ref()),
            directory,
            root: some(&config.acme_root).map(PathBuf::from),
            email,
            eab,
            profile: some(&config.acme_profile),
            first: config.acme_challenge,
            preflight: config.acme_preflight,
            http_port: config.acme_http_port,
            backoff: Backoff {
                least: Duration::from_secs(config.acme_backoff_s),
                most: Duration::from_secs(config.acme_backoff_max_s),
            },
        })
    }
}

/// Enough to find a slip; the server has the last word. No comma or `?`: they would add further
/// fields to the `mailto:` URL (RFC 8555 §7.3).
fn is_address(email: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !",?%&<>\"".contains(c);
    let parts = email.split_once('@');
    parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@'))
        && email.chars().all(plain)
}

/// Base64url, as RFC 8555 has it, or plain base64, as some owners give it; padded or not.
fn decode(key: &str) -> Result<Vec<u8>, String> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient);
    let plain = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let decoded = url.decode(key).or_else(|_| plain.decode(key)).unwrap_or_default();
    match decoded.is_empty() {
        true => Err("acme_eab_key: it is not base64; take it as the ACME server's owner gives it"
            .to_owned()),
        false => Ok(decoded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn directory(text: &str) -> Result<Directory, String> {
        Directory::try_from(text.to_owned())
    }

    #[test]
    fn a_directory_is_an_https_url() {
        let production = "https://acme-v02.api.letsencrypt.org/directory";
        assert_eq!(directory("").unwrap().url(), production);
        assert_eq!(
            directory(" https://localhost:14000/dir ").unwrap().uri().port_u16(),
            Some(14000)
        );
        for wrong in ["http://a/dir", "a", "https://", "https:///dir", "ftp://a", "https://a b"] {
            assert!(directory(wrong).unwrap_err().contains("https URL"), "{wrong}");
        }
    }

    #[test]
    fn only_lets_encrypt_has_a_staging_server_that_is_known() {
        let production = Directory::default();
        let staging = "https://acme-staging-v02.api.letsencrypt.org/directory";
        assert_eq!(production.staging(None).unwrap().url(), staging);
        assert_eq!(directory(staging).unwrap().staging(None), None);
        let other = directory("https://ca.example/dir").unwrap();
        assert_eq!(other.staging(None), None);
        assert_eq!(other.staging(Some(&production)), Some(production.clone()));
    }

    #[test]
    fn the_other_kind_has_its_turn_after_a_failure() {
        use Kind::Http01;
        use Kind::TlsAlpn01;
        for (first, preflight, failures, expected) in [
            (First::Auto, true, 0, Http01),
            (First::Auto, true, 1, TlsAlpn01),
            (First::Auto, false, 0, TlsAlpn01),
            (First::Http01, false, 0, Http01),
            (First::Http01, false, 3, TlsAlpn01),
            (First::TlsAlpn01, true, 0, TlsAlpn01),
            (First::TlsAlpn01, true, 1, Http01),
        ] {
            assert_eq!(first.kind(preflight, failures), expected, "{first:?} {failures}");
        }
    }

    #[test]
    fn a_kind_that_is_not_there_is_told_with_those_that_are() {
        for (text, expected) in [
            ("", First::Auto),
            ("auto", First::Auto),
            ("http-01", First::Http01),
            ("tls-alpn-01", First::TlsAlpn01),
        ] {
            assert_eq!(First::try_from(text.to_owned()), Ok(expected));
        }
        let why = First::try_from("dns-01".to_owned()).unwrap_err();
        assert!(why.contains("auto, http-01 or tls-alpn-01"), "{why}");
    }

    #[test]
    fn a_slip_is_named() {
        let config = Config::default;
        let secret = |text: &str| Secret::from(text.to_owned());
        for (config, key) in [
            (Config { acme_email: "me".to_owned(), ..config() }, "acme_email"),
            (Config { acme_directory: "http://ca.net".into(), ..config() }, "acme_directory"),
            (Config { acme_email: "a@b.c,d@e.f".to_owned(), ..config() }, "acme_email"),
            (Config { acme_eab_kid: "kid".to_owned(), ..config() }, "acme_eab_key"),
            (Config { acme_eab_key: secret("a2V5"), ..config() }, "acme_eab_kid"),
            (
                Config { acme_eab_kid: "k".into(), acme_eab_key: secret("!"), ..config() },
                "acme_eab_key",
            ),
            (
                Config { acme_staging_directory: "http://a".into(), ..config() },
                "acme_staging_directory",
            ),
            (Config { acme_backoff_max_s: 1, ..config() }, "acme_backoff_max_s"),
        ] {
            let why = Settings::new(&config).err().unwrap();
            assert!(why.starts_with(&format!("{key}: ")), "{key}: {why}");
        }
        let whole = Config {
            acme_email: "me+x@example.org".to_owned(),
            acme_eab_kid: "kid-1".to_owned(),
            acme_eab_key: secret("-_-_"),
            ..config()
        };
        assert_eq!(Settings::new(&whole).unwrap().eab.unwrap().key, [0xfb, 0xff, 0xbf]);
    }
}
