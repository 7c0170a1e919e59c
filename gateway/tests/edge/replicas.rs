//! Services that come late, go away, break, or are silent.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_request_waits_for_a_service_that_starts_late() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!("/=http://{address}"), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(GET.as_bytes()).unwrap();
    until("the request to wait", || {
        (gateway.metric("gateway_requests_held") == Some(1.0)).then_some(())
    });
    let _upstream = Upstream::start_at(address, |call| call.ok("at last"));
    assert_eq!(read_answer(&mut client, false).unwrap().text(), "at last");
    assert_eq!(gateway.metric("gateway_requests_held"), Some(0.0));
}

#[test]
fn nobody_waits_longer_than_hold() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for upstream in [address.to_string(), "no-such-service.invalid:8080".to_owned()] {
        let gateway = Gateway::start(&format!("/=http://{upstream}"), &[("GATEWAY__HOLD_S", "1")]);
        let start = Instant::now();
        let answer = exchange(&gateway, GET);
        assert_eq!(answer.status, 503);
        assert!(answer.field("retry-after").is_some());
        assert!(answer.text().contains("is not running just now"), "{}", answer.text());
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn replicas_share_the_requests_and_the_living_take_over() {
    let one = Upstream::start_at("127.0.0.2:0".parse().unwrap(), |call| {
        call.ok("one")?;
        Err(io::ErrorKind::Other.into())
    });
    let two = Upstream::start_at("127.0.0.3:0".parse().unwrap(), |call| call.ok("two"));
    let routes = format!("/=http://{},{}", one.address, two.address);
    let gateway = Gateway::start(&routes, &[]);
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        let answer = exchange(&gateway, GET);
        assert_eq!(answer.status, 200);
        *counts.entry(answer.text().to_owned()).or_insert(0) += 1;
    }
    assert!(counts["one"] >= 20 && counts["two"] >= 20, "{counts:?}");
    let name = format!("gateway_upstream_replicas{{upstream=\"{},{}\"}}", one.address, two.address);
    assert_eq!(gateway.metric(&name), Some(2.0));

    one.close();
    for _ in 0..50 {
        let answer = exchange(&gateway, GET);
        assert_eq!((answer.status, answer.text()), (200, "two"));
    }
    let name = format!(
        "gateway_upstream_connect_errors_total{{upstream=\"{},{}\"}}",
        one.address, two.address
    );
    assert!(gateway.metric(&name).unwrap() >= 1.0);
}

#[test]
fn a_service_that_breaks_off_is_a_502() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        Err(io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let answer = exchange(&gateway, GET);
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("127.0.0.1"), "{}", answer.text());
    assert_eq!(upstream.seen().len(), 1, "sent once");
}

#[test]
fn what_is_no_answer_is_a_502() {
    let upstream = Upstream::start(|call| {
        let line = call.request.line.clone();
        call.write(match line.split(' ').nth(1).unwrap() {
            "/garbage" => "SSH-2.0-OpenSSH\r\n",
            "/switch" => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        })?;
        Err(io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for path in ["/garbage", "/switch", "/lengths"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(exchange(&gateway, request).status, 502, "{path}");
    }
}

#[test]
fn a_silent_service_is_a_504() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |call| {
        call.body()?;
        // Until the test ends.
        let _: Result<(), _> = held.lock().unwrap().recv();
        Ok(())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__ANSWER_S", "1")]);
    let answer = exchange(&gateway, GET);
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("in 1 s"), "{}", answer.text());
    drop(hold);
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let upstream = Upstream::start(move |call| {
            call.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nabc"))?;
            Err(io::ErrorKind::Other.into())
        });
        let gateway = Gateway::start(&upstream.route(), &[]);
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(GET.as_bytes()).unwrap();
        assert!(read_answer(&mut client, false).is_err(), "{head}");
    }
}

/// Answers one request on each connection, then closes it without having said so: the race that a
/// service loses when it closes an idle connection just as the next request comes.
fn closes_after_one() -> Upstream {
    Upstream::start(|call| {
        if call.nth > 0 {
            return Err(io::ErrorKind::Other.into());
        }
        call.body()?;
        call.ok("once")
    })
}

#[test]
fn a_get_on_a_connection_that_was_just_closed_is_sent_again() {
    let upstream = closes_after_one();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..20 {
        client.get_mut().write_all(GET.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().text(), "once");
    }
    let name = format!("gateway_upstream_retries_total{{upstream=\"{}\"}}", upstream.address);
    assert!(gateway.metric(&name).unwrap() >= 19.0);
}

#[test]
fn a_post_that_may_have_been_read_is_not_sent_again() {
    let upstream = closes_after_one();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let mut statuses = Vec::new();
    for _ in 0..4 {
        client.get_mut().write_all(post.as_bytes()).unwrap();
        statuses.push(read_answer(&mut client, false).unwrap().status);
    }
    assert_eq!(statuses, [200, 502, 200, 502]);
    assert_eq!(upstream.seen().len(), 4);
}

/// The number of upstreams, and what `/status` says of each replica, by its address.
fn states(gateway: &Gateway) -> BTreeMap<String, String> {
    let page = harness::get(&format!("http://{}/status", gateway.admin), &[]);
    let status: serde_json::Value = serde_json::from_str(page.text()).unwrap();
    let upstreams = status["upstreams"].as_array().unwrap().iter();
    let replicas = upstreams.flat_map(|upstream| upstream["replicas"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    replicas.map(|replica| (text(&replica["address"]), text(&replica["state"]))).collect()
}

#[test]
fn a_replica_that_answers_nonsense_is_put_out() {
    let bad = Upstream::start_at("127.0.0.2:0".parse().unwrap(), |call| {
        call.write("SSH-2.0-OpenSSH\r\n")?;
        Err(io::ErrorKind::Other.into())
    });
    let good = Upstream::start_at("127.0.0.3:0".parse().unwrap(), |call| call.ok("good"));
    let gateway = Gateway::start(&format!("/=http://{},{}", bad.address, good.address), &[]);
    let name = format!(
        "gateway_upstream_ejections_total{{upstream=\"{},{}\"}}",
        bad.address, good.address
    );
    let mut failed = 0;
    until("the ejection", || {
        failed += usize::from(exchange(&gateway, GET).status != 200);
        (gateway.metric(&name) == Some(1.0)).then_some(())
    });
    assert_eq!(failed, 3);
    assert_eq!(states(&gateway)[&bad.address.to_string()], "put out after errors");
    // Back after its time, it is out again with its first error.
    for _ in 0..40 {
        failed += usize::from(exchange(&gateway, GET).status != 200);
    }
    assert!(failed <= 3 + 8, "{failed} failed");
    assert_eq!(gateway.metric(&name), Some((failed - 2) as f64));
}

#[test]
fn a_replica_whose_check_fails_gets_no_requests_while_another_is_well() {
    let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answer = std::sync::Arc::clone(&well);
    let one = Upstream::start_at("127.0.0.2:0".parse().unwrap(), move |call| {
        if !call.request.line.starts_with("GET /ok ") {
            return call.ok("one");
        }
        let well = answer.load(std::sync::atomic::Ordering::SeqCst);
        call.write(format!(
            "HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n",
            if well { 302 } else { 500 }
        ))
    });
    let two = Upstream::start_at("127.0.0.3:0".parse().unwrap(), |call| call.ok("two"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let text = format!(
        "[[route]]\nat = '/'\nto = 'http://{},{}'\ncheck = '/ok'\n",
        one.address, two.address
    );
    std::fs::write(&path, text).unwrap();
    let gateway = Gateway::start("", &[("GATEWAY__ROUTES_FILE", path.to_str().unwrap())]);
    let one_is = |state: &str| states(&gateway)[&one.address.to_string()] == state;
    until("the other's check", || {
        (states(&gateway)[&two.address.to_string()] == "well").then_some(())
    });
    assert!(one_is("not well, says its check"));
    for _ in 0..10 {
        assert_eq!(exchange(&gateway, GET).text(), "two");
    }
    well.store(true, std::sync::atomic::Ordering::SeqCst);
    until("the check to succeed", || one_is("well").then_some(()));
    until("a request to get there", || (exchange(&gateway, GET).text() == "one").then_some(()));
}
