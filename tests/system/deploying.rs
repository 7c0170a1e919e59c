//! `./deploy` against a server: a real sshd, and a real engine that has never seen our images.
//!
//! The server is this machine in another network namespace, with an address, ports 80 and 443,
//! and a Docker engine of its own.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use harness::Output;
use harness::Stack;
use harness::run;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::machine::Namespace;
use crate::machine::SERVICES;
use crate::machine::command;
use crate::machine::container;
use crate::machine::copy_checkout;
use crate::machine::docker;
use crate::machine::inspect;

/// The server's ssh port.
const SSH: &str = "2222";

/// Longest wait for the server's daemons to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with sshd and Docker; gone when dropped.
struct Server {
    // Ended in this order: the engine needs its network, both need the files.
    _sshd: Daemon,
    engine: Engine,
    namespace: Namespace,
    scratch: TempDir,
}

/// A process that is told to end when dropped, and waited for.
struct Daemon(Child);

impl Daemon {
    /// Starts a program and waits for a line on its stderr that holds `ready`.
    fn start(program: &mut Command, ready: &'static str) -> Self {
        let mut child = program.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let daemon = Self(child);
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut said = Some(said);
            let mut all = String::new();
            // To the end: a full pipe would stop the daemon.
            for line in stderr.lines().map_while(Result::ok) {
                if said.is_some() {
                    all += &format!("{line}\n");
                }
                if line.contains(ready)
                    && let Some(said) = said.take()
                {
                    let _ = said.send(Ok(()));
                }
            }
            if let Some(said) = said {
                let _ = said.send(Err(all));
            }
        });
        match hears.recv_timeout(PATIENCE) {
            Ok(Ok(())) => daemon,
            Ok(Err(log)) => panic!("{program:?} ended:\n{log}"),
            Err(_) => panic!("{program:?} is not ready after {PATIENCE:?}"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = Pid::from_raw(self.0.id().try_into().unwrap());
        // It may have ended by itself.
        let _: nix::Result<()> = kill(id, Signal::SIGTERM);
        let _: std::io::Result<std::process::ExitStatus> = self.0.wait();
    }
}

/// A Docker engine beside the machine's; its containers end with it.
struct Engine {
    socket: String,
    _daemon: Daemon,
}

impl Engine {
    fn start(namespace: &Namespace, folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let socket = format!("unix://{}", path("docker.sock"));
        fs::write(folder.join("daemon.json"), "{}").unwrap();
        let mut dockerd = namespace.program("dockerd");
        dockerd
            .args(["--config-file", &path("daemon.json"), "--pidfile", &path("docker.pid")])
            .args(["--data-root", &path("data"), "--exec-root", &path("run"), "--host", &socket])
            // Not the ranges of the machine's own engine: the namespace has a route to them.
            .args(["--bip", "172.31.200.1/24"])
            .args(["--default-address-pool", "base=172.31.208.0/20,size=24"]);
        let daemon = Daemon::start(&mut dockerd, "API listen on");
        Self { socket, _daemon: daemon }
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        run(Command::new("docker").args(arguments).env("DOCKER_HOST", &self.socket)).success()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "--all", "--quiet"]).text();
        for container in all.lines() {
            let _ = self.docker(&["rm", "--force", "--volumes", container]);
        }
        let _ = self.docker(&["network", "prune", "--force"]);
    }
}

impl Server {
    fn start(stack: &Stack, purpose: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        let path = |name: &str| folder.join(name).display().to_string();
        let namespace = Namespace::new(stack, purpose);
        fs::create_dir(folder.join("engine")).unwrap();
        let engine = Engine::start(&namespace, &folder.join("engine"));

        for key in ["host", "login", "stranger"] {
            make_key(folder, key);
        }
        fs::copy(folder.join("login.pub"), folder.join("authorized_keys")).unwrap();
        let host_key = fs::read_to_string(folder.join("host.pub")).unwrap();
        let address = namespace.there();
        fs::write(folder.join("known_hosts"), format!("[{address}]:{SSH} {host_key}")).unwrap();
        let config = format!(
            "ListenAddress {address}\nPort {SSH}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nPermitUserEnvironment yes\n\
             StrictModes no\n\
             UsePAM no\nSetEnv DOCKER_HOST={}\n",
            path("host"),
            path("authorized_keys"),
            engine.socket,
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        // Debian's sshd wants this folder, which its service makes.
        fs::create_dir_all("/run/sshd").unwrap();
        let mut sshd = namespace.program("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", &path("sshd_config")]);
        let sshd = Daemon::start(&mut sshd, "Server listening on");
        Self { _sshd: sshd, engine, namespace, scratch }
    }

    /// A key whose login finds these programs first, and then what is in `path`.
    fn login(&self, key: &str, programs: &[(&str, &str)], path: &str) {
        make_key(self.scratch.path(), key);
        let folder = self.file(&format!("{key}-programs"));
        fs::create_dir(&folder).unwrap();
        for (name, script) in programs {
            let program = folder.join(name);
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let public = fs::read_to_string(self.file(&format!("{key}.pub"))).unwrap();
        let keys = fs::read_to_string(self.file("authorized_keys")).unwrap();
        let keys = format!("{keys}environment=\"PATH={}:{path}\" {public}", folder.display());
        fs::write(self.file("authorized_keys"), keys).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `./deploy` with this key, into a folder of the server's scratch directory.
    fn deploy(&self, stack: &Stack, key: &str, environment: &[(&str, &str)]) -> Output {
        run(&mut self.deploying(stack, key, environment))
    }

    fn deploying(&self, stack: &Stack, key: &str, environment: &[(&str, &str)]) -> Command {
        let mut deploy = Command::new(stack.folder().join("deploy"));
        self.arguments(&mut deploy, key);
        deploy.envs(environment.iter().copied());
        deploy
    }

    /// What every `deploy` of the tests is given. Files are named as seen from the scratch
    /// directory.
    fn arguments<'a>(&self, deploy: &'a mut Command, key: &str) -> &'a mut Command {
        let login = format!("root@{}", self.namespace.there());
        let known_hosts = format!("UserKnownHostsFile={}", self.file("known_hosts").display());
        deploy
            .args(["--no-build", "-p", SSH, "-i", key, "--dir"])
            .arg(self.file("there"))
            .args(["--ca", "ca.pem", &login, "--", "-F", "/dev/null", "-o", &known_hosts])
            .current_dir(&self.scratch)
            .env("COMPOSE_PROJECT_NAME", "hubbub-test-deploy")
            .env_remove("HTTP_PORT")
            .env_remove("HTTPS_PORT")
    }

    /// SERVICE HEALTH of what runs there, sorted.
    fn services(&self) -> Vec<String> {
        let format = "{{.Label \"com.docker.compose.service\"}} {{.Status}}";
        let text = self.engine.docker(&["ps", "--format", format]).text();
        let line = |line: &str| {
            let healthy = line.ends_with("(healthy)");
            format!("{} {healthy}", line.split(' ').next().unwrap())
        };
        let mut services: Vec<String> = text.lines().map(line).collect();
        services.sort();
        services
    }
}

fn make_key(folder: &Path, name: &str) {
    let file = folder.join(name).display().to_string();
    command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file]);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_bare_server_ends_with_a_healthy_stack_and_a_second_run_sends_nothing() {
    let stack = Stack::from_env();
    let server = Server::start(&stack, "server");

    let first = server.deploy(&stack, "login", &[]).success();
    assert!(first.text().contains("sending hubbub/"), "{}", first.text());
    let healthy = ["dice true", "gateway true", "hub true", "say true"];
    assert_eq!(server.services(), healthy);
    assert_eq!(mode(&server.file("there/.env")), 0o600);
    let settings = fs::read_to_string(server.file("there/.env")).unwrap();
    assert!(settings.contains("COMPOSE_PROJECT_NAME='hubbub-test-deploy'\n"), "{settings}");

    // A client that trusts what ./deploy brought home gets its die over there.
    let mut curl = Command::new("curl");
    let die = curl
        .args(["--silent", "--fail", "--max-time", "20", "https://localhost/dice"])
        .args(["--connect-to", &format!("::{}:443", server.namespace.there()), "--cacert"])
        .arg(server.file("ca.pem"));
    assert_eq!(run(die).success().text().lines().count(), 5);

    let ids = || server.engine.docker(&["ps", "--quiet", "--no-trunc"]).text();
    let (before, ca) = (ids(), fs::read(server.file("ca.pem")).unwrap());
    let second = server.deploy(&stack, "login", &[]).success();
    assert!(second.text().contains("the server has all images"), "{}", second.text());
    assert_eq!(ids(), before, "containers were made anew");
    assert_eq!(fs::read(server.file("ca.pem")).unwrap(), ca);

    // New settings go over the old ones, which are kept.
    let token = [("METRICS_TOKEN", "another")];
    let third = server.deploy(&stack, "login", &token).success();
    assert!(third.text().contains(".env.before"), "{}", third.text());
    assert_eq!(fs::read_to_string(server.file("there/.env.before")).unwrap(), settings);
    assert_eq!(mode(&server.file("there/.env.before")), 0o600);
    assert_eq!(server.services(), healthy);
}

/// Further names of the stack's images; removed when dropped.
struct Tagged(Vec<String>);

impl Tagged {
    fn new(from: &str, to: &str) -> Self {
        let tagged = SERVICES.map(|service| {
            let name = format!("hubbub/{service}:{to}");
            let _ = docker(&["tag", &format!("hubbub/{service}:{from}"), &name]);
            name
        });
        Self(tagged.into())
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        let _ = docker(
            &[&["image", "rm"][..], &self.0.iter().map(String::as_str).collect::<Vec<_>>()]
                .concat(),
        );
    }
}

/// Makes a new image of dice by adding a label, under the name it had.
fn relabel(name: &str, label: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Dockerfile"), format!("FROM {name}\nLABEL {label}\n")).unwrap();
    let _ = docker(&["build", "--quiet", "--tag", name, folder.path().to_str().unwrap()]);
}

#[test]
fn the_servers_own_settings_name_the_images_and_what_is_replaced_goes() {
    let stack = Stack::from_env();
    let server = Server::start(&stack, "settings");
    let dice = inspect("container", &container(stack.project(), "dice"));
    let (_, tag) = dice["Config"]["Image"].as_str().unwrap().split_once(':').unwrap();
    let v1 = format!("{tag}-v1");
    let _tagged = Tagged::new(tag, &v1);
    fs::create_dir(server.file("there")).unwrap();
    let settings = format!("HUBBUB_TAG={v1}\nHTTP_PORT=8081\n");
    fs::write(server.file("there/.env"), settings).unwrap();
    // A stranger's image without a name is none of ours.
    fs::write(server.file("Dockerfile"), "FROM scratch\nLABEL a=b\n").unwrap();
    let folder = server.scratch.path().display().to_string();
    let build = [
        "build",
        "--quiet",
        "--file",
        &format!("{folder}/Dockerfile"),
        &format!("{folder}/engine/run"),
    ];
    let stranger = server.engine.docker(&build).text().trim().to_owned();

    let untagged = |server: &Server| {
        let mut deploy = server.deploying(&stack, "login", &[]);
        run(deploy.env_remove("HUBBUB_TAG")).success().text()
    };
    let first = untagged(&server);
    assert!(first.contains(&format!("sending hubbub/dice:{v1} hubbub/gateway:{v1}")), "{first}");
    let images = || {
        let format = "{{.Image}}";
        let text = server.engine.docker(&["ps", "--format", format]).text();
        let mut images: Vec<String> = text.lines().map(str::to_owned).collect();
        images.sort();
        images
    };
    let wanted = ["dice", "gateway", "hub", "say"].map(|service| format!("hubbub/{service}:{v1}"));
    assert_eq!(images(), wanted);

    // A new image of that tag is sent, and the old one is no more.
    relabel(&format!("hubbub/dice:{v1}"), "new=1");
    let second = untagged(&server);
    assert!(second.contains(&format!("sending hubbub/dice:{v1} (")), "{second}");
    assert_eq!(images(), wanted);
    let nameless = ["images", "--quiet", "--no-trunc", "--filter", "dangling=true"];
    assert_eq!(server.engine.docker(&nameless).text().trim(), stranger);

    let never = server.deploy(&stack, "login", &[("HUBBUB_TAG", "never-built")]);
    assert_eq!(never.code, Some(1));
    assert!(never.stderr.contains("There is no image hubbub/"), "{}", never.stderr);
}

#[test]
fn an_override_that_is_gone_here_goes_there_with_what_it_started() {
    let stack = Stack::from_env();
    let server = Server::start(&stack, "override");
    let folder = tempfile::tempdir().unwrap();
    copy_checkout(&stack, folder.path());
    let entry = "services:\n  second:\n    image: hubbub/dice:${HUBBUB_TAG:-latest}\n";
    let ours = folder.path().join("compose.override.yaml");
    fs::write(&ours, entry).unwrap();
    let deploy = || {
        let mut command = Command::new(folder.path().join("deploy"));
        run(server.arguments(&mut command, "login")).success().text()
    };
    let _ = deploy();
    let four = ["dice true", "gateway true", "hub true", "say true"];
    let five = ["dice true", "gateway true", "hub true", "say true", "second true"];
    assert_eq!(server.services(), five);
    fs::remove_file(&ours).unwrap();
    let _ = deploy();
    assert_eq!(server.services(), four);
    let there = server.file("there/compose.override.yaml");
    assert!(!there.exists());

    // One that was made over there is the server's.
    fs::write(&there, entry).unwrap();
    let kept = deploy();
    assert!(kept.contains("the server keeps its own"), "{kept}");
    assert!(there.exists());
    assert_eq!(server.services(), five);
}

#[test]
fn what_stands_in_the_way_is_named() {
    let stack = Stack::from_env();
    let server = Server::start(&stack, "refusal");
    let told = |output: &Output, trouble: &str, remedy: &str| {
        assert_eq!(output.code, Some(1), "{}{}", output.text(), output.stderr);
        assert!(output.stderr.contains(trouble), "{trouble:?} is missing in {}", output.stderr);
        assert!(output.stderr.contains(remedy), "{remedy:?} is missing in {}", output.stderr);
    };

    let stranger = server.deploy(&stack, "stranger", &[]);
    told(&stranger, "does not let you in", "ssh-copy-id");
    told(&server.deploy(&stack, "no-such-key", &[]), "There is no key", "no-such-key");

    let known = fs::read_to_string(server.file("known_hosts")).unwrap();
    let other = fs::read_to_string(server.file("stranger.pub")).unwrap();
    let address = known.split(' ').next().unwrap();
    fs::write(server.file("known_hosts"), format!("{address} {other}")).unwrap();
    told(&server.deploy(&stack, "login", &[]), "it has changed", "connect once by hand");
    fs::write(server.file("known_hosts"), known).unwrap();

    let socket = server.file("engine/docker.sock");
    fs::rename(&socket, server.file("engine/elsewhere.sock")).unwrap();
    let stopped = server.deploy(&stack, "login", &[]);
    fs::rename(server.file("engine/elsewhere.sock"), &socket).unwrap();
    told(&stopped, "Docker engine is not running", "systemctl start docker");

    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    server.login("bare", &[("sh", "#!/bin/dash\nexec /bin/dash \"$@\"\n")], "/nowhere");
    told(&server.deploy(&stack, "bare", &[]), "The server has no Docker", "apt-get install");
    let docker = command("sh", &["-c", "command -v docker"]).text();
    let engine_only =
        format!("#!/bin/sh\n[ \"$1\" = compose ] && exit 1\nexec {} \"$@\"\n", docker.trim());
    server.login("old", &[("docker", &engine_only)], &path);
    let old = server.deploy(&stack, "old", &[]);
    told(&old, "no Docker Compose", "docker/compose-plugin");
    // The remedy as it is printed logs in as this run did.
    let remedy = old.stderr.split_once("on a Debian server: ").unwrap().1.lines().next().unwrap();
    let (log_in, script) = remedy.split_once(" bash -s <").unwrap();
    assert!(Path::new(script).is_file(), "{remedy}");
    let mut said = Command::new("sh");
    let said = said.args(["-c", &format!("{log_in} echo over there")]);
    assert_eq!(run(said.current_dir(&server.scratch)).success().text(), "over there\n");
    let little_room = "#!/bin/sh\necho Filesystem\necho disk 1000000 995000 5000 99% /\n";
    server.login("full", &[("df", little_room)], &path);
    told(&server.deploy(&stack, "full", &[]), "The server's disk has 4 MB", "system prune");
    assert!(server.services().is_empty(), "something was started all the same");
    drop(server);

    let mut deploy = Command::new(stack.folder().join("deploy"));
    let nobody = run(deploy.args(["--no-build", "nobody@127.0.0.1", "-p", "9"]));
    told(&nobody, "No ssh server answers at 127.0.0.1", "-p PORT");
    let mut deploy = Command::new(stack.folder().join("deploy"));
    let nowhere = run(deploy.args(["--no-build", "root@server.invalid"]));
    told(&nowhere, "There is no host called server.invalid", "server.invalid");
    for arguments in [&[][..], &["--bulid", "host"], &["a", "b"], &["--dir", "a b", "host"]] {
        let mut deploy = Command::new(stack.folder().join("deploy"));
        assert_eq!(run(deploy.args(arguments)).code, Some(2), "{arguments:?}");
    }
}
