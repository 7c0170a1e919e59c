//! Services that speak HTTP badly, early, late or not to the end.

use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc;

use crate::support::Call;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

/// The path of a request.
fn path<'a>(call: &'a Call<'_>) -> &'a str {
    call.request.line.split(' ').nth(1).unwrap()
}

fn closed() -> io::Error {
    io::ErrorKind::Other.into()
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_reaches_the_client() {
    let upstream = Upstream::start(|call| {
        call.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong")?;
        // Closes with the body unread: the kernel then resets the connection.
        Err(closed())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for length in [10, 12 << 20] {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        let head =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        client.get_mut().write_all(head.as_bytes()).unwrap();
        // What the client goes on to send may be refused, once the answer is there.
        let _: io::Result<()> = client.get_mut().write_all(&vec![7; length.min(1 << 20)]);
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!((answer.status, answer.text()), (413, "long"), "{length} bytes");
    }
}

#[test]
fn answer_and_upload_go_on_side_by_side() {
    let (send, answered) = mpsc::channel::<()>();
    let answered = Mutex::new(answered);
    let upstream = Upstream::start(move |call| {
        // The head at once, the rest after the whole body.
        call.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        answered.lock().unwrap().recv().map_err(|_| closed())?;
        let (body, _) = call.body()?;
        let text = format!("{} bytes", body.len());
        call.write(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()))
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for nth in 1..=2 {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        while line != "first\r\n" {
            line.clear();
            client.read_line(&mut line).unwrap();
        }
        send.send(()).unwrap();
        client.get_mut().write_all(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").unwrap();
        while line != "7 bytes\r\n" {
            line.clear();
            client.read_line(&mut line).unwrap();
        }
        let mut end = [0; 5];
        client.read_exact(&mut end).unwrap();
        assert_eq!(&end, b"0\r\n\r\n");
        assert_eq!(upstream.seen().len(), nth);
    }
}

#[test]
fn interim_answers_are_skipped_but_not_for_ever() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        match path(call) {
            "/cut" => {
                call.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 10")?;
                call.write("3 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le")?;
                call.write("ngth: 2\r\n\r\nok")
            }
            "/many" => call.write(hints.repeat(1000)),
            _ => {
                call.write(hints)?;
                Err(closed())
            }
        }
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for (path, status) in [("/cut", 200), ("/many", 502), ("/only", 502)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(exchange(&gateway, request).status, status, "{path}");
    }
}

#[test]
fn what_comes_behind_an_answer_is_no_answer_to_the_next_request() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
        let text = format!("{} {}", path(call), call.nth);
        let length = text.len();
        call.write(match path(call) {
            "/length" => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}{stray}"),
            "/chunked" => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{text}\r\n0\r\n\r\n{stray}"
            ),
            "/none" => format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello{stray}"),
            "/head" => format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{stray}"),
            "/close" => format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
            ),
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"),
        })
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for path in ["/length", "/chunked", "/none", "/head"] {
        let method = if path == "/head" { "HEAD" } else { "GET" };
        for (method, path) in [(method, path), ("GET", "/next")] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.get_mut().write_all(request.as_bytes()).unwrap();
            let answer = read_answer(&mut client, method == "HEAD").unwrap();
            let expected = match path {
                "/none" | "/head" => String::new(),
                // A connection of its own: the one with the stray answer is not used again.
                _ => format!("{path} 0"),
            };
            assert_eq!(answer.text(), expected);
        }
        // The good connection of `/next` must not be there for the next round.
        client.get_mut().write_all(b"GET /close HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!(answer.text(), "/close 1");
    }
}

#[test]
fn a_head_or_chunk_that_is_wrong_is_not_passed_on() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let answer = match path(call) {
            "/lf" => "HTTP/1.1 200 OK\r\nA: 1\nContent-Length: 1\r\n\r\nx".to_owned(),
            "/fold" => "HTTP/1.1 200 OK\r\nA: 1\r\n b\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "/blank" => "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx".to_owned(),
            "/plus" => "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx".to_owned(),
            "/huge" => format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(70_000)),
            "/fields" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: 1\r\n".repeat(300)),
            "/two" => "HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            _ => "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        };
        call.write(answer)
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for path in ["/lf", "/fold", "/blank", "/plus", "/huge", "/fields", "/two", "/old"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = exchange(&gateway, request);
        assert_eq!(answer.status, 502, "{path}");
        assert!(answer.text().contains("answer"), "{path}: {}", answer.text());
    }
    assert_eq!(upstream.seen().len(), 8, "none is sent again");
}

#[test]
fn a_body_that_goes_wrong_does_not_look_whole() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let chunks = match path(call) {
            "/size" => "3\r\nabc\r\nx\r\n",
            "/longer" => "3\r\nabcd\r\n0\r\n\r\n",
            "/lf" => "3\nabc\r\n0\r\n\r\n",
            "/overflow" => "3\r\nabc\r\nfffffffffffffffff\r\n",
            "/trailer" => "3\r\nabc\r\n0\r\nA : 1\r\n\r\n",
            _ => "3\r\nabc\r\n0\r\nA: 1\r\n",
        };
        call.write(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))?;
        Err(closed())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for path in ["/size", "/longer", "/lf", "/overflow", "/trailer", "/cut"] {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        assert!(read_answer(&mut client, false).is_err(), "{path}");
    }
}

#[test]
fn trailers_lose_what_may_not_stand_there() {
    let upstream = Upstream::start(|call| {
        call.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, set-cookie\r\n\r\n\
             1\r\nx\r\n0\r\n\
             Content-Length: 9\r\nSet-Cookie: a=b\r\ngrpc-status: 0\r\nHost: x\r\n\r\n",
        )
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let answer = exchange(
        &gateway,
        "GET / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
    );
    assert_eq!(answer.trailers.join("").to_ascii_lowercase(), "grpc-status: 0");
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n\
                      3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n";
        for byte in answer.as_bytes().chunks(1) {
            call.write(byte)?;
        }
        Ok(())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for _ in 0..3 {
        let answer = exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((answer.text(), answer.field("a")), ("abcde", Some("b")));
    }
}

#[test]
fn a_put_of_one_piece_on_a_connection_that_was_just_closed_is_sent_again() {
    let upstream = Upstream::start(|call| {
        if call.nth > 0 {
            return Err(closed());
        }
        let (body, _) = call.body()?;
        call.ok(str::from_utf8(&body).unwrap())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..10 {
        let put = "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
        client.get_mut().write_all(put.as_bytes()).unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "abc"));
    }
}

#[test]
fn a_post_finds_no_connection_that_was_closed_before_it() {
    let (send, go) = mpsc::channel::<()>();
    let go = Mutex::new(go);
    // Answers, and closes when it is told to.
    let upstream = Upstream::start(move |call| {
        let (body, _) = call.body()?;
        call.ok(str::from_utf8(&body).unwrap())?;
        go.lock().unwrap().recv().map_err(|_| closed())?;
        Err(closed())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..5 {
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
        client.get_mut().write_all(post.as_bytes()).unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "abc"));
        send.send(()).unwrap();
        until("the service to close", || all_closed(&upstream).then_some(()));
    }
}

/// True when no connection to `upstream` is open on its side.
fn all_closed(upstream: &Upstream) -> bool {
    let port = format!("0100007F:{:04X}", upstream.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    !table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next(), fields.next(), fields.next());
        local == Some(&*port) && state == Some("01")
    })
}

#[test]
fn a_get_that_a_new_connection_lost_goes_to_another_replica_and_only_there() {
    let bad = Upstream::start(|call| {
        call.body()?;
        Err(closed())
    });
    let good = Upstream::start(|call| call.ok("good"));
    let gateway = Gateway::start(&format!("/=http://{},{}", bad.address, good.address), &[]);
    let ask = |method: &str| {
        let request =
            format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        exchange(&gateway, request).status
    };
    for _ in 0..30 {
        assert_eq!(ask("GET"), 200);
    }
    assert!(!bad.seen().is_empty());
    let posts: Vec<u16> = (0..40).map(|_| ask("POST")).collect();
    assert!(posts.contains(&200) && posts.contains(&502), "{posts:?}");
}

#[test]
fn an_answer_until_close_ends_with_the_connection() {
    let upstream = Upstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\n\r\nto the ")?;
        call.write("end")?;
        Err(closed())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..3 {
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().text(), "to the end");
    }
}

#[test]
fn http2_gets_large_answers_whole_however_they_are_framed() {
    let whole: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let body = whole.clone();
    let upstream = Upstream::start(move |call| {
        if path(call) == "/length" {
            call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
            return call.write(&body);
        }
        call.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in [&body[..1], &body[1..40_000], &body[40_000..]] {
            call.write(format!("{:x}\r\n", piece.len()))?;
            call.write(piece)?;
            call.write("\r\n")?;
        }
        call.write("0\r\n\r\n")
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let ask = |path: &str| {
        let request = http::Request::get(format!("https://localhost{path}"));
        request.body(http_body_util::Full::default()).unwrap()
    };
    let answers = h2(&gateway, vec![ask("/length"), ask("/chunked"), ask("/length")]);
    assert!(answers.iter().all(|answer| answer.body() == &whole));
}

#[test]
fn a_service_that_breaks_again_and_again_does_not_fill_the_log() {
    let upstream = Upstream::start(|call| {
        call.write("nonsense\r\n\r\n")?;
        Err(closed())
    });
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let gateway = Gateway::start_logged(&upstream.route(), &[], &log);
    let begun = std::time::Instant::now();
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..50 {
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().status, 502);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let lines = log.lines().filter(|line| line.contains("is not HTTP/1.1")).count();
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s: {log}");
}

#[test]
fn a_client_that_breaks_off_costs_others_no_connection() {
    let upstream = Upstream::start(|call| {
        let nth = call.nth;
        if path(call) == "/" {
            return call.ok(&nth.to_string());
        }
        call.body().map(drop)
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__THREADS", "1")]);
    let mut other = tls(&gateway, "localhost", |_| {}).unwrap();
    let mut nth = || {
        other.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_answer(&mut other, false).unwrap().text().to_owned()
    };
    assert_eq!(nth(), "0");
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    // Its own request takes the unused connection, so that there is another one.
    let wrong =
        "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    client.get_mut().write_all(wrong.as_bytes()).unwrap();
    until("the upload", || upstream.seen().iter().find(|r| r.line.contains("/x")).map(drop));
    assert_eq!(nth(), "0");
    client.get_mut().write_all(b"x\r\n").unwrap();
    assert_eq!(read_answer(&mut client, false).unwrap().status, 400);
    assert_eq!(nth(), "1");
}
