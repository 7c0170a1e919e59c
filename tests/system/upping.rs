//! What `./up` says when it cannot go on: what is wrong, and what to do about it.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use harness::Output;
use harness::Stack;
use harness::run;

use crate::machine::Project;
use crate::machine::free_port;

/// `./up <arguments>` of the checkout.
fn up(stack: &Stack, arguments: &[&str]) -> Command {
    let mut command = Command::new(stack.folder().join("up"));
    command.args(arguments);
    command
}

/// It failed with exit code 1, named the trouble and gave the remedy.
fn told(output: &Output, trouble: &str, remedy: &str) {
    let text = format!("{}{}", output.text(), output.stderr);
    assert_eq!(output.code, Some(1), "{text}");
    assert!(output.stderr.contains(trouble), "{trouble:?} is missing in\n{text}");
    assert!(output.stderr.contains(remedy), "{remedy:?} is missing in\n{text}");
}

#[test]
fn an_unknown_option_is_misuse() {
    let stack = Stack::from_env();
    for arguments in [&["--bulid"][..], &["now"], &["--ca"]] {
        let output = run(&mut up(&stack, arguments));
        assert_eq!(output.code, Some(2), "{arguments:?}");
        assert!(output.stderr.contains("usage: ./up"), "{arguments:?}: {}", output.stderr);
    }
    let help = run(&mut up(&stack, &["--help"])).success();
    assert!(help.text().contains("HTTPS_PORT"), "{}", help.text());
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let stack = Stack::from_env();
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let output = run(up(&stack, &[]).env("DOCKER_HOST", &nowhere));
    told(
        &output,
        &format!("No Docker engine answers at DOCKER_HOST={nowhere}"),
        "unset DOCKER_HOST",
    );
}

/// A folder of programs: these of this machine, and no others.
fn programs(folder: &Path, names: &[&str]) {
    for name in names {
        let found = run(Command::new("sh").args(["-c", &format!("command -v {name}")])).success();
        symlink(found.text().trim(), folder.join(name)).unwrap();
    }
}

#[test]
fn without_docker_it_says_how_to_get_it() {
    let stack = Stack::from_env();
    let path = tempfile::tempdir().unwrap();
    programs(path.path(), &["bash", "dirname", "mktemp", "rm"]);
    let output = run(up(&stack, &[]).env("PATH", path.path()));
    told(&output, "Docker is not installed", "apt-get install docker.io");
}

#[test]
fn a_user_without_rights_is_told_how_to_get_them() {
    let stack = Stack::from_env();
    // The checkout itself may lie where nobody else may read.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("docker")).unwrap();
    for file in ["up", "docker/common.bash"] {
        fs::copy(stack.folder().join(file), folder.path().join(file)).unwrap();
    }
    let mut command = Command::new(folder.path().join("up"));
    command.uid(65534).gid(65534).current_dir("/").env("HOME", "/nonexistent");
    command.env_remove("DOCKER_HOST");
    let output = run(&mut command);
    told(&output, "You may not use the Docker engine", "usermod -aG docker");
}

#[test]
fn a_taken_port_is_named_with_who_has_it() {
    let stack = Stack::from_env();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let project = Project::new(&stack, "taken");

    let output = project.up(&[("HTTP_PORT", &taken.to_string())]);
    let process = format!("(process {})", std::process::id());
    told(&output, &format!("Port {taken} is taken by "), "HTTP_PORT=8080 ./up");
    assert!(output.stderr.contains(&process), "{process} is missing in {}", output.stderr);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap().port();
    let output = project.up(&[("HTTPS_PORT", &taken.to_string())]);
    told(&output, &format!("Port {taken} (UDP, for HTTP/3) is taken by "), "HTTPS_PORT=8443 ./up");
    assert!(output.stderr.contains(&process), "{process} is missing in {}", output.stderr);

    let of_the_stack = stack.https().rsplit(':').next().unwrap();
    let output = project.up(&[("HTTPS_PORT", of_the_stack)]);
    let container = format!("the container {}-gateway-1", stack.project());
    told(&output, &format!("Port {of_the_stack} is taken by {container}"), "HTTPS_PORT=8443 ./up");
}

#[test]
fn another_up_is_waited_for_and_that_is_said() {
    let stack = Stack::from_env();
    let other = File::open(stack.folder().join("docker/common.bash")).unwrap();
    other.lock().unwrap();
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let mut up = up(&stack, &["--no-build"]);
    let up = up.env("DOCKER_HOST", &nowhere).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut up = up.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(up.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "waiting for another ./up here\n");
    assert!(up.try_wait().unwrap().is_none(), "it did not wait");
    other.unlock().unwrap();
    let output = up.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("No Docker engine answers"), "{stderr}");
}

#[test]
fn settings_that_compose_cannot_read_are_refused() {
    let stack = Stack::from_env();
    let output = run(up(&stack, &["--no-build"]).env("HTTP_PORT", "eighty"));
    told(&output, "compose.yaml or .env cannot be read", "eighty");
}

#[test]
fn images_that_are_not_there_are_named() {
    let stack = Stack::from_env();
    let output = run(up(&stack, &["--no-build"]).env("HUBBUB_TAG", "never-built"));
    told(&output, "There is no image hubbub/", "build it: ./up");
}

#[test]
fn a_full_disk_is_seen_before_it_is_full() {
    let stack = Stack::from_env();
    // In place of df, one that reports 50 MB of room.
    let folder = tempfile::tempdir().unwrap();
    let df = folder.path().join("df");
    fs::write(&df, "#!/bin/sh\necho Filesystem\necho disk 1000000 948800 51200 95% /\n").unwrap();
    fs::set_permissions(&df, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    let path = format!("{}:{path}", folder.path().display());
    let output = run(up(&stack, &["--no-build"]).env("PATH", path));
    told(&output, "has 50 MB of room; 200 MB are needed", "docker system prune");
}

#[test]
fn a_service_that_does_not_start_is_shown_with_its_log() {
    let stack = Stack::from_env();
    let project = Project::new(&stack, "broken");
    let output = project.up(&[("ROUTES", "/coin=nowhere")]);
    told(&output, "gateway is ", "Hubbub did not become healthy");
    assert!(output.stderr.contains("bad settings: `nowhere`"), "{}", output.stderr);
}

#[test]
fn a_missing_compose_is_fetched_into_the_users_folder() {
    let stack = Stack::from_env();
    let folder = tempfile::tempdir().unwrap();
    let plugin = || {
        let mut command = Command::new(stack.folder().join("docker/compose-plugin"));
        run(command.env("DOCKER_CONFIG", folder.path())).success()
    };
    let _ = plugin();
    let mut compose = Command::new("docker");
    compose.args(["compose", "version", "--short"]).env("DOCKER_CONFIG", folder.path());
    let version = run(&mut compose).success().text();
    let major: u32 = version.trim_start_matches('v').split('.').next().unwrap().parse().unwrap();
    assert!(major >= 2, "{version}");
    assert_eq!(plugin().stderr, "", "the second time there is nothing to do");
}

#[test]
fn the_builder_image_is_there_at_once_the_second_time() {
    let stack = Stack::from_env();
    let builder = stack.folder().join("docker/builder-image");
    let output = run(&mut Command::new(&builder)).success();
    assert!(output.stderr.contains("rust:1.95-slim-trixie is here"), "{}", output.stderr);
    let output = run(Command::new(&builder).arg("python:3"));
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("rust:VERSION-slim-SUITE"), "{}", output.stderr);
}
