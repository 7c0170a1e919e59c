//! `http://DOMAIN/ca`: the private CA for clients that do not trust it yet, and so in plain HTTP. The
//! fingerprint, in the gateway's log, tells whether somebody changed it on the way.

use std::fmt;
use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::header;
use http_body_util::Full;

use crate::certs::ca::Root;
use crate::certs::office::Office;
use crate::certs::sites::Mode;
use crate::certs::sites::Site;
use crate::certs::trust::Client;
use crate::certs::trust::FILE;
use crate::certs::trust::Guide;
use crate::certs::trust::Step;
use crate::certs::trust::clients;
use crate::certs::trust::origin;
use crate::edge::certificates::covers;
use crate::rules::policy;

/// Browsers offer to import a certificate of this type (<https://pki-tutorial.readthedocs.io/en/latest/mime.html>).
const CERTIFICATE: &str = "application/x-x509-ca-cert";

/// The page brings all that it needs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The answer to a request in plain HTTP that asks for the private CA of an internal site; `None` for
/// every other one.
pub fn answer<B>(
    request: &Request<B>,
    office: &Office,
    https_port: u16,
) -> Option<Response<Full<Bytes>>> {
    let root = office.root()?;
    respond(request, &office.sites(), &root, https_port)
}

fn respond<B>(
    request: &Request<B>,
    sites: &[Site],
    root: &Root,
    https_port: u16,
) -> Option<Response<Full<Bytes>>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let is_page = match request.uri().path() {
        "/ca" | "/ca/" => true,
        "/ca.crt" | "/ca/root.crt" => false,
        _ => return None,
    };
    // Who is refused is so by the redirect.
    let host = policy::host(request.uri(), request.headers()).ok()?;
    let covering = |site: &&Site| covers(&site.names, &host);
    if !sites.iter().filter(covering).all(|site| site.mode == Mode::Internal)
        || !sites.iter().any(|site| covering(&site))
    {
        return None;
    }
    if !is_page {
        return Some(response(CERTIFICATE, root.pem.clone()));
    }
    // Well formed, as `host` could be read from it.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let line = request.headers().get(header::HOST).and_then(|line| line.to_str().ok());
    let place = format!("http://{}/ca.crt", authority.or(line)?);
    let fetch = format!("curl -o {FILE} {place}");
    let guide = Guide { root, place: &place, fetch: &fetch, origin: &origin(&host, https_port) };
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut response = match accept.is_some_and(|accept| accept.contains("text/html")) {
        true => response("text/html; charset=utf-8", html(&guide)),
        false => response("text/plain; charset=utf-8", guide.text()),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Some(response)
}

fn response(content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// For a browser. Without script, and readable without style.
fn html(guide: &Guide<'_>) -> String {
    let mut steps = String::new();
    for Client { name, steps: all } in clients(guide.origin) {
        let _: fmt::Result = writeln!(steps, "<h3>{}</h3>", escaped(name));
        for step in all {
            let _: fmt::Result = match step {
                Step::Command(command) => writeln!(steps, "<pre>{}</pre>", escaped(&command)),
                Step::Words(words) => writeln!(steps, "<p>{}</p>", escaped(words)),
            };
        }
    }
    let (origin, fingerprint) = (escaped(guide.origin), guide.root.fingerprint());
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trust {origin}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }}
h1, h2 {{ line-height: 1.2; }}
h3 {{ margin-bottom: 0; }}
pre {{ margin: .3rem 0; padding: .5rem .7rem; overflow-x: auto; border: 1px solid #8886; border-radius: .3rem; }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>Trust {origin}</h1>
<p>Its certificate is signed by a private CA, which your system does not know yet.</p>
<h2>1. Get the certificate</h2>
<p><a href="/ca.crt" download="{FILE}">Download {FILE}</a></p>
<h2>2. Compare its fingerprint</h2>
<p>This page came without encryption. The fingerprint below, and that of the file, must be the one in
the gateway&#8217;s log, which <code>docker compose logs gateway</code> shows. SHA-256:</p>
<p><code>{fingerprint}</code></p>
<pre>openssl x509 -in {FILE} -noout -fingerprint -sha256</pre>
<h2>3. Trust it</h2>
{steps}</main>
</body>
</html>
"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::sites;
    use crate::certs::trust::tests::root;

    fn asked(path: &str, host: &str, accept: &str) -> Option<Response<Full<Bytes>>> {
        let hosts = ["farm.lan"];
        let sites = sites::plan("farm.net", hosts.into_iter(), &[], true).unwrap();
        let request =
            Request::get(path).header("host", host).header("accept", accept).body(()).unwrap();
        respond(&request, &sites, &root(), 443)
    }

    #[test]
    fn only_internal_sites_have_it() {
        for (path, host, expected) in [
            ("/ca", "farm.lan", Some("text/plain; charset=utf-8")),
            ("/ca/", "FARM.lan:80", Some("text/plain; charset=utf-8")),
            ("/ca.crt", "farm.lan", Some(CERTIFICATE)),
            ("/ca/root.crt", "farm.lan", Some(CERTIFICATE)),
            ("/ca/root.key", "farm.lan", None),
            ("/cab", "farm.lan", None),
            ("/ca", "farm.net", None),
            ("/ca.crt", "farm.net", None),
            ("/ca", "other.lan", None),
            ("/ca", "a b", None),
        ] {
            let answer = asked(path, host, "*/*");
            let found = answer.as_ref().map(|answer| &answer.headers()[header::CONTENT_TYPE]);
            assert_eq!(found.map(|value| value.to_str().unwrap()), expected, "{host}{path}");
        }
    }

    #[test]
    fn a_browser_gets_a_page_that_needs_nothing_else() {
        let answer = asked("/ca", "farm.lan", "text/html,*/*;q=0.8").unwrap();
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let root = root();
        let guide = Guide { root: &root, place: "p", fetch: "f", origin: "https://farm.lan" };
        let page = html(&guide);
        assert!(page.contains(&root.fingerprint()) && page.contains("Privacy &amp; Security"));
        for outside in ["src=", "@import", "<script", "http:", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
