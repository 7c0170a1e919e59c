//! What the tests of operations share: containers as the engine sees them, stacks and ports of
//! their own, and a network namespace to look at the machine from outside.

use std::ffi::OsStr;
use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use harness::Output;
use harness::Stack;
use harness::run;
use serde_json::Value;
use tempfile::TempDir;

/// The services of `compose.yaml`.
pub const SERVICES: [&str; 4] = ["gateway", "hub", "dice", "say"];

/// `docker <arguments>`, which must succeed.
pub fn docker<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    run(Command::new("docker").args(arguments)).success()
}

/// `program <arguments>`, which must succeed.
pub fn command(program: &str, arguments: &[&str]) -> Output {
    run(Command::new(program).args(arguments)).success()
}

/// The running containers of one service.
pub fn containers(project: &str, service: &str) -> Vec<String> {
    let filters = [
        format!("label=com.docker.compose.project={project}"),
        format!("label=com.docker.compose.service={service}"),
    ];
    let ids = docker(&["ps", "--quiet", "--filter", &filters[0], "--filter", &filters[1]]);
    ids.text().lines().map(str::to_owned).collect()
}

/// The one running container of a service.
pub fn container(project: &str, service: &str) -> String {
    let mut found = containers(project, service);
    assert_eq!(found.len(), 1, "{service} of {project}: {found:?}");
    found.remove(0)
}

/// What the engine knows of a container or an image.
pub fn inspect(kind: &str, name: &str) -> Value {
    let text = docker(&[kind, "inspect", name]).text();
    let Value::Array(mut values) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    values.remove(0)
}

/// A container's address in the private network.
pub fn address(container: &str) -> String {
    let container = inspect("container", container);
    let project = container["Config"]["Labels"]["com.docker.compose.project"].as_str().unwrap();
    let networks = &container["NetworkSettings"]["Networks"];
    let address = networks[format!("{project}_default")]["IPAddress"].as_str().unwrap();
    assert!(!address.is_empty(), "{container}");
    address.to_owned()
}

/// Where a process of the stack serves `/metrics` in the private network.
pub fn metrics_address(project: &str, service: &str) -> String {
    let port = if service == "gateway" { 9000 } else { 8080 };
    format!("{}:{port}", address(&container(project, service)))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port()
}

/// A stack beside the one of the test run, made of the same images; removed when dropped.
pub struct Project {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    scratch: TempDir,
}

impl Project {
    /// Nothing runs yet. What a test that was cut off left of it is removed.
    pub fn new(stack: &Stack, purpose: &str) -> Self {
        Self::in_folder(stack.folder(), stack, purpose)
    }

    /// The same for another checkout.
    pub fn in_folder(folder: &Path, stack: &Stack, purpose: &str) -> Self {
        let environment = vec![
            ("COMPOSE_PROJECT_NAME", format!("{}-{purpose}", stack.project())),
            ("HTTP_PORT", free_port().to_string()),
            ("HTTPS_PORT", free_port().to_string()),
        ];
        let scratch = tempfile::tempdir().unwrap();
        let project = Self { folder: folder.to_owned(), environment, scratch };
        project.remove();
        project
    }

    /// Adds a variable to this project's environment.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// A program of the checkout, such as `./up`, in this project's environment.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.args(arguments).envs(self.variables());
        command
    }

    /// `./up --no-build`, with the CA's certificate kept out of the checkout.
    pub fn up(&self, environment: &[(&str, &str)]) -> Output {
        let ca = self.ca();
        let arguments = ["--no-build", "--ca", ca.to_str().unwrap()];
        run(self.program("up", &arguments).envs(environment.iter().copied()))
    }

    /// Where [`Self::up`] has the CA's certificate written to.
    pub fn ca(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    /// `docker compose <arguments>` for this project.
    pub fn compose(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.arg("compose").args(arguments).current_dir(&self.folder);
        run(command.envs(self.variables())).success()
    }

    /// `docker compose down <arguments>`.
    pub fn down(&self, arguments: &[&str]) {
        self.compose(&[&["down", "--timeout", "5"], arguments].concat());
    }

    fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.environment.iter().map(|(key, value)| (*key, value.as_str()))
    }

    fn remove(&self) {
        // Images of the test run's own tag stay: they are another stack's.
        let own_images = self.environment.iter().any(|(key, _)| *key == "HUBBUB_TAG");
        let images: &[&str] = if own_images { &["--rmi", "all"] } else { &[] };
        self.down(&[&["--volumes", "--remove-orphans"], images].concat());
    }

    /// The value that a variable has for this project.
    pub fn value(&self, name: &str) -> &str {
        let mut environment = self.environment.iter();
        &environment.find(|(key, _)| *key == name).unwrap().1
    }

    /// `curl --cacert … https://localhost:PORT<path>`.
    pub fn curl(&self, path: &str) -> Output {
        let address = format!("https://localhost:{}{path}", self.value("HTTPS_PORT"));
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "30", "--cacert"]);
        run(command.arg(self.ca()).arg(address))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A network namespace with a cable to this machine: another machine as far as addresses go.
/// Removed when dropped. Making one takes root.
pub struct Namespace {
    name: String,
    /// The cable's ends, here and there; an interface's name has at most 15 letters.
    ends: [String; 2],
    /// The first three numbers and the base of the last one: the cable is a /30 of 10.213.0.0/16.
    subnet: (String, u8),
}

impl Namespace {
    /// Named after the stack, so that two test runs on one machine do not meet.
    pub fn new(stack: &Stack, purpose: &str) -> Self {
        let name = format!("{}-{purpose}", stack.project());
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let [first, second, third, fourth, ..] = hasher.finish().to_le_bytes();
        let tag = format!("{first:02x}{second:02x}{third:02x}{fourth:02x}");
        let ends = [format!("hb{tag}h"), format!("hb{tag}t")];
        let subnet = (format!("10.213.{first}"), second & !3);
        let namespace = Self { name, ends, subnet };
        namespace.remove();
        let (name, [near, far]) = (&namespace.name, &namespace.ends);
        let (here, there) = (namespace.here(), namespace.there());
        for line in [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("addr add {here}/30 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add {there}/30 dev {far}"),
            format!("-n {name} link set {far} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} route add default via {here}"),
        ] {
            command("ip", &line.split(' ').collect::<Vec<_>>());
        }
        namespace
    }

    /// This machine's address on the cable.
    pub fn here(&self) -> String {
        format!("{}.{}", self.subnet.0, self.subnet.1 + 1)
    }

    /// The other end's address.
    pub fn there(&self) -> String {
        format!("{}.{}", self.subnet.0, self.subnet.1 + 2)
    }

    /// A program that runs in the namespace; the file system stays this machine's. It ends with
    /// the test, even if that is killed.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--");
        command.args(["setpriv", "--pdeathsig", "TERM", "--", program]);
        command
    }

    fn remove(&self) {
        // Neither is there, as a rule.
        if Path::new("/sys/class/net").join(&self.ends[0]).exists() {
            command("ip", &["link", "delete", &self.ends[0]]);
        }
        if Path::new("/run/netns").join(&self.name).exists() {
            command("ip", &["netns", "delete", &self.name]);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Copies what git knows of the checkout, and what is new in it, to `target`.
pub fn copy_checkout(stack: &Stack, target: &Path) {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = run(list.current_dir(stack.folder())).success();
    for name in list.text().split('\0').filter(|name| !name.is_empty()) {
        let (source, copy) = (stack.folder().join(name), target.join(name));
        if source.is_file() {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(source, copy).unwrap();
        }
    }
}
