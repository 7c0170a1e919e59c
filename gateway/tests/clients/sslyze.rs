//! What a scanner of TLS servers says: sslyze, which speaks TLS by old and new versions of OpenSSL.

use std::process::Command;

use serde_json::Value;

use crate::support::Gateway;

/// What it is to look for: everything that it knows of, but what HTTP answers.
const SCANS: [&str; 17] = [
    "--certinfo",
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--resum",
    "--compression",
    "--reneg",
    "--heartbleed",
    "--robot",
    "--openssl_ccs",
    "--fallback",
    "--ems",
    "--elliptic_curves",
    "--early_data",
];

/// Scans `gateway`. An exit code of 0 says that it complies with what Mozilla recommends for servers
/// of general use, <https://wiki.mozilla.org/Security/Server_Side_TLS>.
fn scan(gateway: &Gateway) -> Value {
    let sslyze = std::env::var_os("HUBBUB_SSLYZE")
        .expect("HUBBUB_SSLYZE is the path of sslyze, see tests/python/sslyze.txt; ./test sets it");
    let report = gateway.certs.join("scan.json");
    let mut command = Command::new(sslyze);
    command
        .args(SCANS)
        .args(["--mozilla_config", "intermediate", "--sni", "localhost"])
        .arg(format!("--json_out={}", report.display()))
        .arg("--certinfo_ca_file")
        .arg(gateway.root())
        .arg(gateway.https.to_string());
    let said = harness::run(&mut command);
    assert_eq!(said.code, Some(0), "{}\n{}", said.text(), said.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let scan = &report["server_scan_results"][0];
    assert_eq!(scan["scan_status"], "COMPLETED", "{scan}");
    scan["scan_result"].clone()
}

/// The names in a list of objects that have one.
fn names<'a>(list: &'a Value, name: impl Fn(&'a Value) -> &'a Value) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        list.as_array().unwrap().iter().map(|one| name(one).as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn sslyze_finds_nothing_weak_and_both_versions() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[]);
    let scan = scan(&gateway);
    let result = |name: &str| {
        assert_eq!(scan[name]["status"], "COMPLETED", "{name}: {}", scan[name]);
        &scan[name]["result"]
    };
    for (name, supported) in [
        ("ssl_2_0_cipher_suites", false),
        ("ssl_3_0_cipher_suites", false),
        ("tls_1_0_cipher_suites", false),
        ("tls_1_1_cipher_suites", false),
        ("tls_1_2_cipher_suites", true),
        ("tls_1_3_cipher_suites", true),
    ] {
        assert_eq!(result(name)["is_tls_version_supported"], supported, "{name}");
        let accepted = &result(name)["accepted_cipher_suites"];
        // AEAD, with keys of each connection's own (RFC 9325 §4.2).
        for suite in names(accepted, |suite| &suite["cipher_suite"]["name"]) {
            assert!(suite.contains("_GCM_") || suite.contains("CHACHA20_POLY1305"), "{suite}");
            assert!(suite.contains("_ECDHE_") || name == "tls_1_3_cipher_suites", "{suite}");
        }
        assert_eq!(accepted.as_array().unwrap().is_empty(), !supported, "{name}");
    }
    for (name, field, expected) in [
        ("tls_compression", "supports_compression", Value::from(false)),
        ("tls_1_3_early_data", "supports_early_data", false.into()),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false.into()),
        ("heartbleed", "is_vulnerable_to_heartbleed", false.into()),
        ("robot", "robot_result", "NOT_VULNERABLE_RSA_NOT_SUPPORTED".into()),
        ("session_renegotiation", "supports_secure_renegotiation", true.into()),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false.into()),
        ("tls_fallback_scsv", "supports_fallback_scsv", true.into()),
        ("tls_extended_master_secret", "supports_ems_extension", true.into()),
        // By tickets too, which the tests in edge see: sslyze takes a ticket that was renewed for
        // a session that was not resumed.
        ("session_resumption", "session_id_resumption_result", "FULLY_SUPPORTED".into()),
    ] {
        assert_eq!(result(name)[field], expected, "{name}");
    }
    // It does not know X25519MLKEM768 yet.
    let curves = names(&result("elliptic_curves")["supported_curves"], |curve| &curve["name"]);
    assert_eq!(curves, ["X25519", "secp256r1", "secp384r1"]);
    let chain = &result("certificate_info")["certificate_deployments"][0];
    assert_eq!(chain["received_chain_has_valid_order"], true);
}
