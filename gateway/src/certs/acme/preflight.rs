//! Whether the ACME server would find us: each name is looked up, and each of its addresses is asked
//! for what we just made. It costs the server nothing, so it comes before the first order.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::certs::acme::challenges;
use crate::certs::acme::challenges::Challenges;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::Outcome;

/// For one address, all in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For the look-up of one name.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Names that are looked up at once. Each takes a thread of those that also ask for replicas and write to
/// the volume, for as long as a name server keeps it waiting.
const LOOK_UPS_MAX: usize = 8;

static LOOK_UPS: Semaphore = Semaphore::const_new(LOOK_UPS_MAX);

/// Addresses of one name that are asked.
const ADDRESSES_MAX: usize = 8;

/// Our answer is much shorter.
const ANSWER_BYTES_MAX: usize = 4096;

/// What one address did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What we just made.
    Ours,
    /// Something else.
    Other(String),
    /// Nothing.
    None(String),
    /// This machine has no way to addresses of that family; the server may have one.
    NoWay,
}

/// Asks for every name, at `port`.
///
/// # Errors
///
/// Which name, which address, what came back, and what to do.
pub async fn check(names: &[String], port: u16, challenges: &Challenges) -> Result<(), Failure> {
    let asked = names.iter().map(|name| check_name(name, port, challenges));
    let wrong: Vec<String> =
        futures_util::future::join_all(asked).await.into_iter().filter_map(Result::err).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Outcome::Preflight, wrong.join("; "))),
    }
}

async fn check_name(name: &str, port: u16, challenges: &Challenges) -> Result<(), String> {
    let addresses = look_up(name, port).await.map_err(|why| {
        format!("{name} has no address ({why}): create an A or AAAA record that points here")
    })?;
    let token = chassis::random_id();
    let text = format!("{token}.{}", chassis::random_id());
    let _out = challenges.put_text(&token, &text);
    let asked = addresses.iter().map(|address| ask(name, *address, &token, &text));
    let answers = futures_util::future::join_all(asked).await;
    judge(name, &addresses, &answers)
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // With its dot the name is not searched for in domains of this machine's.
    let absolute = format!("{name}.");
    let found = with_place(&LOOK_UPS, LOOK_UP_TIMEOUT, move || (absolute, port).to_socket_addrs());
    let found = found.await.ok_or("the name server does not answer")?;
    let found: Vec<SocketAddr> = found.map_err(|e| e.to_string())?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err("the name server knows none".to_owned()) } else { Ok(found) }
}

/// What `work` says on a thread of its own, once there is a place for it; `None` when that takes longer
/// than `patience`. Its place is taken until it ends, whoever still waits for it.
async fn with_place<T: Send + 'static>(
    places: &'static Semaphore,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = places.acquire().await.ok()?;
    let working = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    tokio::time::timeout(patience, working).await.ok()?.ok()
}

/// At least one address has to give our answer, and none another's: the server may ask any of them.
/// One that is silent does no harm, as the server then asks the next.
fn judge(name: &str, addresses: &[SocketAddr], answers: &[Answer]) -> Result<(), String> {
    let ours = answers.contains(&Answer::Ours);
    if ours && !answers.iter().any(|answer| matches!(answer, Answer::Other(_))) {
        return Ok(());
    }
    let mut text = format!("{name} is not answered by this gateway:");
    for (address, answer) in addresses.iter().zip(answers) {
        let _: Result<(), std::fmt::Error> = match answer {
            Answer::Ours => write!(text, " {address} is, but"),
            Answer::Other(what) => write!(text, " {address} answered {what},"),
            Answer::None(why) => write!(text, " {address} did not answer ({why}),"),
            Answer::NoWay => write!(text, " {address} is out of this machine's reach,"),
        };
    }
    text.pop();
    text.push_str(match answers.iter().any(|answer| matches!(answer, Answer::Other(_))) {
        true => ": point the name at this machine alone, and its port 80 at this gateway",
        false => {
            ": open port 80 in the firewall and publish it; where this machine cannot reach its \
             own public address (NAT without hairpin), set acme_preflight = false"
        }
    });
    Err(text)
}

async fn ask(name: &str, address: SocketAddr, token: &str, expected: &str) -> Answer {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let host = match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => name.to_owned(),
        };
        // The port is not the one that clients see, when a test sets it.
        let request = Request::get(challenges::path(token))
            .header(header::HOST, host)
            .header(header::USER_AGENT, "hubbub-gateway")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        connection.abort();
        Ok::<_, io::Error>((parts, body.map(|body| body.to_bytes()).unwrap_or_default()))
    };
    let (parts, body) = match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) if is_no_way(&error) => return Answer::NoWay,
        Ok(Err(error)) => return Answer::None(error.to_string()),
        Err(_) => return Answer::None(format!("not within {} s", TIMEOUT.as_secs())),
    };
    if parts.status == http::StatusCode::OK && body == expected.as_bytes() {
        return Answer::Ours;
    }
    let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    Answer::Other(match location {
        Some(location) => format!("{} to {}", parts.status, chassis::excerpt(location)),
        None => format!("{} that is not ours", parts.status),
    })
}

fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_answer_is_needed_and_no_wrong_one() {
        let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let other = || Answer::Other("404 Not Found".to_owned());
        let silent = || Answer::None("refused".to_owned());
        for (answers, fine) in [
            (vec![Answer::Ours], true),
            (vec![Answer::Ours, Answer::Ours], true),
            (vec![Answer::Ours, silent()], true),
            (vec![Answer::NoWay, Answer::Ours], true),
            (vec![Answer::Ours, other()], false),
            (vec![other(), Answer::Ours], false),
            (vec![silent()], false),
            (vec![Answer::NoWay, silent()], false),
            (vec![Answer::NoWay], false),
        ] {
            let judged = judge("a.example", &[v4, v6], &answers);
            assert_eq!(judged.is_ok(), fine, "{answers:?}");
            if let Err(text) = judged {
                assert!(text.contains("a.example") && text.contains("192.0.2.1:80"), "{text}");
                assert!(text.contains("port 80"), "{text}");
            }
        }
    }

    /// A plain HTTP port that answers with what is in `challenges`, as the gateway's does.
    async fn serve(challenges: Challenges) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let challenges = challenges.clone();
                let service = hyper::service::service_fn(move |request| {
                    let response = crate::edge::redirect::answer(&request, &challenges, 443);
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                let serving = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        port
    }

    #[tokio::test]
    async fn this_gateway_knows_itself_and_another_one_is_told() {
        let challenges = Challenges::default();
        let port = serve(challenges.clone()).await;
        let names = ["127.0.0.1".to_owned()];
        check(&names, port, &challenges).await.unwrap();
        let failure = check(&names, port, &Challenges::default()).await.unwrap_err();
        let parts = ["127.0.0.1", "308", "https://127.0.0.1/.well-known", "point the name"];
        assert!(parts.iter().all(|part| failure.text.contains(part)), "{failure}");
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let failure = check(&names, port, &challenges).await.unwrap_err();
        assert!(failure.text.contains("did not answer"), "{failure}");
    }

    #[tokio::test]
    async fn a_name_server_that_does_not_answer_takes_no_more_than_its_places() {
        static PLACES: Semaphore = Semaphore::const_new(2);
        let (answer, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = std::sync::Arc::new(std::sync::Mutex::new(waiting));
        for _ in 0..2 {
            let waiting = std::sync::Arc::clone(&waiting);
            let hung = move || waiting.lock().is_ok_and(|waiting| waiting.recv().is_ok());
            assert_eq!(with_place(&PLACES, Duration::from_millis(1), hung).await, None);
        }
        // Given up, and still there.
        assert_eq!(PLACES.available_permits(), 0);
        let next = tokio::spawn(with_place(&PLACES, Duration::from_secs(10), || 7));
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        answer.send(()).unwrap();
        assert_eq!(next.await.unwrap(), Some(7));
        answer.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_is_told() {
        let names = ["no-such-name.invalid".to_owned()];
        let failure = check(&names, 80, &Challenges::default()).await.unwrap_err();
        assert_eq!(failure.outcome, Outcome::Preflight);
        assert!(failure.text.contains("no-such-name.invalid has no address"), "{failure}");
    }
}
