//! Asks DNS for all addresses of the upstreams, again and again, whatever the TTL says: Docker's
//! is 600 s, and a container lives shorter than that.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use crate::rules::route::Place;
use crate::rules::route::Scheme;
use crate::upstream::check;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::replica::Upstream;
use crate::upstream::stream::Connector;

/// Between two questions, counted from the answer.
const PAUSE: Duration = Duration::from_millis(1500);

/// Least time between two questions, however many requests want to know.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// How long the last answer is believed while DNS gives none: long enough for the engine that
/// answers to be restarted, and then another container may have the address.
const BELIEF: Duration = Duration::from_secs(30);

/// Looks after the replicas of `upstream` from now on, inside a runtime.
pub fn start(upstream: &Arc<Upstream>, connector: &Arc<Connector>) {
    tokio::spawn(keep(Arc::downgrade(upstream)));
    tokio::spawn(check::keep(Arc::downgrade(upstream), Arc::clone(connector)));
}

/// Keeps the replicas of `upstream` as DNS has them, until nobody uses it any more.
async fn keep(upstream: Weak<Upstream>) {
    let mut answered = Instant::now();
    while let Some(upstream) = upstream.upgrade() {
        let mut addresses = Vec::new();
        let mut unsure = false;
        for place in &upstream.places {
            match look_up(place).await {
                Ok(found) => addresses.extend(found),
                Err(error) if is_unsure(&error) => {
                    log::debug!("{place}: {error}");
                    unsure = true;
                }
                Err(error) => log::debug!("{place}: {error}"),
            }
        }
        if !unsure {
            answered = Instant::now();
        }
        if !unsure || answered.elapsed() > BELIEF {
            addresses.sort_unstable();
            addresses.dedup();
            if upstream.update(&addresses) {
                let list: Vec<String> = addresses.iter().map(Endpoint::to_string).collect();
                log::info!("{} has {} replicas: {}", upstream.name, list.len(), list.join(" "));
            }
        }
        let ask = Arc::clone(&upstream.ask);
        drop(upstream);
        tokio::time::sleep(PAUSE_MIN).await;
        tokio::select! {
            () = tokio::time::sleep(PAUSE - PAUSE_MIN) => {}
            () = ask.notified() => {}
        }
    }
}

async fn look_up(place: &Place) -> io::Result<Vec<Endpoint>> {
    let (name, port, scheme) = match place {
        Place::Host { name, port, scheme } => (name, *port, scheme),
        Place::Unix(path) => return Ok(vec![Endpoint::Unix(Path::new(path).into())]),
    };
    let endpoint = |address| match scheme {
        Scheme::Http => Endpoint::Tcp(address),
        Scheme::H2c => Endpoint::H2c(address),
        Scheme::Https => Endpoint::Tls(address, name.as_str().into()),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![endpoint(SocketAddr::new(address, port))]);
    }
    let found = tokio::net::lookup_host((question(name), port)).await?;
    Ok(found.map(endpoint).collect())
}

/// The name as DNS is asked. A single label gets the dot that makes it absolute: otherwise, while
/// the container is down, the search domain of the host may answer with a machine of its own.
fn question(name: &str) -> String {
    if name.contains('.') || name == "localhost" { name.to_owned() } else { format!("{name}.") }
}

/// True when DNS gave no answer, which is not the answer that there is no such name. The library
/// tells these apart only in words (`EAI_AGAIN`, `EAI_SYSTEM`).
fn is_unsure(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || error.to_string().contains("Temporary failure")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_label_is_asked_as_absolute() {
        assert_eq!(question("dice"), "dice.");
        assert_eq!(question("localhost"), "localhost");
        assert_eq!(question("dice.example.org"), "dice.example.org");
    }

    #[test]
    fn no_answer_is_not_the_answer_no() {
        let says = |text: &str| io::Error::other(format!("failed to lookup address: {text}"));
        assert!(is_unsure(&says("Temporary failure in name resolution")));
        assert!(!is_unsure(&says("Name or service not known")));
        assert!(!is_unsure(&says("No address associated with hostname")));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_address_needs_no_dns() {
        let place = |scheme| Place::Host { name: "::1".to_owned(), port: 80, scheme };
        let address = "[::1]:80".parse().unwrap();
        assert_eq!(look_up(&place(Scheme::Http)).await.unwrap(), [Endpoint::Tcp(address)]);
        assert_eq!(look_up(&place(Scheme::H2c)).await.unwrap(), [Endpoint::H2c(address)]);
        assert_eq!(
            look_up(&place(Scheme::Https)).await.unwrap(),
            [Endpoint::Tls(address, "::1".into())]
        );
    }
}
