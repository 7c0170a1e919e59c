//! How to trust the private CA: the subcommand `trust`, and what the page on plain HTTP says.

pub mod page;

use std::fmt;
use std::fmt::Write as _;

use chassis::Fatal;

use crate::certs::ca::Root;
use crate::certs::root;
use crate::config::Config;

/// What the certificate is called in the commands below.
const FILE: &str = "hubbub-ca.crt";

/// What one kind of client is told: steps that are commands, or words to people.
struct Client {
    name: &'static str,
    steps: Vec<Step>,
}

enum Step {
    Command(String),
    Words(&'static str),
}

/// What a guide is made of.
pub struct Guide<'a> {
    pub root: &'a Root,
    /// Where the certificate is: a path or a URL, and the command that fetches it as [`FILE`].
    pub place: &'a str,
    pub fetch: &'a str,
    /// `https://…` without a slash at its end.
    pub origin: &'a str,
}

/// `gateway trust`: prints the private CA's certificate and how to trust it.
///
/// # Errors
///
/// When there is none.
pub fn command(config: &Config, arguments: &[String]) -> Result<(), Fatal> {
    if let Some(argument) = arguments.first() {
        return Err(Fatal::settings(format!("trust takes no arguments, so no {argument:?}")));
    }
    let path = root::certificate_path(&config.certs);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; it is made at the first start, when there is a site that needs it"
            }
            _ => "",
        };
        Fatal::new(path.display(), format!("{error}{hint}"))
    })?;
    let root = Root::read(&text).map_err(|unfit| Fatal::new(path.display(), unfit))?;
    let place = path.display().to_string();
    let port = config.public_https_port;
    let guide = Guide {
        root: &root,
        place: &place,
        fetch: &format!("docker compose cp gateway:{place} {FILE}"),
        origin: &origin(config.domain.as_str(), port),
    };
    chassis::print(&guide.text())
}

/// Where `host` (an address without brackets) is served.
pub fn origin(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") }
}

impl Guide<'_> {
    /// For a terminal.
    pub fn text(&self) -> String {
        let Self { root, place, fetch, origin } = self;
        let mut text = format!(
            "The certificate of {origin} is signed by a private CA. To trust it:\n\n\
             Certificate:          {place}\n\
             SHA-256 fingerprint:  {}\n\n{}\n\
             Get it:\n  {fetch}\n\n\
             Compare its fingerprint with the one in the gateway's log (docker compose logs gateway):\n  \
             openssl x509 -in {FILE} -noout -fingerprint -sha256\n",
            root.fingerprint(),
            root.pem,
        );
        for Client { name, steps } in clients(origin) {
            let _: fmt::Result = write!(text, "\n{name}:\n");
            for step in steps {
                let _: fmt::Result = match step {
                    Step::Command(command) => writeln!(text, "  {command}"),
                    Step::Words(words) => writeln!(text, "  {words}"),
                };
            }
        }
        text
    }
}

/// Each client, and what it is told.
fn clients(origin: &str) -> Vec<Client> {
    let command = |text: &str| Step::Command(text.to_owned());
    vec![
        Client {
            name: "Debian, Ubuntu",
            steps: vec![
                Step::Command(format!("sudo cp {FILE} /usr/local/share/ca-certificates/{FILE}")),
                command("sudo update-ca-certificates"),
            ],
        },
        Client {
            name: "macOS",
            steps: vec![Step::Command(format!(
                "sudo security add-trusted-cert -d -r trustRoot \
                 -k /Library/Keychains/System.keychain {FILE}"
            ))],
        },
        Client {
            name: "Windows, as administrator",
            steps: vec![Step::Command(format!("certutil -addstore -f Root {FILE}"))],
        },
        Client {
            name: "Firefox",
            steps: vec![
                Step::Words(
                    "Settings, Privacy & Security, View Certificates, Authorities, Import;",
                ),
                Step::Words("there, check \"Trust this CA to identify websites\"."),
            ],
        },
        Client {
            name: "curl",
            steps: vec![Step::Command(format!("curl --cacert {FILE} {origin}/"))],
        },
        Client {
            name: "not-my-board",
            steps: vec![
                Step::Command(format!("not-my-board agent --cacert {FILE} {origin}")),
                Step::Command(format!("not-my-board export --cacert {FILE} {origin} board.toml")),
            ],
        },
    ]
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::certs::ca;
    use crate::certs::permitted::Permitted;

    pub fn root() -> Root {
        let permitted = Permitted::only(&["localhost".to_owned()]);
        let pems = ca::new_root(&permitted, OffsetDateTime::now_utc()).unwrap();
        Root::read(&pems.certificate).unwrap()
    }

    #[test]
    fn the_text_has_the_certificate_and_a_command_for_each_client() {
        let root = root();
        let guide =
            Guide { root: &root, place: "/c", fetch: "get it", origin: "https://localhost:8443" };
        let text = guide.text();
        for part in [
            root.pem.as_str(),
            &root.fingerprint(),
            "update-ca-certificates",
            "security add-trusted-cert",
            "certutil -addstore",
            "Firefox",
            "curl --cacert hubbub-ca.crt https://localhost:8443/\n",
            "not-my-board agent --cacert hubbub-ca.crt https://localhost:8443\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(root.fingerprint().len(), 32 * 3 - 1);
    }

    #[test]
    fn an_origin_names_its_port_unless_it_is_the_usual_one() {
        assert_eq!(origin("::1", 443), "https://[::1]");
        assert_eq!(origin("farm.lan", 8443), "https://farm.lan:8443");
    }
}
