//! What the gateway answers when an ACME server asks whether a name is ours: a text over plain HTTP
//! (RFC 8555 §8.3) or a certificate over TLS (RFC 8737).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

/// The only protocol that a server which checks a name offers (RFC 8737 §6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// Where the text is asked for (RFC 8555 §8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The answers that are out now; a clone is another handle to the same ones. There are never more
/// than the orders that run at once have names.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    /// By token.
    texts: HashMap<String, String>,
    /// By the name that the server asks for in its handshake.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// The text for a request of plain HTTP, when its path is that of an answer that is out.
    pub fn text(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PREFIX)?;
        self.lock().texts.get(token).cloned()
    }

    /// The certificate for a handshake that offers [`ALPN`] alone.
    pub fn certificate(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        self.lock().certificates.get(name?).cloned()
    }

    /// Answers with `text` where `token` is asked for, until the guard is dropped.
    #[must_use]
    pub fn put_text(&self, token: &str, text: &str) -> Out {
        self.lock().texts.insert(token.to_owned(), text.to_owned());
        Out { challenges: self.clone(), key: Key::Token(token.to_owned()) }
    }

    /// Answers handshakes for `name`, a DNS name or an address, with a certificate that shows
    /// `digest`, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// When no certificate can be made.
    pub fn put_certificate(
        &self,
        name: &str,
        digest: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Out, String> {
        let asked = asked_name(name);
        let certificate = certificate(name, digest, provider)?;
        self.lock().certificates.insert(asked.clone(), Arc::new(certificate));
        Ok(Out { challenges: self.clone(), key: Key::Name(asked) })
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

/// The path where `token` is asked for.
pub fn path(token: &str) -> String {
    format!("{PREFIX}{token}")
}

/// Takes its answer back when dropped.
#[derive(Debug)]
pub struct Out {
    challenges: Challenges,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(String),
    Name(String),
}

impl Drop for Out {
    fn drop(&mut self) {
        let mut answers = self.challenges.lock();
        match &self.key {
            Key::Token(token) => drop(answers.texts.remove(token)),
            Key::Name(name) => drop(answers.certificates.remove(name)),
        }
    }
}

/// The server name in the handshake: for an address its name in the reverse zone (RFC 8738 §6).
fn asked_name(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Err(_) => name.to_ascii_lowercase(),
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            let mut zone: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            zone.push_str("ip6.arpa");
            zone
        }
    }
}

/// Signed by its own key, with the name as its only one and the digest in the critical extension
/// acmeIdentifier (RFC 8737 §3).
fn certificate(
    name: &str,
    digest: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|e| e.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let made = params.self_signed(&key).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let key = provider.key_provider.load_private_key(key).map_err(|e| e.to_string())?;
    // Not `from_der`, which does not know that extension and refuses it, as it should.
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_out_until_its_guard_is_dropped() {
        let challenges = Challenges::default();
        let out = challenges.put_text("abc", "abc.thumb");
        assert_eq!(challenges.text(&path("abc")).as_deref(), Some("abc.thumb"));
        for other in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/ab", "/abc"] {
            assert_eq!(challenges.text(other), None, "{other}");
        }
        drop(out);
        assert_eq!(challenges.text(&path("abc")), None);
    }

    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        for (name, expected) in [
            ("Example.org", "example.org"),
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(asked_name(name), expected);
        }
    }

    #[test]
    fn the_certificate_shows_the_digest_and_the_name_alone() {
        use openssl::x509::X509;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let challenges = Challenges::default();
        let out = challenges.put_certificate("192.0.2.1", &[7; 32], &provider).unwrap();
        let found = challenges.certificate(Some("1.2.0.192.in-addr.arpa")).unwrap();
        assert!(challenges.certificate(Some("192.0.2.1")).is_none());
        assert!(challenges.certificate(None).is_none());
        let text = X509::from_der(&found.cert[0]).unwrap().to_text().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("IP Address:192.0.2.1\n"), "{text}");
        assert!(text.contains("1.3.6.1.5.5.7.1.31: critical"), "{text}");
        drop(out);
        assert!(challenges.certificate(Some("1.2.0.192.in-addr.arpa")).is_none());
    }
}
