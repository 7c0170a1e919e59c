//! The name that a site or the gateway goes by.

use std::net::IpAddr;

use serde::Deserialize;

/// A host name in lower case, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Domain(String);

impl Domain {
    /// This machine's own.
    pub fn localhost() -> Self {
        Self("localhost".to_owned())
    }

    /// As text: a name in lower case, or an address without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        };
        // One label less than a name may have: `*.` goes in front of it (RFC 1035 §2.3.4).
        let fits = name.len() <= 251 && name.split('.').all(label);
        match fits || name.parse::<IpAddr>().is_ok() {
            true => Ok(Self(name)),
            false => Err(format!("`{text}` is not a domain name such as example.org")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_or_an_address() {
        for (text, expected) in [
            ("localhost", Some("localhost")),
            ("Example.ORG.", Some("example.org")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("", None),
            ("a..b", None),
            ("../x", None),
            ("a/b", None),
            ("-a.org", None),
            ("*.org", None),
            ("a b", None),
        ] {
            let domain = Domain::try_from(text.to_owned()).ok();
            assert_eq!(domain.as_ref().map(Domain::as_str), expected, "{text}");
        }
    }
}
