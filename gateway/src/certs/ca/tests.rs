//! The private CA by itself.

use super::*;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn now() -> OffsetDateTime {
    time::macros::datetime!(2026-11-22 00:00 UTC)
}

/// Of all names that these tests use.
fn permitted() -> Permitted {
    Permitted::only(&names(&["localhost", "example.org", "192.0.2.1"]))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn opened(pems: &Pems, now: OffsetDateTime) -> Result<Authority, Unfit> {
    Authority::open(&pems.certificate, Some(&pems.key), provider(), now)
}

fn authority_for(permitted: &Permitted) -> Authority {
    opened(&new_root(permitted, now()).unwrap(), now()).unwrap()
}

fn authority() -> Authority {
    authority_for(&permitted())
}

fn issued(authority: &Authority, names: &[String]) -> Pems {
    authority.issue(names, now(), LIFE).unwrap().unwrap()
}

const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

#[test]
fn a_leaf_fits_its_root_and_names_until_it_ends() {
    let authority = authority();
    let names = names(&["localhost", "127.0.0.1", "::1", "dice.localhost"]);
    let pems = issued(&authority, &names);
    let leaf = authority.fit(&pems, &names, now()).unwrap();
    assert_eq!(leaf.not_after - leaf.not_before, LIFE);
    let ago = now() - leaf.not_before;
    assert_eq!(ago, Duration::from_secs(3600));
    assert_eq!(leaf.renew_at() - leaf.not_before, LIFE * 2 / 3);
    for later in [Duration::ZERO, Duration::from_secs(5)] {
        let error = authority.fit(&pems, &names, leaf.not_after + later).unwrap_err();
        assert!(matches!(error, Unfit::Expired), "{error}");
    }
    let error = authority.fit(&pems, &["example.org".to_owned()], now());
    assert!(matches!(error, Err(Unfit::Names(_))), "{error:?}");
}

#[test]
fn a_clock_that_is_behind_costs_nothing() {
    let root = new_root(&permitted(), now()).unwrap();
    let names = names(&["localhost"]);
    let leaf = issued(&opened(&root, now()).unwrap(), &names);
    let authority = opened(&root, OffsetDateTime::UNIX_EPOCH).unwrap();
    let fit = authority.fit(&leaf, &names, OffsetDateTime::UNIX_EPOCH).unwrap();
    assert!(fit.renew_at() > now());
}

#[test]
fn a_leaf_of_another_root_does_not_fit() {
    let names = names(&["example.org"]);
    let pems = issued(&authority(), &names);
    let error = authority().fit(&pems, &names, now()).unwrap_err();
    assert!(matches!(error, Unfit::Chain(_)), "{error}");
}

#[test]
fn a_key_of_another_certificate_does_not_fit() {
    let authority = authority();
    let names = names(&["192.0.2.1"]);
    let one = issued(&authority, &names);
    let two = issued(&authority, &names);
    let mixed = Pems { certificate: one.certificate, key: two.key };
    assert!(matches!(authority.fit(&mixed, &names, now()), Err(Unfit::Mismatch)));
    let one = new_root(&permitted(), now()).unwrap();
    let two = new_root(&permitted(), now()).unwrap();
    let mixed = Pems { certificate: one.certificate, key: two.key };
    assert!(matches!(opened(&mixed, now()), Err(Unfit::Mismatch)));
}

#[test]
fn a_damaged_file_does_not_fit() {
    let authority = authority();
    let names = names(&["example.org"]);
    let good = issued(&authority, &names);
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
    let leaf = issued(&authority(), &names(&["example.org"]));
    assert!(matches!(opened(&leaf, now()), Err(Unfit::NoAuthority)));
}

#[test]
fn a_leaf_does_not_outlive_its_root() {
    let root = new_root(&permitted(), now() - ROOT_LIFE + time::Duration::days(10)).unwrap();
    let authority = opened(&root, now()).unwrap();
    let names = names(&["example.org"]);
    let pems = issued(&authority, &names);
    let leaf = authority.fit(&pems, &names, now()).unwrap();
    assert_eq!(leaf.not_after, authority.not_after);
}

/// What OpenSSL says about a leaf: nothing when it is good.
fn openssl(authority: &Authority, pems: &Pems) -> Option<String> {
    use openssl::x509::X509;
    use openssl::x509::X509StoreContext;
    use openssl::x509::store::X509StoreBuilder;
    use openssl::x509::verify::X509VerifyParam;
    let mut param = X509VerifyParam::new().unwrap();
    param.set_time(now().unix_timestamp());
    let mut store = X509StoreBuilder::new().unwrap();
    store.set_param(&param).unwrap();
    store.add_cert(X509::from_der(&authority.root().der).unwrap()).unwrap();
    let leaf = X509::from_pem(pems.certificate.as_bytes()).unwrap();
    let chain = openssl::stack::Stack::new().unwrap();
    let mut context = X509StoreContext::new().unwrap();
    let verdict = context.init(&store.build(), &leaf, &chain, |context| {
        Ok(if context.verify_cert()? { None } else { Some(context.error().to_string()) })
    });
    verdict.unwrap()
}

#[test]
fn a_stolen_root_forges_no_other_site_as_two_implementations_see_it() {
    let localhost = ["localhost", "127.0.0.1", "::1"];
    for (domain, good, forged) in [
        ("localhost", &localhost[..], &["example.net"][..]),
        ("localhost", &["a.b.localhost"], &["10.0.0.1"]),
        ("localhost", &["127.0.0.2"], &["localhost.example.net"]),
        ("localhost", &["localhost"], &["localhost", "*.example.net"]),
        ("localhost", &["localhost"], &["2001:db8::1"]),
        ("farm.lan", &["farm.lan", "*.farm.lan"], &["127.0.0.1"]),
        ("farm.lan", &["farm.lan"], &["::1"]),
        ("farm.lan", &["a.farm.lan"], &["xfarm.lan"]),
        ("192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
        ("192.0.2.1", &["192.0.2.1"], &["example.net"]),
        ("2001:db8::1", &["2001:db8::1"], &["192.0.2.1"]),
    ] {
        let authority = authority_for(&Permitted::only(&names(&[domain])));
        let good = names(good);
        let pems = issued(&authority, &good);
        authority.fit(&pems, &good, now()).unwrap();
        assert_eq!(openssl(&authority, &pems), None, "{good:?}");
        let forged = names(forged);
        let pems = issued(&authority, &forged);
        let error = authority.fit(&pems, &forged, now()).unwrap_err();
        assert!(matches!(error, Unfit::Chain(_)), "{domain} {forged:?}: {error}");
        let error = openssl(&authority, &pems).unwrap_or_default();
        assert!(error.contains("subtree violation"), "{domain} {forged:?}: {error}");
    }
}

#[test]
fn what_a_root_may_sign_is_read_back() {
    for domain in ["localhost", "farm.lan", "192.0.2.1"] {
        let permitted = Permitted::only(&names(&[domain]));
        assert_eq!(*authority_for(&permitted).permitted(), permitted);
    }
}

#[test]
fn a_root_without_its_key_judges_and_does_not_sign() {
    let pems = new_root(&permitted(), now()).unwrap();
    let whole = opened(&pems, now()).unwrap();
    let leaf = issued(&whole, &names(&["example.org"]));
    let bare = Authority::open(&pems.certificate, None, provider(), now()).unwrap();
    assert!(whole.can_sign() && !bare.can_sign());
    assert!(bare.issue(&names(&["example.org"]), now(), LIFE).unwrap().is_none());
    bare.fit(&leaf, &names(&["example.org"]), now()).unwrap();
}
