//! The next certificate, while clients go on.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::upstream;

#[test]
fn clients_do_not_notice_a_renewal() {
    let pebble = Pebble::start_with(&[], &serde_json::json!({ "certificateValidityPeriod": 9 }));
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ROUTES", &format!("/=http://{}", upstream::start()))
        .start();
    let first = gateway.issued("farm.net", None);
    let root = pebble.issuing_root();
    let gateway = Arc::new(gateway);
    let done = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let (gateway, done) = (Arc::clone(&gateway), Arc::clone(&done));
        move || {
            let (mut answered, mut failed) = (0, Vec::new());
            while !done.load(Ordering::Relaxed) {
                match gateway.trusted("farm.net", &root) {
                    Ok(200) => answered += 1,
                    other => failed.push(other),
                }
                crate::support::pause();
            }
            (answered, failed)
        }
    });
    // One connection for the whole time.
    let mut kept = BufReader::new(gateway.stream("farm.net"));
    let mut ask = || {
        kept.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: farm.net\r\n\r\n").unwrap();
        let mut line = String::new();
        kept.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        // The answer has two bytes after its head.
        while line.trim_end() != "ok" {
            line.clear();
            let head = kept.read_line(&mut line).unwrap();
            if head <= 2 {
                let mut body = [0; 2];
                std::io::Read::read_exact(&mut kept, &mut body).unwrap();
                line = "ok".to_owned();
            }
        }
    };
    ask();
    let second = gateway.issued("farm.net", Some(&first));
    ask();
    gateway.issued("farm.net", Some(&second));
    ask();
    done.store(true, Ordering::Relaxed);
    let (answered, failed) = client.join().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(answered > 20, "{answered}");
    assert!(gateway.attempts("issued") >= 3);
    assert_eq!(gateway.attempts("rejected"), 0);
}
