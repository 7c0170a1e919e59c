//! Whether a chain and its key can be served: looked at before they replace anything. No files
//! here; time is an argument.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::CertificateIdentifier;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certs::acme::plan::Validity;
use crate::certs::ca;
use crate::certs::leaf;
use crate::certs::leaf::Leaf;
use crate::certs::leaf::Pems;

/// A server's chain has two or three certificates.
const CHAIN_MAX: usize = 10;

/// A certificate of an ACME server that can be served.
#[derive(Clone, Debug)]
pub struct Issued {
    pub leaf: Leaf,
    /// SHA-256 of the certificate, in hexadecimal.
    pub digest: String,
    /// What the server knows it by (RFC 9773 §4.1), unless it names no issuer's key.
    pub id: Option<CertificateIdentifier<'static>>,
}

/// Why a chain and its key are not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// They are whole, and of no use here or now.
    #[error("{0}")]
    Useless(String),
    /// No server would have given them so.
    #[error("{0}")]
    Damaged(String),
}

/// The certificate in `pems`, when it is whole, for a server, covers `names`, and has not ended at
/// `now`. One from the future fits: then it is our clock that is wrong, and a machine without a battery
/// must not order anew at each start.
///
/// # Errors
///
/// Why it is not to be used.
pub fn fit(
    pems: &Pems,
    names: &[String],
    now: OffsetDateTime,
    provider: &Arc<CryptoProvider>,
) -> Result<Issued, Unfit> {
    let leaf = Leaf::read(pems, provider, now).map_err(|unfit| match unfit {
        leaf::Unfit::Expired => Unfit::Useless(unfit.to_string()),
        unfit => Unfit::Damaged(unfit.to_string()),
    })?;
    let chain = &leaf.certified.cert;
    if chain.len() > CHAIN_MAX {
        let why = format!("the chain has more than {CHAIN_MAX} certificates");
        return Err(Unfit::Damaged(why));
    }
    if let Some(name) = names.iter().find(|name| !leaf.names.contains(name)) {
        let why = format!("the certificate is not for {name}, but for {}", leaf.names.join(" "));
        return Err(Unfit::Useless(why));
    }
    linked(chain, names, now.max(leaf.not_before), provider).map_err(Unfit::Useless)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &chain[0]);
    let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = CertificateIdentifier::try_from(&chain[0]).ok().map(CertificateIdentifier::into_owned);
    Ok(Issued { leaf, digest, id })
}

impl Issued {
    /// From when and until when it is valid.
    pub fn validity(&self) -> Validity {
        Validity { not_before: self.leaf.not_before, not_after: self.leaf.not_after }
    }
}

/// True when `root`, in PEM, or a private CA of before signed the certificate in `pems`, by name.
pub fn is_private(pems: &Pems, root: &str) -> bool {
    let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).ok();
    let Some(leaf) = der(&pems.certificate) else { return false };
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf) else { return false };
    if ca::is_root_name(leaf.issuer()) {
        return true;
    }
    let Some(root) = der(root) else { return false };
    let root = X509Certificate::from_der(&root);
    root.is_ok_and(|(_, root)| root.subject().as_raw() == leaf.issuer().as_raw())
}

/// Asks as a client would that trusts the last certificate: each one signed by the next, and the
/// first one for a server and every name. A chain of one is taken at its word.
fn linked(
    chain: &[CertificateDer<'static>],
    names: &[String],
    now: OffsetDateTime,
    provider: &Arc<CryptoProvider>,
) -> Result<(), String> {
    let [leaf, between @ .., last] = chain else { return Ok(()) };
    let refuse = |error: &dyn std::fmt::Display| format!("the chain does not hold: {error}");
    let mut roots = RootCertStore::empty();
    roots.add(last.clone()).map_err(|error| refuse(&error))?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| refuse(&error))?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for name in names {
        let name = ServerName::try_from(name.as_str()).map_err(|error| refuse(&error))?;
        verifier
            .verify_server_cert(leaf, between, &name, &[], time)
            .map_err(|error| refuse(&error))?;
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::IsCa;
    use rcgen::Issuer;
    use rcgen::KeyPair;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// A chain of a leaf, from `start` on for ten days, and who signed it.
    pub fn made(for_names: &[&str], start: OffsetDateTime) -> Pems {
        let signer = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test intermediate");
        let authority = params.self_signed(&signer).unwrap();
        let issuer = Issuer::new(params, signer);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names(for_names)).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.not_before = start;
        params.not_after = start + time::Duration::days(10);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let certificate = format!("{}{}", leaf.pem(), authority.pem());
        Pems { certificate, key: key.serialize_pem() }
    }

    fn judged(pems: &Pems, for_names: &[&str], now: OffsetDateTime) -> Result<Issued, Unfit> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        fit(pems, &names(for_names), now, &provider)
    }

    #[test]
    fn a_whole_chain_fits() {
        let start = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let pems = made(&["a.example", "192.0.2.1", "2001:db8::1"], start);
        for wanted in [&["a.example"][..], &["192.0.2.1", "a.example"], &["2001:db8::1"]] {
            let issued = judged(&pems, wanted, start).unwrap();
            assert_eq!(issued.leaf.not_before, start);
            assert_eq!(issued.leaf.not_after - start, time::Duration::days(10));
            assert_eq!(issued.digest.len(), 64);
            assert!(issued.id.is_some());
        }
        let day = time::Duration::days(1);
        assert!(judged(&pems, &["a.example"], start + day * 9).is_ok());
        // A machine without a battery starts in 1970, and has it none the less.
        assert!(judged(&pems, &["a.example"], OffsetDateTime::UNIX_EPOCH).is_ok());
        for (wanted, now, why) in [
            (&["b.example"][..], start, "not for b.example"),
            (&["a.example", "b.example"], start, "not for b.example"),
            (&["a.example"], start + day * 10, "has ended"),
        ] {
            let Err(Unfit::Useless(refused)) = judged(&pems, wanted, now) else { panic!("{why}") };
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn who_signed_is_known_by_name() {
        let now = OffsetDateTime::now_utc();
        let private =
            ca::new_root(&crate::certs::permitted::Permitted::only(&names(&["a.example"])), now)
                .unwrap()
                .certificate;
        let pems = made(&["a.example"], now);
        assert!(is_private(
            &pems,
            &pems.certificate[pems.certificate.rfind("-----BEGIN").unwrap()..]
        ));
        assert!(!is_private(&pems, &private));
        assert!(!is_private(&pems, ""));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let now = OffsetDateTime::now_utc();
        let (pems, other) = (made(&["a.example"], now), made(&["a.example"], now));
        let certificate = pems.certificate.clone();
        let end = "-----END CERTIFICATE-----\n";
        let (leaf, authority) = certificate.split_at(certificate.find(end).unwrap() + end.len());
        let (_, another) =
            other.certificate.split_at(other.certificate.find(end).unwrap() + end.len());
        let key = || pems.key.clone();
        for (certificate, key, why) in [
            (String::new(), key(), "there is none"),
            (certificate[..certificate.len() / 3].to_owned(), key(), ""),
            (format!("{leaf}{another}"), key(), "does not hold"),
            (format!("{authority}{leaf}"), key(), "not the certificate's"),
            (leaf.repeat(CHAIN_MAX + 1), key(), "more than"),
            (certificate.clone(), other.key.clone(), "not the certificate's"),
            (certificate.clone(), String::new(), "key cannot be read"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
                key(),
                "read",
            ),
        ] {
            let refused = judged(&Pems { certificate, key }, &["a.example"], now);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
