//! The private certificate authority: makes the root and the leaves, and tells which of those on
//! disk still fit. No files here; time is an argument.
//!
//! Sources: RFC 5280 §4.2.1 (extensions), CA/Browser Forum Baseline Requirements 7.1 for the shape
//! of a server's certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// How long a root is valid.
const ROOT_LIFE: time::Duration = time::Duration::days(3650);

/// A certificate and its key, in PEM.
pub struct Pems {
    /// The certificate, or the chain that starts with it.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// What rustls serves.
    pub certified: Arc<CertifiedKey>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Leaf {
    /// When to get the next one: at two thirds of its life.
    pub fn renew_at(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }
}

/// Why what is on disk is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    #[error("the key cannot be read: {0}")]
    Key(String),
    #[error("the key is not the certificate's")]
    Mismatch,
    #[error("it is no certificate authority")]
    NoAuthority,
    #[error("it has ended")]
    Expired,
    #[error("it is for other names: {0}")]
    Names(String),
    #[error("it is not from this root: {0}")]
    Chain(String),
}

/// A new root, valid from a day ago: clocks of clients differ.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn new_root(now: OffsetDateTime) -> Result<Pems, rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    let mut params = CertificateParams::default();
    // Told apart from the roots of other installations in a client's list.
    let id = &chassis::random_id()[..8];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Hubbub");
    params.distinguished_name.push(DnType::CommonName, format!("Hubbub private CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + ROOT_LIFE;
    let certificate = params.self_signed(&key)?;
    Ok(Pems { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A root that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    not_after: OffsetDateTime,
}

impl Authority {
    /// The root in `pems`, when it is whole and has not ended at `now`. One from the future fits: a
    /// machine without a battery starts in 1970, and must not throw away what clients trust.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn open(
        pems: &Pems,
        provider: Arc<CryptoProvider>,
        now: OffsetDateTime,
    ) -> Result<Self, Unfit> {
        let der = CertificateDer::from_pem_slice(pems.certificate.as_bytes())
            .map_err(|error| Unfit::Certificate(error.to_string()))?;
        let key = KeyPair::from_pem(&pems.key).map_err(|error| Unfit::Key(error.to_string()))?;
        let root = parse(&der)?;
        if root.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(Unfit::Mismatch);
        }
        if !root.is_ca() {
            return Err(Unfit::NoAuthority);
        }
        let (_, not_after) = validity(&root);
        if now >= not_after {
            return Err(Unfit::Expired);
        }
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).map_err(|error| Unfit::Certificate(error.to_string()))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .map_err(|error| Unfit::Certificate(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| Unfit::Certificate(error.to_string()))?;
        Ok(Self { issuer, verifier, provider, not_after })
    }

    /// A new leaf for `names`, which `names` (of this module) made, valid for `life`.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn issue(
        &self,
        names: &[String],
        now: OffsetDateTime,
        life: Duration,
    ) -> Result<Pems, rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = names.first() {
            // A common name has at most 64 characters (RFC 5280, A.1).
            let name: String = name.chars().take(64).collect();
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // A little into the past, as clocks differ; part of its life.
        params.not_before = now - (life / 10).min(Duration::from_secs(3600));
        params.not_after = (params.not_before + life).min(self.not_after);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pems { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The leaf in `pems`, when it is whole, ours, for exactly `names`, and has not ended at `now`.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn fit(&self, pems: &Pems, names: &[String], now: OffsetDateTime) -> Result<Leaf, Unfit> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pems.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| Unfit::Certificate(error.to_string()))?;
        let first =
            chain.first().ok_or_else(|| Unfit::Certificate("the file is empty".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes())
            .map_err(|error| Unfit::Key(error.to_string()))?;
        let leaf = parse(first)?;
        let found = alternative_names(&leaf);
        if !names.iter().all(|name| found.contains(name)) || found.len() != names.len() {
            return Err(Unfit::Names(found.join(" ")));
        }
        let (not_before, not_after) = validity(&leaf);
        if now >= not_after {
            return Err(Unfit::Expired);
        }
        self.verify(first, &found, now.max(not_before))?;
        let certified =
            CertifiedKey::from_der(chain, key, &self.provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => Unfit::Mismatch,
                error => Unfit::Key(error.to_string()),
            })?;
        Ok(Leaf { certified: Arc::new(certified), not_before, not_after })
    }

    /// Asks as a client would: signed by the root, for a server, for its name.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<(), Unfit> {
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = names.iter().find(|name| !name.starts_with("*.")).cloned().unwrap_or_default();
        let name = ServerName::try_from(name).map_err(|e| Unfit::Names(e.to_string()))?;
        let verdict = self.verifier.verify_server_cert(leaf, &[], &name, &[], time);
        verdict.map(|_| ()).map_err(|error| Unfit::Chain(error.to_string()))
    }
}

/// The names that a certificate for `domain` covers: itself, everything one level below, the hosts
/// that routes name (some clients take no `*.localhost`), and for `localhost` the loopback addresses.
pub fn names<'a>(domain: &str, hosts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names = vec![domain.to_owned()];
    if domain.parse::<IpAddr>().is_err() {
        names.push(format!("*.{domain}"));
    }
    if domain == "localhost" {
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    for host in hosts {
        // An underscore is no part of a name in a certificate (RFC 5280 §4.2.1.6).
        if !names.iter().any(|name| name == host) && !host.contains('_') {
            names.push(host.to_owned());
        }
    }
    names
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Unfit::Certificate(error.to_string())),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (OffsetDateTime, OffsetDateTime) {
    let validity = certificate.validity();
    (validity.not_before.to_datetime(), validity.not_after.to_datetime())
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match *octets {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
            octets => <[u8; 16]>::try_from(octets).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn now() -> OffsetDateTime {
        time::macros::datetime!(2026-11-22 00:00 UTC)
    }

    fn authority() -> Authority {
        Authority::open(&new_root(now()).unwrap(), provider(), now()).unwrap()
    }

    const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

    #[test]
    fn a_leaf_fits_its_root_and_names_until_it_ends() {
        let authority = authority();
        let names = names("localhost", ["dice.localhost", "localhost"].into_iter());
        assert_eq!(names, ["localhost", "*.localhost", "127.0.0.1", "::1", "dice.localhost"]);
        let pems = authority.issue(&names, now(), LIFE).unwrap();
        let leaf = authority.fit(&pems, &names, now()).unwrap();
        assert_eq!(leaf.not_after - leaf.not_before, LIFE);
        let ago = now() - leaf.not_before;
        assert_eq!(ago, Duration::from_secs(3600));
        assert_eq!(leaf.renew_at() - leaf.not_before, LIFE * 2 / 3);
        for later in [Duration::ZERO, Duration::from_secs(5)] {
            let error = authority.fit(&pems, &names, leaf.not_after + later).unwrap_err();
            assert!(matches!(error, Unfit::Expired), "{error}");
        }
        let error = authority.fit(&pems, &super::names("example.org", [].into_iter()), now());
        assert!(matches!(error, Err(Unfit::Names(_))), "{error:?}");
    }

    #[test]
    fn a_clock_that_is_behind_costs_nothing() {
        let root = new_root(now()).unwrap();
        let names = names("localhost", [].into_iter());
        let leaf = Authority::open(&root, provider(), now()).unwrap();
        let leaf = leaf.issue(&names, now(), LIFE).unwrap();
        let authority = Authority::open(&root, provider(), OffsetDateTime::UNIX_EPOCH).unwrap();
        let fit = authority.fit(&leaf, &names, OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(fit.renew_at() > now());
    }

    #[test]
    fn a_leaf_of_another_root_does_not_fit() {
        let names = names("example.org", [].into_iter());
        let pems = authority().issue(&names, now(), LIFE).unwrap();
        let error = authority().fit(&pems, &names, now()).unwrap_err();
        assert!(matches!(error, Unfit::Chain(_)), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_does_not_fit() {
        let authority = authority();
        let names = names("192.0.2.1", [].into_iter());
        let one = authority.issue(&names, now(), LIFE).unwrap();
        let two = authority.issue(&names, now(), LIFE).unwrap();
        let mixed = Pems { certificate: one.certificate, key: two.key };
        assert!(matches!(authority.fit(&mixed, &names, now()), Err(Unfit::Mismatch)));
        let one = new_root(now()).unwrap();
        let two = new_root(now()).unwrap();
        let mixed = Pems { certificate: one.certificate, key: two.key };
        assert!(matches!(Authority::open(&mixed, provider(), now()), Err(Unfit::Mismatch)));
    }

    #[test]
    fn a_damaged_file_does_not_fit() {
        let authority = authority();
        let names = names("example.org", [].into_iter());
        let good = authority.issue(&names, now(), LIFE).unwrap();
        for cut in [0, 1, 100, good.certificate.len() / 2, good.certificate.len() - 20] {
            let certificate = good.certificate[..cut].to_owned();
            let pems = Pems { certificate, key: good.key.clone() };
            assert!(authority.fit(&pems, &names, now()).is_err(), "{cut}");
            let key = good.key[..cut.min(good.key.len() - 20)].to_owned();
            let pems = Pems { certificate: good.certificate.clone(), key };
            assert!(authority.fit(&pems, &names, now()).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_leaf_is_no_root() {
        let leaf = authority().issue(&names("example.org", [].into_iter()), now(), LIFE).unwrap();
        assert!(matches!(Authority::open(&leaf, provider(), now()), Err(Unfit::NoAuthority)));
    }

    #[test]
    fn a_leaf_does_not_outlive_its_root() {
        let root = new_root(now() - ROOT_LIFE + time::Duration::days(10)).unwrap();
        let authority = Authority::open(&root, provider(), now()).unwrap();
        let names = names("example.org", [].into_iter());
        let pems = authority.issue(&names, now(), LIFE).unwrap();
        let leaf = authority.fit(&pems, &names, now()).unwrap();
        assert_eq!(leaf.not_after, authority.not_after);
    }
}
