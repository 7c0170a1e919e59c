//! Errors to HTTP clients.
//!
//! Source: RFC 9457, <https://www.rfc-editor.org/rfc/rfc9457>. `type` is left out, which means
//! `about:blank`: the status says what kind of problem it is, `detail` what to do about it.

/// An error as an HTTP client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    retry_after_s: Option<u64>,
}

/// The media type of a problem, RFC 9457 §6.1.
pub const JSON: &str = "application/problem+json";

/// What `curl` gets.
pub const TEXT: &str = "text/plain; charset=utf-8";

impl Problem {
    /// A problem with this HTTP `status`; `detail` says what a person can do about it.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { title: title(status), status, detail: detail.into(), retry_after_s: None }
    }

    /// The same, worth another try after `seconds` (RFC 9110 §10.2.3).
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of `Retry-After`, in seconds, where another try makes sense.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.retry_after_s
    }

    /// Content type and body for a client that sent this `Accept`: JSON to who asks for JSON,
    /// one line of text to everybody else (`curl`, a browser's address bar).
    #[must_use]
    pub fn render(&self, accept: Option<&str>) -> (&'static str, String) {
        if accept.is_some_and(asks_for_json) {
            let body = serde_json::json!({
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
            });
            (JSON, format!("{body}\n"))
        } else {
            (TEXT, format!("{} {}: {}\n", self.status, self.title, self.detail))
        }
    }
}

/// True when `accept` (RFC 9110 §12.5.1) names JSON, of any kind, and does not refuse it.
#[must_use]
pub fn asks_for_json(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let json = kind == "application/json" || kind.ends_with("+json");
        let refused = parts.any(|part| {
            part.split_once('=').is_some_and(|(name, weight)| {
                name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0)
            })
        });
        json && !refused
    })
}

/// The reason phrase of RFC 9110 §15 for the statuses that Hubbub sends.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_only_to_who_asks_for_it() {
        for (accept, json) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), false),
            (Some("application/json"), true),
            (Some("text/html, application/problem+json;q=0.5"), true),
            (Some("application/json;q=0"), false),
            (Some("application/json; q=0.000"), false),
            (Some(""), false),
        ] {
            let (content_type, _) = Problem::new(404, "no such die").render(accept);
            assert_eq!(content_type == JSON, json, "{accept:?}");
        }
    }

    #[test]
    fn the_json_has_the_members_of_rfc_9457() {
        let (_, body) = Problem::new(422, "a die has 1 to 6").render(Some("application/json"));
        let expected =
            r#"{"title":"Unprocessable Content","status":422,"detail":"a die has 1 to 6"}"#;
        assert_eq!(body.trim_end(), expected);
    }

    #[test]
    fn the_text_is_one_line() {
        let (_, body) = Problem::new(503, "say is starting").render(None);
        assert_eq!(body, "503 Service Unavailable: say is starting\n");
    }
}
