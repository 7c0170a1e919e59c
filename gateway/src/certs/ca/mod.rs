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
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::x509::AttributeTypeAndValue;
use x509_parser::x509::X509Name;

use crate::certs::leaf;
pub use crate::certs::leaf::Leaf;
pub use crate::certs::leaf::Pems;
pub use crate::certs::leaf::Unfit;
use crate::certs::leaf::parse;
use crate::certs::leaf::validity;
use crate::certs::permitted::Permitted;

/// How long a root is valid.
const ROOT_LIFE: time::Duration = time::Duration::days(3650);

/// What the names of all roots have, of this installation and of others.
const ROOT_ORGANIZATION: &str = "Hubbub";
const ROOT_NAME: &str = "Hubbub private CA";

/// True for the name of a private CA's root, also of one that was replaced.
pub fn is_root_name(name: &X509Name<'_>) -> bool {
    let organization = name.iter_organization().any(|part| part.as_str() == Ok(ROOT_ORGANIZATION));
    let common = |part: &AttributeTypeAndValue<'_>| {
        part.as_str().is_ok_and(|text| text.starts_with(ROOT_NAME))
    };
    organization && name.iter_common_name().any(common)
}

/// A new root that may sign for what is `permitted`, valid from a day ago: clocks of clients differ.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn new_root(permitted: &Permitted, now: OffsetDateTime) -> Result<Pems, rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    let mut params = CertificateParams::default();
    // Told apart from the roots of other installations in a client's list.
    let id = &chassis::random_id()[..8];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ROOT_ORGANIZATION);
    params.distinguished_name.push(DnType::CommonName, format!("{ROOT_NAME} {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(permitted.constraints());
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + ROOT_LIFE;
    let certificate = params.self_signed(&key)?;
    Ok(Pems { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A root, which can sign unless its key was discarded.
pub struct Authority {
    issuer: Option<Issuer<'static, KeyPair>>,
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    permitted: Permitted,
    root: Root,
    not_after: OffsetDateTime,
}

/// What of a root is for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The certificate, as it is in its file.
    pub pem: String,
    /// The same in DER.
    pub der: CertificateDer<'static>,
}

impl Root {
    /// The certificate in `pem`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn read(pem: &str) -> Result<Self, Unfit> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| Unfit::Certificate(error.to_string()))?;
        Ok(Self { pem: pem.to_owned(), der })
    }

    /// See [`leaf::fingerprint`].
    pub fn fingerprint(&self) -> String {
        leaf::fingerprint(&self.der)
    }
}

impl Authority {
    /// The root in `certificate`, with its `key` unless that was discarded, when it is whole and has
    /// not ended at `now`. One from the future fits: a machine without a battery starts in 1970, and
    /// must not throw away what clients trust.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn open(
        certificate: &str,
        key: Option<&str>,
        provider: Arc<CryptoProvider>,
        now: OffsetDateTime,
    ) -> Result<Self, Unfit> {
        let root = Root::read(certificate)?;
        let key = key.map(KeyPair::from_pem).transpose();
        let key = key.map_err(|error| Unfit::Key(error.to_string()))?;
        let parsed = parse(&root.der)?;
        let public = &parsed.public_key().subject_public_key.data;
        if key.as_ref().is_some_and(|key| **public != *key.public_key_raw()) {
            return Err(Unfit::Mismatch);
        }
        if !parsed.is_ca() {
            return Err(Unfit::NoAuthority);
        }
        let (_, not_after) = validity(&parsed);
        if now >= not_after {
            return Err(Unfit::Expired);
        }
        let permitted = Permitted::read(&parsed);
        let mut roots = RootCertStore::empty();
        roots.add(root.der.clone()).map_err(|error| Unfit::Certificate(error.to_string()))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .map_err(|error| Unfit::Certificate(error.to_string()))?;
        let issuer = key.map(|key| Issuer::from_ca_cert_der(&root.der, key)).transpose();
        let issuer = issuer.map_err(|error| Unfit::Certificate(error.to_string()))?;
        Ok(Self { issuer, verifier, provider, permitted, root, not_after })
    }

    /// What clients trust.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// When the root ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// What it may sign for.
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// False when the key was discarded.
    pub fn can_sign(&self) -> bool {
        self.issuer.is_some()
    }

    /// A new leaf for `names`, valid for `life`, with the extensions of a server's certificate as
    /// `openssl req` is told them in not-my-board's manual; `None` when the key was discarded.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn issue(
        &self,
        names: &[String],
        now: OffsetDateTime,
        life: Duration,
    ) -> Result<Option<Pems>, rcgen::Error> {
        let Some(issuer) = &self.issuer else { return Ok(None) };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        // A common name has at most 64 characters (RFC 5280, A.1). OpenSSL holds it against the name
        // constraints too where it looks like a host's name, which an address does.
        let name = names.iter().find(|name| name.parse::<IpAddr>().is_err() && name.len() <= 64);
        let name = name.map_or("Hubbub site", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // A little into the past, as clocks differ; part of its life.
        params.not_before = now - (life / 10).min(Duration::from_secs(3600));
        params.not_after = (params.not_before + life).min(self.not_after);
        let certificate = params.signed_by(&key, issuer)?;
        Ok(Some(Pems { certificate: certificate.pem(), key: key.serialize_pem() }))
    }

    /// The leaf in `pems`, when it is whole, ours, for exactly `names`, and has not ended at `now`.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn fit(&self, pems: &Pems, names: &[String], now: OffsetDateTime) -> Result<Leaf, Unfit> {
        let leaf = self.cover(pems, names, now)?;
        match leaf.names.len() == names.len() {
            true => Ok(leaf),
            false => Err(Unfit::Names(leaf.names.join(" "))),
        }
    }

    /// The same, when it is for `names` and maybe for others.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn cover(&self, pems: &Pems, names: &[String], now: OffsetDateTime) -> Result<Leaf, Unfit> {
        let leaf = Leaf::read(pems, &self.provider, now)?;
        let found = &leaf.names;
        self.verify(&leaf.certified.cert[0], found, now.max(leaf.not_before))?;
        match names.iter().all(|name| found.contains(name)) {
            true => Ok(leaf),
            false => Err(Unfit::Names(found.join(" "))),
        }
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
        let name = names.first().map(|name| name.replacen('*', "a", 1)).unwrap_or_default();
        let name = ServerName::try_from(name).map_err(|e| Unfit::Names(e.to_string()))?;
        let verdict = self.verifier.verify_server_cert(leaf, &[], &name, &[], time);
        verdict.map(|_| ()).map_err(|error| Unfit::Chain(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
