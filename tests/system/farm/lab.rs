//! A small network of machines with addresses of their own, on one switch, with this machine as their router:
//! what a farm is made of. Making one takes root.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::machine::command;

/// The namespace with the switch.
const SWITCH: &str = "hubbub-switch";

/// This machine's end of the cable to the switch.
const CABLE: &str = "hubbubfarm";

/// The most machines; leftovers of a test that was cut off are looked for up to here.
const MACHINES_MAX: u8 = 4;

/// The switch and what is plugged in; removed when dropped.
pub struct Lab {
    machines: u8,
}

impl Lab {
    /// This machine's address for the others.
    pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 1);

    /// The switch, and the cable to it.
    pub fn new() -> Self {
        remove();
        // The switch is in a namespace, where no firewall of the container engine's looks at what passes.
        for line in [
            format!("netns add {SWITCH}"),
            format!("link add {CABLE} type veth peer name uplink netns {SWITCH}"),
            format!("addr add {}/24 dev {CABLE}", Self::HERE),
            format!("link set {CABLE} up"),
            format!("-n {SWITCH} link add switch type bridge"),
            format!("-n {SWITCH} link set switch up"),
            format!("-n {SWITCH} link set uplink master switch up"),
        ] {
            ip(&line);
        }
        Self { machines: 0 }
    }

    /// Plugs a machine in.
    pub fn machine(&mut self) -> Machine {
        self.machines += 1;
        assert!(self.machines <= MACHINES_MAX, "the switch has {MACHINES_MAX} ports");
        let machine = Machine { number: self.machines };
        let (name, port) = (machine.namespace(), format!("port{}", machine.number));
        for line in [
            format!("netns add {name}"),
            format!("-n {SWITCH} link add {port} type veth peer name eth0 netns {name}"),
            format!("-n {SWITCH} link set {port} master switch up"),
            format!("-n {name} addr add {}/24 dev eth0", machine.address()),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} route add default via {}", Self::HERE),
        ] {
            ip(&line);
        }
        machine
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove();
    }
}

/// A machine at the switch.
#[derive(Clone, Copy)]
pub struct Machine {
    number: u8,
}

impl Machine {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, 0, 10 + self.number)
    }

    /// A program that runs there, with an empty `/run` and these host names; otherwise the file system is this
    /// machine's. An agent's socket has one name, so agents on one file system would get in each other's way.
    pub fn program(self, program: &Path, hosts: &Path) -> Command {
        let script = r#"mount -t tmpfs tmpfs /run && mount --bind "$0" /etc/hosts && exec "$@""#;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace()));
        command.args(["--", "unshare", "--mount", "sh", "-c", script]).arg(hosts).arg(program);
        command
    }

    fn namespace(self) -> String {
        format!("hubbub-farm{}", self.number)
    }
}

/// A program beside the one with this process id: on the same machine, with the same `/run`.
pub fn beside(id: u32, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(id.to_string()).args(["--net", "--mount"]);
    command.arg(format!("--wd={}", folder.display())).arg("--").arg(program);
    command
}

fn ip(line: &str) {
    command("ip", &line.split(' ').collect::<Vec<_>>());
}

/// Cables go with the namespace at either end.
fn remove() {
    let machines = (1..=MACHINES_MAX).map(|number| Machine { number }.namespace());
    for name in machines.chain([SWITCH.to_owned()]) {
        if Path::new("/run/netns").join(&name).exists() {
            ip(&format!("netns delete {name}"));
        }
    }
    if Path::new("/sys/class/net").join(CABLE).exists() {
        ip(&format!("link delete {CABLE}"));
    }
}
