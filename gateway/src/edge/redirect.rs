//! Plain HTTP: every request is sent to the same place over HTTPS.

use bytes::Bytes;
use chassis::Problem;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;

use crate::certs::acme::challenges::Challenges;
use crate::relay::answer::Failure;
use crate::rules::policy;
use crate::rules::policy::Refusal;

/// The answer to an ACME server, when that is what is asked for; and otherwise the redirect.
///
/// 308 keeps method and body (RFC 9110 §15.4.9). The target's host is the request's, once it
/// is known to be no more than a host, so that nobody is sent anywhere else.
pub fn answer<B>(
    request: &Request<B>,
    challenges: &Challenges,
    https_port: u16,
) -> Response<Full<Bytes>> {
    if let Some(text) = challenges.text(request.uri().path()) {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        // RFC 8555 §8.3 leaves the type open.
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return response;
    }
    let response = match location(request, https_port) {
        Ok(location) => {
            let mut response = Response::new(Bytes::from(format!("Go to {location}\n")));
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            let headers = response.headers_mut();
            if let Ok(value) = HeaderValue::from_str(&location) {
                headers.insert(header::LOCATION, value);
            }
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, text);
            response
        }
        Err(failure) => failure.response(request.headers().get(header::ACCEPT), true),
    };
    response.map(Full::new)
}

fn location<B>(request: &Request<B>, https_port: u16) -> Result<String, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::Problem(Problem::new(501, "CONNECT is not served here")));
    }
    let host = policy::host(request.uri(), request.headers())?;
    policy::target(request.uri())?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let target = request.uri().path_and_query().ok_or(Refusal::Target)?;
    Ok(format!("https://{host}{port}{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(uri: &str, host: &str, port: u16) -> Response<Full<Bytes>> {
        let request = Request::post(uri).header("host", host).body(()).unwrap();
        answer(&request, &Challenges::default(), port)
    }

    #[test]
    fn the_same_place_over_https() {
        for (uri, host, port, expected) in [
            ("/", "localhost", 443, "https://localhost/"),
            ("/a%2Fb?c=d&e", "Localhost:8080", 443, "https://localhost/a%2Fb?c=d&e"),
            ("/x", "localhost:80", 8443, "https://localhost:8443/x"),
            ("/x", "[::1]:80", 8443, "https://[::1]:8443/x"),
            ("//evil.example/x", "localhost", 443, "https://localhost//evil.example/x"),
        ] {
            let response = answer_to(uri, host, port);
            assert_eq!(response.status(), 308);
            assert_eq!(response.headers()[header::LOCATION], expected);
        }
    }

    #[test]
    fn an_acme_server_gets_its_answer_and_others_the_redirect() {
        let challenges = Challenges::default();
        let _out = challenges.put_text("abc", "abc.thumb");
        for (token, status) in [("abc", 200), ("abd", 308), ("abc/", 308)] {
            let uri = format!("/.well-known/acme-challenge/{token}");
            let request = Request::get(uri).header("host", "localhost").body(()).unwrap();
            assert_eq!(answer(&request, &challenges, 443).status(), status, "{token}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "a b", "a/b", "user@a", "a\\b", "a:b", "a?b", "a#b"] {
            let response = answer_to("/", host, 443);
            assert_eq!(response.status(), 400, "{host}");
            assert!(!response.headers().contains_key(header::LOCATION));
        }
    }
}
