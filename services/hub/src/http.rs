//! The addresses of the hub. What is not there is answered as upstream answers it, in its very words: its
//! clients and their scripts know them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use actix_http::ws::handshake;
use actix_web::body::{BodyStream, MessageBody, SizedStream};
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, UPGRADE};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{Error, HttpRequest, HttpResponse};
use chassis::{Problem, Stopping};
use futures_util::stream;

use crate::budget::Budget;
use crate::hub::Hub;
use crate::page::{self, Link};
use crate::proxies::{Proxies, Unknown};
use crate::session::Session;

/// What the handlers share.
pub struct Shared {
    /// The hub.
    pub hub: Hub,
    /// Whose word on addresses is taken.
    pub proxies: Proxies,
    /// Bounds what all connections hold of unfinished messages.
    pub incoming: Budget,
    /// What the front page links.
    pub links: Vec<Link>,
}

/// The addresses. A hub URL that ends in a slash makes the clients ask for `//ws` and the like; they get it.
pub fn routes(shared: Shared) -> impl Fn(&mut ServiceConfig) + Send + Clone + 'static {
    let shared = Data::new(shared);
    move |config| {
        config
            .app_data(shared.clone())
            .route("/", web::to(front))
            .route("/oidc-callback", web::to(oidc_callback))
            .route("//oidc-callback", web::to(oidc_callback))
            .route("/ws", web::to(ws))
            .route("//ws", web::to(ws))
            .route("/api/v1/places", web::to(places))
            .route("//api/v1/places", web::to(places))
            .route("/api/v1/auth-info", web::to(auth_info))
            .route("//api/v1/auth-info", web::to(auth_info))
            .default_service(web::to(nothing_here));
    }
}

/// A participant connects.
async fn ws(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    stopping: Data<Stopping>,
) -> Result<HttpResponse, Error> {
    if !upgrades(&request) {
        return Ok(not_found());
    }
    let mut response = handshake(request.head())?;
    let address = address(&request, &shared.proxies).await;
    let connected = (!stopping.is_stopping()).then(|| shared.hub.connect(address)).flatten();
    let Some((connection, mailbox)) = connected else {
        return Err(Problem::new(503, "the hub takes no more connections now")
            .with_retry_after(5)
            .into());
    };
    let body = mailbox.body();
    let session = Session::new(
        shared.hub.clone(),
        (connection, mailbox),
        payload.into_inner(),
        &shared.incoming,
    );
    let stopping = stopping.get_ref().clone();
    actix_web::rt::spawn(async move { session.run(stopping).await });
    Ok(response.message_body(BodyStream::new(body).boxed())?.into())
}

/// The participant's address as exporters and agents must know it.
async fn address(request: &HttpRequest, proxies: &Proxies) -> Result<std::net::IpAddr, Unknown> {
    let Some(peer) = request.peer_addr() else { return Err(Unknown::NoAddress(String::new())) };
    let lines = request.headers().get_all("x-forwarded-for");
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("not text")).collect();
    proxies.client(peer.ip(), &lines).await
}

async fn places(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    if upgrades(&request) {
        return no_socket_here();
    }
    let pieces = shared.hub.listing();
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    // A slow reader keeps the pieces, which are shared, and no copy.
    let pieces = (0..pieces.len()).map(move |index| Ok::<_, Infallible>(pieces[index].clone()));
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(SizedStream::new(length, stream::iter(pieces)))
}

/// Authentication is off.
async fn auth_info(request: HttpRequest) -> HttpResponse {
    if upgrades(&request) {
        return no_socket_here();
    }
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body("{}")
}

/// The browser comes back from the identity provider.
async fn oidc_callback(
    request: HttpRequest,
    shared: Data<Shared>,
) -> Result<HttpResponse, Problem> {
    if upgrades(&request) {
        return Ok(no_socket_here());
    }
    let query = query(request.query_string());
    let Some(state) = query.get("state") else {
        return Err(Problem::new(
            400,
            "this address needs the query that the identity provider gives",
        ));
    };
    if !shared.hub.logged_in(state, &query) {
        return Err(Problem::new(
            404,
            "no login waits for this state; start again with `not-my-board login`",
        ));
    }
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain"))
        .body("Continue in not-my-board CLI"))
}

/// A query as an object of strings: percent and `+` decoded, empty values dropped, the last of a name counts.
fn query(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The front page for browsers, a few lines for `curl`.
async fn front(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    if upgrades(&request) {
        return no_socket_here();
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html")) {
        page::html(&shared.hub, &shared.links)
    } else {
        page::text(&shared.links)
    }
}

async fn nothing_here(request: HttpRequest) -> HttpResponse {
    if upgrades(&request) { no_socket_here() } else { not_found() }
}

fn not_found() -> HttpResponse {
    HttpResponse::NotFound().insert_header((CONTENT_TYPE, "text/plain")).body("Page not found")
}

/// A WebSocket is asked for where there is none.
fn no_socket_here() -> HttpResponse {
    HttpResponse::Forbidden().force_close().finish()
}

/// Whether the request asks for a WebSocket, RFC 6455 §4.2.1.
fn upgrades(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    request.head().upgrade()
        && upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_becomes_an_object_of_strings() {
        for (text, expected) in [
            ("state=a&code=b", &[("code", "b"), ("state", "a")][..]),
            ("state=a%20b+c", &[("state", "a b c")]),
            ("state=a&state=b", &[("state", "b")]),
            ("state=a&error=", &[("state", "a")]),
            ("state=%C3%A9&%66=1", &[("f", "1"), ("state", "é")]),
            ("", &[]),
            ("x&&=", &[]),
        ] {
            let query = super::query(text);
            let query: Vec<_> =
                query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(query, expected, "{text}");
        }
    }
}
