//! The private CA's files: kept over restarts, set aside when damaged, and who may read them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use openssl::nid::Nid;
use openssl::x509::X509;

use crate::support::Gateway;
use crate::support::tls;

const ROUTES: &str = "/=http://127.0.0.1:1 dice.localhost/=http://127.0.0.1:1";

fn certificate(path: &Path) -> X509 {
    X509::from_pem(&fs::read(path).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_for_their_owner_and_the_root_is_for_everybody() {
    let gateway = Gateway::start(ROUTES, &[]);
    assert_eq!(mode(&gateway.root()), 0o644);
    assert_eq!(mode(&gateway.certs.join("ca/root.key")), 0o600);
    assert_eq!(mode(&gateway.certs.join("sites/localhost/key.pem")), 0o600);
}

#[test]
fn a_restart_keeps_the_ca_and_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let all = || {
        ["ca/root.crt", "ca/root.key", "sites/localhost/chain.pem", "sites/localhost/key.pem"]
            .map(|name| fs::read(certs.join(name)).unwrap())
    };
    let mut gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    let before = all();
    assert!(gateway.service.terminate().success());
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    assert_eq!(all(), before);
    tls(&gateway, "dice.localhost", |_| {}).unwrap();
}

#[test]
fn another_domain_gets_a_root_of_its_own_and_a_host_below_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    let root = || fs::read(certs.join("ca/root.crt")).unwrap();
    let first = root();
    for (n, domain) in ["example.org", "192.0.2.7"].into_iter().enumerate() {
        let before = root();
        let settings = [("GATEWAY__DOMAIN", domain)];
        let gateway = Gateway::start_in(certs.clone(), "/=http://127.0.0.1:1", &settings);
        assert_ne!(root(), before);
        tls(&gateway, domain, |_| {}).unwrap();
        assert_eq!(aside(&certs.join("ca"), "replaced").len(), 2 * (n + 1));
    }
    let settings = [("GATEWAY__DOMAIN", "example.org")];
    drop(Gateway::start_in(certs.clone(), "/=http://127.0.0.1:1", &settings));
    let before = root();
    let routes = "/=http://127.0.0.1:1 a.b.example.org/=http://127.0.0.1:1";
    let gateway = Gateway::start_in(certs.clone(), routes, &settings);
    assert_eq!(root(), before);
    assert_ne!(before, first);
    for name in ["a.example.org", "a.b.example.org"] {
        tls(&gateway, name, |_| {}).unwrap();
    }
    tls(&gateway, "c.b.example.org", |_| {}).unwrap_err();
}

/// Names in `folder` that were set aside for that reason.
fn aside(folder: &Path, word: &str) -> Vec<String> {
    let word = format!(".{word}-");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.split_once(&word).map(|(n, _)| n.to_owned())).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_damaged_certificate_is_set_aside_and_made_again_by_the_same_root() {
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let other = openssl::ec::EcKey::generate(
        &openssl::ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap(),
    )
    .unwrap()
    .private_key_to_pem()
    .unwrap();
    for (name, damage) in [
        ("chain.pem", &half as &dyn Fn(&[u8]) -> Vec<u8>),
        ("chain.pem", &|_: &[u8]| Vec::new()),
        ("chain.pem", &|_: &[u8]| vec![0xff; 100]),
        ("key.pem", &half),
        ("key.pem", &|_: &[u8]| other.clone()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
        let root = fs::read(certs.join("ca/root.crt")).unwrap();
        let path = certs.join("sites/localhost").join(name);
        let damaged = damage(&fs::read(&path).unwrap());
        fs::write(&path, &damaged).unwrap();
        let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
        assert_eq!(aside(&certs.join("sites/localhost"), "damaged"), ["chain.pem", "key.pem"]);
        assert_eq!(fs::read(gateway.root()).unwrap(), root);
        tls(&gateway, "localhost", |_| {}).unwrap();
    }
}

#[test]
fn a_damaged_root_is_set_aside_with_what_it_signed() {
    for name in ["root.crt", "root.key"] {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
        let root = fs::read(certs.join("ca/root.crt")).unwrap();
        let path = certs.join("ca").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
        assert_eq!(aside(&certs.join("ca"), "damaged"), ["root.crt", "root.key"]);
        assert_eq!(aside(&certs.join("sites/localhost"), "damaged"), ["chain.pem", "key.pem"]);
        assert_ne!(fs::read(gateway.root()).unwrap(), root);
        tls(&gateway, "localhost", |_| {}).unwrap();
    }
}

#[test]
fn a_missing_key_is_a_damaged_root() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    fs::remove_file(certs.join("ca/root.key")).unwrap();
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    assert_eq!(aside(&certs.join("ca"), "damaged"), ["root.crt"]);
    tls(&gateway, "localhost", |_| {}).unwrap();
}

#[test]
fn a_discarded_key_is_gone_and_a_restart_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let settings = [("GATEWAY__DISCARD_ROOT_KEY", "true")];
    let all = || {
        ["ca/root.crt", "sites/localhost/chain.pem", "sites/localhost/key.pem"]
            .map(|name| fs::read(certs.join(name)).unwrap())
    };
    drop(Gateway::start_in(certs.clone(), ROUTES, &settings));
    let before = all();
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &settings);
    assert_eq!(all(), before);
    assert!(!certs.join("ca/root.key").exists());
    tls(&gateway, "dice.localhost", |_| {}).unwrap();
    let leaf = certificate(&certs.join("sites/localhost/chain.pem"));
    let root = certificate(&gateway.root());
    assert_eq!(leaf.not_after().diff(root.not_after()).unwrap().days, 0);
}

#[test]
fn a_group_may_read_the_certificates_of_sites_and_nothing_else() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    let group = fs::metadata(&certs).unwrap().gid();
    let settings = [("GATEWAY__CERTS_GROUP", &*group.to_string())];
    let _gateway = Gateway::start_in(certs.clone(), ROUTES, &settings);
    for (name, expected) in [
        ("sites/localhost", 0o750),
        ("sites/localhost/chain.pem", 0o640),
        ("sites/localhost/key.pem", 0o640),
        ("ca/root.key", 0o600),
    ] {
        assert_eq!(mode(&certs.join(name)), expected, "{name}");
        assert_eq!(fs::metadata(certs.join(name)).unwrap().gid(), group, "{name}");
    }
}

/// What a gateway says that does not start.
fn stderr_of_a_failed_start(certs: &Path, set: impl FnOnce(&mut Command)) -> String {
    // Where any user may run it: what is built may be in somebody's home.
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = open.path().join("gateway");
    fs::copy(env!("CARGO_BIN_EXE_gateway"), &binary).unwrap();
    let mut command = Command::new(binary);
    command.envs([
        ("GATEWAY__HTTPS", "127.0.0.1:0"),
        ("GATEWAY__HTTP", "127.0.0.1:0"),
        ("GATEWAY__ADMIN", "127.0.0.1:0"),
        ("GATEWAY__ROUTES", ROUTES),
        ("GATEWAY__CERTS", certs.to_str().unwrap()),
    ]);
    set(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("file");
    fs::write(&certs, "not a folder").unwrap();
    let stderr = stderr_of_a_failed_start(&certs, |_| {});
    assert!(stderr.contains(certs.to_str().unwrap()), "{stderr}");
}

#[test]
fn a_folder_of_another_user_is_told_with_the_remedy() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    /// `nobody`, for whoever can become it.
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let owner = fs::metadata(folder.path()).unwrap().uid();
    let user = if owner == 0 { NOBODY } else { owner };
    let stderr = stderr_of_a_failed_start(&folder.path().join("certs"), |command| {
        if owner == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (path, certs) = (folder.path().display(), folder.path().join("certs"));
    for part in [
        format!("{path} belongs to user {owner} with mode 0555"),
        format!("the gateway, user {user}, has to write there"),
        format!("chown -R {user}:"),
        certs.display().to_string(),
    ] {
        assert!(stderr.contains(&part), "{part}: {stderr}");
    }
}
