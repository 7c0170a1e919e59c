//! `gateway` is the only process of Hubbub that faces the internet: TLS, routes, replicas, tunnels.
mod certs;
mod config;
mod edge;
mod live;
mod observe;
mod relay;
mod rules;
mod serve;
mod shared;
mod upstream;
mod wire;

use std::process::ExitCode;

use chassis::Command;

use crate::config::Config;

/// glibc's allocator costs HTTP/2 a tenth more instructions, and keeps more after a load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The subcommands that only the gateway has.
const COMMANDS: &[Command<Config>] = &[
    Command {
        name: "revoke",
        arguments: "NAME --reason REASON",
        summary: "revoke a certificate that ACME gave, so that a new one is made",
        run: certs::acme::revoke::run,
    },
    Command {
        name: "status",
        arguments: "[--json]",
        summary: "show the running gateway's certificates, routes and replicas",
        run: observe::status::command::run,
    },
    Command {
        name: "trust",
        arguments: "",
        summary: "print the private CA and how clients trust it",
        run: certs::trust::command,
    },
];

fn main() -> ExitCode {
    let about = chassis::about!();
    chassis::run_with(about, move |config| serve::serve(&about, config), COMMANDS)
}
