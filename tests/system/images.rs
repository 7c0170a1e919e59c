//! The images and what their containers may do, by what the engine and the kernel say.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use harness::Stack;
use harness::run;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::machine::SERVICES;
use crate::machine::container;
use crate::machine::docker;
use crate::machine::inspect;

/// One container of each service, and its name.
fn all(stack: &Stack) -> Vec<(&'static str, Value)> {
    let containers = SERVICES.map(|service| container(stack.project(), service));
    let inspected = containers.iter().map(|container| inspect("container", container));
    SERVICES.into_iter().zip(inspected).collect()
}

/// The image of a service.
fn image(container: &Value) -> Value {
    inspect("image", container["Image"].as_str().unwrap())
}

/// A file as a container's main process sees it.
fn inside(container: &Value, path: &str) -> PathBuf {
    let process = container["State"]["Pid"].as_u64().unwrap();
    PathBuf::from(format!("/proc/{process}/root{path}"))
}

#[test]
fn an_image_is_small() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let bytes_max = match service {
            // The voices of many languages.
            "say" => 15_000_000,
            // Three protocols, a private CA and ACME.
            "gateway" => 12_000_000,
            _ => 10_000_000,
        };
        let bytes = image(&container)["Size"].as_u64().unwrap();
        assert!(bytes <= bytes_max, "{service}: {bytes} bytes");
    }
}

#[test]
fn an_image_holds_its_binary_and_its_licence() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let mut export = Command::new("docker");
        export.args(["export", container["Id"].as_str().unwrap()]).stdout(Stdio::piped());
        let mut export = export.spawn().unwrap();
        let mut list = Command::new("tar");
        let list = run(list.arg("--list").stdin(export.stdout.take().unwrap())).success().text();
        assert!(export.wait().unwrap().success());
        // What the engine mounts into every container.
        let mounted = ["dev/", "etc/", "proc/", "sys/", ".dockerenv"];
        let names = list.lines().filter(|name| !mounted.iter().any(|at| name.starts_with(at)));
        let names: BTreeSet<&str> = names.collect();
        let mut expected = BTreeSet::from([service, "LICENSE"]);
        match service {
            "gateway" => _ = expected.insert("certs/"),
            "say" => _ = expected.insert("source.tar.gz"),
            _ => {}
        }
        assert_eq!(names, expected);
    }
}

#[test]
fn an_image_says_what_it_is() {
    let stack = Stack::from_env();
    let manifest = fs::read_to_string(stack.folder().join("Cargo.toml")).unwrap();
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.unwrap().trim_matches('"');
    for (service, container) in all(&stack) {
        let image = image(&container);
        let label = |name: &str| {
            let name = format!("org.opencontainers.image.{name}");
            image["Config"]["Labels"][&name].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(label("title"), format!("hubbub/{service}"));
        assert_eq!(label("version"), version, "{service}");
        assert_eq!(label("source"), provenance(stack.folder()).1, "{service}");
        assert!(!label("description").is_empty(), "{service}");
        let licence = if service == "say" { "GPL-3.0-or-later" } else { "MIT" };
        assert_eq!(label("licenses"), licence, "{service}");
        let revision = label("revision");
        let commit = revision.trim_end_matches("-dirty");
        let digits = if stack.folder().join(".git").exists() { 40 } else { 0 };
        assert_eq!(commit.len(), digits, "{service}: {revision:?} is no commit");
        if service == "say" {
            assert!(label("description").contains("/source.tar.gz"), "where is its source?");
        }
        assert_eq!(image["Config"]["User"], "65532:65532", "{service}");
        assert_eq!(image["Config"]["Entrypoint"], json!([format!("/{service}")]));
        assert_eq!(
            image["Config"]["Healthcheck"]["Test"],
            json!(["CMD", format!("/{service}"), "healthcheck"])
        );
    }
}

/// A file of an image, without running it.
fn taken_from(image: &str, path: &str, target: &Path) {
    let container = docker(&["create", image]).text().trim().to_owned();
    let from = format!("{container}:{path}");
    let copied = run(Command::new("docker").args(["cp", &from]).arg(target));
    docker(&["rm", &container]);
    let _ = copied.success();
}

/// What the GPL asks for: who has the image has all that its binary is made from.
#[test]
fn the_image_of_say_holds_the_source_of_its_binary() {
    let stack = Stack::from_env();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let of_the_stack = inspect("container", &container(stack.project(), "say"));
    let image = of_the_stack["Image"].as_str().unwrap();
    taken_from(image, "/source.tar.gz", &at("source.tar.gz"));
    taken_from(image, "/say", &at("say"));
    let mut unpack = Command::new("tar");
    let _ = run(unpack.args(["-xzf", "source.tar.gz"]).current_dir(folder.path())).success();

    let origin = fs::read_to_string(at("hubbub-say/SOURCE")).unwrap();
    for package in ["espeak-ng 1.52", "sonic 0."] {
        assert!(origin.contains(&format!("    {package}")), "{package} is missing in\n{origin}");
    }
    let tag = format!("{}-from-source", stack.project());
    let build = origin.lines().find_map(|line| line.strip_prefix("To build it: ")).unwrap();
    let mut again = Command::new("sh");
    again.args(["-c", build]).current_dir(at("hubbub-say"));
    let _ = run(again.env("HUBBUB_TAG", &tag).env("DOCKER_BUILDKIT", "1")).success();
    let built = format!("hubbub/say:{tag}");
    taken_from(&built, "/say", &at("say-again"));
    docker(&["image", "rm", &built]);
    let same = fs::read(at("say")).unwrap() == fs::read(at("say-again")).unwrap();
    assert!(same, "its source builds another binary");
}

/// A repository of this kind, with one commit.
fn repository(stack: &Stack) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["docker", "chassis/src"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let script = "docker/provenance";
    fs::copy(stack.folder().join(script), folder.path().join(script)).unwrap();
    fs::write(folder.path().join("chassis/src/lib.rs"), "").unwrap();
    git(folder.path(), &["init", "--quiet"]);
    commit(folder.path());
    folder
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    run(Command::new("git").args(arguments).current_dir(folder)).success().text()
}

/// Commits all there is.
fn commit(folder: &Path) -> String {
    git(folder, &["add", "--all"]);
    let author = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
    git(folder, &[&author[..], &["commit", "--quiet", "--message", "test"]].concat());
    git(folder, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// The revision and the address that `docker/provenance` prints.
fn provenance(folder: &Path) -> (String, String) {
    let output = run(&mut Command::new(folder.join("docker/provenance"))).success();
    assert_eq!(output.stderr, "");
    let text = output.text();
    let (revision, rest) = text.split_once('\n').unwrap();
    (revision.to_owned(), rest.trim_end().to_owned())
}

#[test]
fn the_revision_is_the_last_commit_that_touched_what_images_are_built_from() {
    let stack = Stack::from_env();
    let folder = repository(&stack);
    let folder = folder.path();
    let revision = || provenance(folder).0;
    let first = git(folder, &["rev-parse", "HEAD"]).trim().to_owned();
    assert_eq!(revision(), first);

    for document in ["README.md", "chassis/README.md", "up"] {
        fs::write(folder.join(document), "other words").unwrap();
        assert_eq!(revision(), first, "{document} is in no image");
    }
    let documents = commit(folder);
    fs::write(folder.join("README.md"), "changed").unwrap();
    assert_ne!(documents, first);
    assert_eq!(revision(), first);

    let code = folder.join("chassis/src/lib.rs");
    fs::write(&code, "// changed").unwrap();
    assert_eq!(revision(), format!("{first}-dirty"));
    let second = commit(folder);
    assert_eq!(revision(), second);

    // Without a repository there is nothing to say.
    fs::remove_dir_all(folder.join(".git")).unwrap();
    assert_eq!(provenance(folder), Default::default());
}

#[test]
fn the_address_of_the_source_is_public_and_holds_no_login() {
    let stack = Stack::from_env();
    let folder = repository(&stack);
    let address = || provenance(folder.path()).1;
    assert_eq!(address(), "", "there is no remote");
    git(folder.path(), &["remote", "add", "origin", "x"]);
    for (remote, shown) in [
        ("https://forge.test/a/b.git", "https://forge.test/a/b.git"),
        ("https://user:secret@forge.test:8443/a/b", "https://forge.test:8443/a/b"),
        ("https://secret@forge.test/a/b?token=secret#x", "https://forge.test/a/b"),
        ("https://user:p@ss@forge.test/a/b", ""),
        ("git@forge.test:a/b.git", "https://forge.test/a/b.git"),
        ("ssh://git@forge.test:2222/a/b.git", "https://forge.test/a/b.git"),
        ("me@forge.test:a/b.git", ""),
        ("git@alias:a/b.git", ""),
        ("file:///srv/a.git", ""),
        ("/srv/a.git", ""),
        ("../a", ""),
    ] {
        git(folder.path(), &["remote", "set-url", "origin", remote]);
        assert_eq!(address(), shown, "{remote}");
    }
}

#[test]
fn a_container_has_no_privileges_and_has_limits() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let host = &container["HostConfig"];
        assert_eq!(container["Config"]["User"], "65532:65532", "{service}");
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["CapDrop"], json!(["ALL"]), "{service}");
        assert!(host["CapAdd"].is_null(), "{service}");
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]), "{service}");
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(host["IpcMode"], "none", "{service}: /dev/shm could be written");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}");
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "10m", "{service}");
        let within = |field: &str, least: i64, most: i64| {
            let value = host[field].as_i64().unwrap_or_default();
            assert!((least..=most).contains(&value), "{service}: {field} = {value}");
        };
        within("Memory", 16 << 20, 512 << 20);
        within("PidsLimit", 8, 512);
        within("NanoCpus", 1, 64_000_000_000);
        let mounts = container["Mounts"].as_array().unwrap();
        let mut mounts: Vec<(&str, bool)> = mounts
            .iter()
            .map(|mount| (mount["Destination"].as_str().unwrap(), mount["RW"] == true))
            .collect();
        mounts.sort_unstable();
        let expected = [("/certs", true), ("/etc/hubbub", false)];
        let expected = if service == "gateway" { &expected[..] } else { &[] };
        assert_eq!(mounts, expected, "{service}");
    }
}

#[test]
fn the_kernel_gives_no_privileges() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let process = container["State"]["Pid"].as_u64().unwrap();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(field("Uid:"), "65532 65532 65532 65532", "{service}");
        assert_eq!(field("Gid:"), "65532 65532 65532 65532", "{service}");
        assert_eq!(field("NoNewPrivs:"), "1", "{service}");
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(capabilities), "0000000000000000", "{service}: {capabilities}");
        }
    }
}

#[test]
fn the_kernel_keeps_the_limits() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let host = &container["HostConfig"];
        // The group's own files, in version 1 of control groups and in version 2.
        for (field, first, second) in [
            ("Memory", "memory/memory.limit_in_bytes", "memory.max"),
            ("PidsLimit", "pids/pids.max", "pids.max"),
        ] {
            let group = inside(&container, "/sys/fs/cgroup");
            let limit = fs::read_to_string(group.join(first))
                .or_else(|_| fs::read_to_string(group.join(second)))
                .unwrap_or_else(|error| panic!("{service}: {field}: {error}"));
            assert_eq!(limit.trim(), host[field].to_string(), "{service}: {field}");
        }
    }
}

/// Even root, who acts here through the container's own mounts, is refused.
#[test]
fn the_root_file_system_cannot_be_written() {
    let stack = Stack::from_env();
    for (service, container) in all(&stack) {
        let binary = inside(&container, &format!("/{service}"));
        let mode = fs::metadata(&binary).unwrap().permissions();
        for (attempt, result) in [
            ("make a file", fs::write(inside(&container, "/written"), "")),
            ("change the licence", fs::write(inside(&container, "/LICENSE"), "")),
            ("change the binary's mode", fs::set_permissions(&binary, mode)),
        ] {
            let error = result.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::ReadOnlyFilesystem,
                "{service}: {attempt}: {error}"
            );
        }
    }
}

#[test]
fn the_private_key_of_the_ca_is_for_the_gateway_only() {
    use std::os::unix::fs::MetadataExt;
    let stack = Stack::from_env();
    let gateway = inspect("container", &container(stack.project(), "gateway"));
    let mode = |path: &str| {
        let metadata = fs::metadata(inside(&gateway, path)).unwrap();
        (metadata.uid(), metadata.mode() & 0o777)
    };
    assert_eq!(mode("/certs/ca/root.key"), (65532, 0o600));
    assert_eq!(mode("/certs/ca/root.crt"), (65532, 0o644));
}
