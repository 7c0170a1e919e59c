//! Chromium, a real browser: it loads a page, and opens a WebSocket, over HTTP/2 and over HTTP/3.

use std::io;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::x509::X509;
use tungstenite::Message;
use tungstenite::WebSocket;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::until;

/// Asks for a second page, opens a WebSocket, shows how all came, and tells the upstream.
const PAGE: &str = r#"<!doctype html><title>Hubbub</title><h1>Hubbub</h1><pre id=out></pre><script>
const out = [];
const done = () => {
  const text = out.sort().join(' ');
  document.getElementById('out').textContent = text;
  fetch('/done/' + text.replaceAll(' ', '_').replaceAll('/', '-'));
};
const protocol = name => performance.getEntriesByType('resource')
  .find(entry => entry.name.endsWith(name)).nextHopProtocol;
addEventListener('load', async () => {
  out.push('page ' + performance.getEntriesByType('navigation')[0].nextHopProtocol);
  const text = await (await fetch('/second')).text();
  out.push('second ' + text + ' ' + protocol('/second'));
  const socket = new WebSocket('wss://' + location.host + '/ws');
  socket.onopen = () => socket.send('hello');
  socket.onmessage = event => { out.push('socket ' + event.data); done(); };
  socket.onerror = () => { out.push('socket failed'); done(); };
});
</script>"#;

fn site() -> Upstream {
    Upstream::start(|call| match call.request.line.split(' ').nth(1) {
        Some("/ws") => {
            let key = call.request.field("sec-websocket-key").unwrap().to_owned();
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            call.write(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            ))?;
            let stream = call.stream.get_ref().try_clone()?;
            let role = tungstenite::protocol::Role::Server;
            let mut socket = WebSocket::from_raw_socket(stream, role, None);
            loop {
                match socket.read().map_err(io::Error::other)? {
                    message @ Message::Text(_) => socket.send(message).map_err(io::Error::other)?,
                    _ => {}
                }
            }
        }
        Some("/second") => call.ok("came"),
        _ => call.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{PAGE}",
            PAGE.len()
        )),
    })
}

/// A browser, until it is dropped.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: io::Result<()> = self.0.kill();
        let _: io::Result<std::process::ExitStatus> = self.0.wait();
    }
}

/// What the page tells once the browser has done all of it.
fn browse(gateway: &Gateway, upstream: &Upstream, extra: &str) -> String {
    // Chromium has no setting for one more root; it takes a key that it is told of.
    let pem = std::fs::read(gateway.certs.join("sites/localhost/chain.pem")).unwrap();
    let leaf = X509::from_pem(&pem).unwrap();
    let key = leaf.public_key().unwrap().public_key_to_der().unwrap();
    let pin = STANDARD.encode(digest::digest(&digest::SHA256, &key));
    let profile = tempfile::tempdir().unwrap();
    let child = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--remote-debugging-port=0"])
        // Over UDP it would wait for an answer of ::1.
        .arg("--host-resolver-rules=MAP localhost 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--ignore-certificate-errors-spki-list={pin}"))
        .arg(extra)
        .arg(format!("https://localhost:{}/", gateway.https.port()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium is needed: apt-get install chromium");
    let _browser = Browser(child);
    until("the page to be done", || {
        let seen = upstream.seen();
        let done = seen.iter().find_map(|request| request.line.strip_prefix("GET /done/"));
        done.map(|rest| rest.replace(" HTTP/1.1", ""))
    })
}

#[test]
fn over_http2() {
    let upstream = site();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let told = browse(&gateway, &upstream, "--disable-quic");
    assert_eq!(told, "page_h2_second_came_h2_socket_hello");
    // The WebSocket is a stream of the same connection.
    let open = |protocol: &str| {
        gateway.metric(&format!(r#"gateway_connections_open{{protocol="{protocol}"}}"#))
    };
    assert_eq!(open("http/1.1").unwrap_or(0.0), 0.0);
    let handshakes = |alpn: &str| {
        let name = "gateway_tls_handshakes_total";
        let labels = format!(r#"alpn="{alpn}",key_exchange="X25519MLKEM768",version="1.3""#);
        gateway.metric(&format!("{name}{{{labels}}}"))
    };
    assert_eq!(handshakes("http/1.1"), None);
    assert!(handshakes("h2").is_some());
}

#[test]
fn over_http3() {
    let upstream = site();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let origin = format!("--origin-to-force-quic-on=localhost:{}", gateway.https.port());
    let told = browse(&gateway, &upstream, &origin);
    assert_eq!(told, "page_h3_second_came_h3_socket_hello");
}
