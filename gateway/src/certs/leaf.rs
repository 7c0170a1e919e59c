//! A certificate that can be served, read from PEM and judged. Whoever signed it.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::certs::permitted;

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pems {
    /// The certificate, or the chain that starts with it.
    pub certificate: String,
    /// PKCS #8, or what rustls reads besides.
    pub key: String,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// What rustls serves.
    pub certified: Arc<CertifiedKey>,
    /// What it covers: its subject alternative names, in lower case, addresses without brackets.
    pub names: Vec<String>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// Why a certificate is not used.
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

impl Leaf {
    /// The chain in `pems` with its key, when both are whole, fit each other, and have not ended at
    /// `now`.
    ///
    /// # Errors
    ///
    /// Why it is not to be used.
    pub fn read(
        pems: &Pems,
        provider: &CryptoProvider,
        now: OffsetDateTime,
    ) -> Result<Self, Unfit> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pems.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| Unfit::Certificate(error.to_string()))?;
        let none = || Unfit::Certificate("there is none in the file".to_owned());
        let first = chain.first().ok_or_else(none)?;
        let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes())
            .map_err(|error| Unfit::Key(error.to_string()))?;
        let leaf = parse(first)?;
        let names = alternative_names(&leaf);
        let (not_before, not_after) = validity(&leaf);
        let certified =
            CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => Unfit::Mismatch,
                error => Unfit::Key(error.to_string()),
            })?;
        if now >= not_after {
            return Err(Unfit::Expired);
        }
        Ok(Self { certified: Arc::new(certified), names, not_before, not_after })
    }

    /// When to get the next one: at two thirds of its life.
    pub fn renew_at(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }
}

/// Reads a certificate's fields.
///
/// # Errors
///
/// When it is none.
pub fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Unfit::Certificate(error.to_string())),
    }
}

/// From when and until when a certificate is valid.
pub fn validity(certificate: &X509Certificate<'_>) -> (OffsetDateTime, OffsetDateTime) {
    let validity = certificate.validity();
    (validity.not_before.to_datetime(), validity.not_after.to_datetime())
}

/// SHA-256 of a certificate, as OpenSSL and browsers write it: `AB:CD:…`.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => permitted::address(octets).map(|ip| ip.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}
