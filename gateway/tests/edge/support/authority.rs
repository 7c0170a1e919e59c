//! A certificate authority that is not the gateway's, by OpenSSL.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::EcGroup;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::pkey::Private;
use openssl::x509::X509;
use openssl::x509::X509Builder;
use openssl::x509::X509Name;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::extension::SubjectAlternativeName;

/// A root and its key.
pub struct Authority {
    root: X509,
    key: PKey<Private>,
}

impl Authority {
    pub fn new() -> Self {
        let key = new_key();
        let mut builder = builder("Another CA", &key, 30);
        builder.set_issuer_name(&name("Another CA")).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { root: builder.build(), key }
    }

    /// Puts the root into `folder` and says where.
    pub fn root_in(&self, folder: &Path) -> PathBuf {
        let path = folder.join("other-root.pem");
        fs::write(&path, self.root.to_pem().unwrap()).unwrap();
        path
    }

    /// A chain and its key in PEM, for `names`, that ends in so many days (or ended, when negative).
    pub fn issue(&self, names: &[&str], days: i64) -> (Vec<u8>, Vec<u8>) {
        let key = new_key();
        let mut builder = builder(names[0], &key, days);
        builder.set_issuer_name(self.root.subject_name()).unwrap();
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            alternative.dns(name);
        }
        let context = builder.x509v3_context(Some(&self.root), None);
        let alternative = alternative.build(&context).unwrap();
        builder.append_extension(alternative).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(common: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    name.build()
}

fn builder(common: &str, key: &PKey<Private>, days: i64) -> X509Builder {
    let now =
        i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name(common)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now - 10 * 86_400).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + days * 86_400).unwrap()).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder
}
