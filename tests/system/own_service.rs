//! A service of a user's own: a folder, an entry, a route, and no edit of anything of ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use harness::Stack;
use harness::run;

use crate::machine::Project;
use crate::machine::container;
use crate::machine::copy_checkout;
use crate::machine::inspect;

const MANIFEST: &str = r#"
[package]
name = "coin"
version = "0.1.0"
edition = "2024"

[dependencies]
actix-web.workspace = true
chassis = { workspace = true, features = ["server"] }
serde.workspace = true
"#;

const MAIN: &str = r#"
use std::net::SocketAddr;
use std::time::Duration;

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "[::]:8080".parse().expect("an address") }
    }
}

impl chassis::Settings for Config {
    fn health_address(&self) -> SocketAddr {
        self.listen
    }
}

fn main() -> std::process::ExitCode {
    chassis::run(chassis::about!(), |config: Config| {
        let registry = chassis::registry(&chassis::about!())?;
        let server = chassis::Server::new(config.listen, Duration::from_secs(8), registry);
        server.run(|routes| {
            routes.route("/coin", actix_web::web::get().to(async || "heads\n"));
        })
    })
}
"#;

const ENTRY: &str = "
services:
  coin:
    build: { context: ., dockerfile: docker/Dockerfile, args: { PACKAGE: coin } }
";

const ROUTE: &str = "[[route]]\nat = '/coin'\nto = 'http://coin:8080'\n";

/// A commit, since images say which one they were made from.
fn commit(folder: &Path) {
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "coin"],
    ] {
        let _ = run(Command::new("git").args(arguments).current_dir(folder)).success();
    }
}

#[test]
fn a_folder_an_entry_and_a_route_are_a_service() {
    let stack = Stack::from_env();
    let checkout = tempfile::tempdir().unwrap();
    copy_checkout(&stack, checkout.path());
    let folder = checkout.path().join("services/coin/src");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("../Cargo.toml"), MANIFEST).unwrap();
    fs::write(folder.join("main.rs"), MAIN).unwrap();
    fs::write(checkout.path().join("compose.override.yaml"), ENTRY).unwrap();
    commit(checkout.path());

    let mut project = Project::in_folder(checkout.path(), &stack, "coin");
    project.set("HUBBUB_TAG", &format!("{}-coin", stack.project()));
    let ca = project.ca();
    let up = run(&mut project.program("up", &["--ca", ca.to_str().unwrap()])).success();
    assert!(up.text().contains("Hubbub is up"), "{}", up.text());
    let gateway = || container(project.value("COMPOSE_PROJECT_NAME"), "gateway");
    let started_at = || inspect("container", &gateway())["State"]["StartedAt"].clone();
    let before = started_at();
    fs::write(checkout.path().join("config/routes.toml"), ROUTE).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Until then the hub says that it has no such page.
    while project.curl("/coin").text() != "heads\n" {
        assert!(Instant::now() < deadline, "the route is not there after 20 s");
    }
    assert_eq!(started_at(), before, "the gateway was restarted");
    assert_eq!(project.curl("/dice").success().text().lines().count(), 5);
    let health = project.compose(&["ps", "--format", "{{.Health}}", "coin"]).text();
    assert_eq!(health.trim(), "healthy");
}
