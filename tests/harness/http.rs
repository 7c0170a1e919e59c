//! Requests as a plain client sends them: no redirects followed, every status an answer.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Request;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body that a test reads.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields in order; names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body as it came, decoded from no encoding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// `GET url` with these request fields.
///
/// # Panics
///
/// When there is no answer.
#[must_use]
pub fn get(url: &str, fields: &[(&str, &str)]) -> Reply {
    send("GET", url, fields)
}

/// A request without a body.
///
/// # Panics
///
/// When there is no answer.
#[must_use]
pub fn send(method: &str, url: &str, fields: &[(&str, &str)]) -> Reply {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(TIMEOUT))
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .build()
        .into();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("the test wrote a request");
    let mut response =
        agent.run(request).unwrap_or_else(|error| panic!("{method} {url}: no answer: {error}"));
    let fields = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = response
        .body_mut()
        .with_config()
        .limit(BODY_BYTES_MAX)
        .read_to_vec()
        .unwrap_or_else(|error| panic!("{method} {url}: the body broke off: {error}"));
    Reply { status: response.status().as_u16(), fields, body }
}
