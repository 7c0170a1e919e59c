//! The private CA on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::certs::sites;

fn keeper() -> (TempDir, Keeper) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { certs: folder.path().to_owned(), ..Config::default() };
    let keeper = keeper_of(&config);
    (folder, keeper)
}

fn keeper_of(config: &Config) -> Keeper {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Keeper::new(config, &sites::configured(config).unwrap(), provider).unwrap()
}

fn der(opened: &Opened) -> Vec<u8> {
    opened.leaf.certified.cert[0].to_vec()
}

#[test]
fn a_root_that_has_ended_is_replaced_at_a_start_only() {
    let (_folder, keeper) = keeper();
    keeper.open(Moment::Start).unwrap();
    let certificate = root::certificate_path(&keeper.certs);
    let root = fs::read(&certificate).unwrap();
    let later = OffsetDateTime::now_utc() + time::Duration::days(11 * 365);
    assert!(keeper.open_at(Moment::Running, later).is_err());
    assert_eq!(fs::read(&certificate).unwrap(), root);
    assert!(keeper.open(Moment::Running).is_ok(), "when the clock is right again");
    keeper.open_at(Moment::Start, later).unwrap();
    assert_ne!(fs::read(&certificate).unwrap(), root);
}

#[test]
fn every_key_is_closed_to_others_in_use_or_set_aside() {
    let (_folder, keeper) = keeper();
    keeper.open(Moment::Start).unwrap();
    let (chain, key) = (keeper.folder.chain(), keeper.folder.key());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let loosen = || fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    loosen();
    keeper.open(Moment::Start).unwrap();
    assert_eq!(mode(&key), 0o600);
    loosen();
    fs::write(&chain, "damaged").unwrap();
    keeper.open(Moment::Start).unwrap();
    let keys = fs::read_dir(key.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let keys: Vec<PathBuf> =
        keys.filter(|path| path.to_str().unwrap().contains("key.pem")).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| mode(key) == 0o600));
}

#[test]
fn a_leaf_that_cannot_be_written_is_served_and_written_later() {
    let (_folder, keeper) = keeper();
    keeper.open(Moment::Start).unwrap();
    let (chain, key) = (keeper.folder.chain(), keeper.folder.key());
    fs::remove_file(&chain).unwrap();
    fs::remove_file(&key).unwrap();
    // In the way of the new file, even for a user whom no mode stops.
    let obstacle = key.with_extension("pem.new");
    fs::create_dir(&obstacle).unwrap();
    let opened = keeper.open(Moment::Start).unwrap();
    let pems = opened.unsaved.as_ref().unwrap();
    assert!(keeper.save(pems).is_err());
    fs::remove_dir(&obstacle).unwrap();
    keeper.save(pems).unwrap();
    let again = keeper.open(Moment::Start).unwrap();
    assert_eq!(der(&again), der(&opened));
    assert!(again.unsaved.is_none());
}

#[test]
fn a_folder_that_cannot_be_locked_needs_only_its_root() {
    let (folder, keeper) = keeper();
    let first = keeper.open(Moment::Start).unwrap();
    fs::remove_file(folder.path().join(".lock")).unwrap();
    // No file to write into, even for a user whom no mode stops.
    fs::create_dir(folder.path().join(".lock")).unwrap();
    assert_eq!(der(&keeper.open(Moment::Start).unwrap()), der(&first));
    let (chain, key) = (keeper.folder.chain(), keeper.folder.key());
    fs::write(&chain, "damaged").unwrap();
    let other = keeper.open(Moment::Start).unwrap();
    assert!(other.unsaved.is_some() && der(&other) != der(&first));
    assert_eq!(fs::read_to_string(&chain).unwrap(), "damaged");
    assert!(key.exists());
    fs::remove_file(root::certificate_path(&keeper.certs)).unwrap();
    assert!(keeper.open(Moment::Start).is_err());
}

#[test]
fn a_discarded_key_stays_so_and_its_leaf_lives_as_long_as_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().to_owned();
    let config = Config { certs: certs.clone(), discard_root_key: true, ..Config::default() };
    let key = certs.join("ca/root.key");
    let first = keeper_of(&config).open(Moment::Start).unwrap();
    assert!(!key.exists() && first.unsaved.is_none());
    assert!(first.leaf.not_after - first.leaf.not_before > time::Duration::days(3640));
    assert_eq!(first.renew_at, first.leaf.not_after);
    for moment in [Moment::Start, Moment::Running] {
        let again = keeper_of(&config).open(moment).unwrap();
        assert_eq!((der(&again), &again.root), (der(&first), &first.root));
    }
    // Other names: nothing can sign for them any more, so only a start may go on, with a new root.
    let other = Config { domain: "farm.lan".to_owned().try_into().unwrap(), ..config };
    let error = keeper_of(&other).open(Moment::Running).err().unwrap().to_string();
    assert!(error.contains("restart"), "{error}");
    let next = keeper_of(&other).open(Moment::Start).unwrap();
    assert_ne!(next.root, first.root);
    assert!(!key.exists());
}

#[test]
fn a_key_is_discarded_once_the_setting_says_so() {
    let (_folder, keeper) = keeper();
    let short = keeper.open(Moment::Start).unwrap();
    let config =
        Config { certs: keeper.certs.clone(), discard_root_key: true, ..Config::default() };
    let long = keeper_of(&config).open(Moment::Start).unwrap();
    assert_eq!(long.root, short.root);
    assert!(long.leaf.not_after > short.leaf.not_after + time::Duration::days(3000));
    assert!(!keeper.certs.join("ca/root.key").exists());
}

#[test]
fn a_root_stays_for_names_below_its_own_and_is_replaced_for_others_at_a_start() {
    let (folder, keeper) = keeper();
    let first = keeper.open(Moment::Start).unwrap();
    let with = |domain: &str, routes: &str| {
        keeper_of(&Config {
            certs: folder.path().to_owned(),
            domain: domain.to_owned().try_into().unwrap(),
            routes: routes.parse().unwrap(),
            ..Config::default()
        })
    };
    let below = with("localhost", "coin.localhost/=http://a:1").open(Moment::Running).unwrap();
    assert_eq!(below.root, first.root);
    let other = with("localhost", "coin.lan/=http://a:1");
    let error = other.open(Moment::Running).err().unwrap().to_string();
    assert!(error.contains("coin.lan") && error.contains("restart"), "{error}");
    let next = other.open(Moment::Start).unwrap();
    assert_ne!(next.root, first.root);
    let aside = fs::read_dir(folder.path().join("ca")).unwrap();
    let aside = aside.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".replaced-")
    });
    assert_eq!(aside.count(), 2);
}

#[test]
fn a_root_without_constraints_is_kept() {
    let (folder, keeper) = keeper();
    let now = OffsetDateTime::now_utc();
    // As the first version made it.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.not_after = now + time::Duration::days(3650);
    let old = params.self_signed(&key).unwrap().pem();
    fs::create_dir(folder.path().join("ca")).unwrap();
    fs::write(folder.path().join("ca/root.crt"), &old).unwrap();
    fs::write(folder.path().join("ca/root.key"), key.serialize_pem()).unwrap();
    assert_eq!(keeper.open(Moment::Start).unwrap().root.pem, old);
}

#[test]
fn a_stand_in_is_not_in_the_folder_of_the_site_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        certs: folder.path().to_owned(),
        domain: "farm.net".to_owned().try_into().unwrap(),
        acme_email: "me@farm.net".to_owned(),
        ..Config::default()
    };
    let opened = keeper_of(&config).open(Moment::Start).unwrap();
    assert_eq!(opened.leaf.names, ["farm.net"]);
    assert!(folder.path().join("ca/stand-in/chain.pem").exists());
    assert!(!folder.path().join("sites/farm.net").exists());
}

#[test]
fn a_name_that_waits_for_acme_costs_nobody_the_root_that_clients_trust() {
    let folder = tempfile::tempdir().unwrap();
    let with = |routes: &str, discard_root_key| {
        keeper_of(&Config {
            certs: folder.path().to_owned(),
            routes: routes.parse().unwrap(),
            acme_email: "me@farm.net".to_owned(),
            discard_root_key,
            ..Config::default()
        })
    };
    let one = "localhost/=http://a:1";
    let two = "localhost/=http://a:1 farm.net/=http://a:1";
    let first = with(one, false).open(Moment::Start).unwrap();
    for moment in [Moment::Running, Moment::Start] {
        let next = with(two, false).open(moment).unwrap();
        assert_eq!((&next.root, &next.leaf.names), (&first.root, &first.leaf.names));
    }
    // Nor where nothing can be signed any more; there a name that went costs nothing either.
    let sealed = with("localhost/=http://a:1 a.localhost/=http://a:1", true);
    let sealed = sealed.open(Moment::Start).unwrap();
    for routes in [two, one] {
        for moment in [Moment::Running, Moment::Start] {
            let next = with(routes, true).open(moment).unwrap();
            assert_eq!((der(&next), &next.root), (der(&sealed), &first.root), "{routes}");
        }
    }
}
