//! The Autobahn cases of WebSockets, run by kosoku: through the gateway none may come out worse than
//! against the same server without it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::python;
use crate::python::Script;
use crate::support::Gateway;

/// All of framing, pings, reserved bits, opcodes, fragments, UTF-8, closing; some of size and
/// compression, which are the servers' own.
const CASES: [&str; 14] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.*", "9.2.*", "10.*", "12.1.1", "12.3.5",
    "13.1.1", "13.4.5",
];

/// Best first, as Autobahn calls them.
const OUTCOMES: [&str; 6] =
    ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE"];

/// A way into the gateway for a client without TLS.
fn without_tls(gateway: &Gateway) -> SocketAddr {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.root()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let tls = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let https = gateway.https;
    thread::spawn(move || {
        runtime.block_on(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let stream = TcpStream::connect(https).await.unwrap();
                    let name = "127.0.0.1".try_into().unwrap();
                    let mut stream = tls.connect(name, stream).await.unwrap();
                    // A client may end as it likes.
                    let _: Result<_, _> =
                        tokio::io::copy_bidirectional(&mut client, &mut stream).await;
                });
            }
        });
    });
    address
}

/// What came of each case: how good it was and how well it ended.
fn run(server: SocketAddr, reports: &Path) -> BTreeMap<String, (usize, usize)> {
    let cases = CASES.iter().flat_map(|case| ["-i", case]);
    let output = Command::new(python::program("kosoku"))
        .args(["-p", "8", "-o", reports.to_str().unwrap()])
        .args(cases)
        .arg(format!("ws://{server}"))
        .output()
        .unwrap();
    let index = std::fs::read(reports.join("index.json")).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let index: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&index).unwrap();
    let rank = |value: &Value| {
        let outcome = value.as_str().unwrap();
        OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len())
    };
    let agents = index.into_values().flatten();
    agents
        .map(|(case, outcome)| {
            (case, (rank(&outcome["behavior"]), rank(&outcome["behaviorClose"])))
        })
        .collect()
}

#[test]
fn no_case_comes_out_worse_than_without_the_gateway() {
    let mut server = Script::start("echo.py", &[]);
    let port = u16::try_from(server.line()["port"].as_u64().unwrap()).unwrap();
    let server_address = SocketAddr::from(([127, 0, 0, 1], port));
    let settings = [("GATEWAY__DOMAIN", "127.0.0.1")];
    let gateway = Gateway::start(&format!("/=http://{server_address}"), &settings);
    let folder = tempfile::tempdir().unwrap();
    let direct = run(server_address, &folder.path().join("direct"));
    let through = run(without_tls(&gateway), &folder.path().join("through"));
    assert!(direct.len() >= 250, "{} cases", direct.len());
    assert!(direct.values().filter(|outcome| outcome.0 == 0).count() > 220, "{direct:?}");
    let worse: Vec<_> = direct
        .iter()
        .filter(|(case, outcome)| {
            let through = through[*case];
            through.0 > outcome.0 || through.1 > outcome.1
        })
        .map(|(case, outcome)| (case, outcome, through[case]))
        .collect();
    assert!(worse.is_empty(), "case, direct, through the gateway: {worse:?}");
}
