//! What a request must be before it is passed on: read one way by every parser behind us.
//!
//! Sources: RFC 9112 §3.2 (targets and `Host`), §6.3 and §11.2 (framing, smuggling), RFC 3986 §3.2.2
//! (host) and §5.2.4 (dot segments). The lines and the framing of HTTP/1 are judged where its heads are
//! read, in `edge::http1::head`.

use http::HeaderMap;
use http::Method;
use http::Uri;
use http::header;

/// Longest host name, without the port (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Most fields of a request.
pub const FIELDS_MAX: usize = 100;

/// Longest method; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

/// Why a request is refused; the text is the problem's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request needs exactly one Host")]
    HostCount,
    #[error("the Host is not a name or an address with an optional port")]
    HostForm,
    #[error("the target and the Host name different hosts")]
    HostDisagrees,
    #[error("the target must be a path that starts with `/`")]
    Target,
    #[error("the path must not hold `.` or `..` segments; send the path that is meant")]
    DotSegment,
    #[error("the path must not hold a NUL, a control character or a backslash")]
    Character,
    #[error("Content-Length and Transfer-Encoding together are refused: one message, one framing")]
    TwoFramings,
    #[error("the request needs at most one Content-Length, in decimal digits")]
    ContentLength,
    #[error("the only Transfer-Encoding understood is `chunked`, once")]
    TransferEncoding,
    #[error("an upgrade cannot carry a body")]
    UpgradeBody,
    #[error("a line of the head must end with CR LF, not with LF alone")]
    BareLineFeed,
    #[error("the scheme must be https")]
    Scheme,
    #[error("a request has at most {FIELDS_MAX} fields")]
    Fields,
    #[error("the first line must be METHOD TARGET HTTP/1.1, with one space between them")]
    StartLine,
    #[error("a field line is malformed")]
    FieldLine,
    #[error("the method must be of upper-case letters, digits and `-`, 32 at most")]
    Method,
    #[error("a field about who asks is there twice, or spelled with `_`")]
    Claims,
    #[error("the request was cut off")]
    Cut,
}

impl Refusal {
    /// As metrics name it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::HostCount => "host_count",
            Self::HostForm => "host_form",
            Self::HostDisagrees => "host_disagrees",
            Self::Target => "target",
            Self::DotSegment => "dot_segment",
            Self::Character => "character",
            Self::TwoFramings => "two_framings",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::UpgradeBody => "upgrade_body",
            Self::BareLineFeed => "bare_line_feed",
            Self::Scheme => "scheme",
            Self::Fields => "fields",
            Self::StartLine => "start_line",
            Self::FieldLine => "field_line",
            Self::Method => "method",
            Self::Claims => "claims",
            Self::Cut => "cut",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Fields => 431,
            _ => 400,
        }
    }
}

/// What HTTP/2 and HTTP/3 frame by themselves and leave to us: one length (RFC 9110 §8.6), the scheme
/// of the connection (RFC 9113 §8.3.1; `CONNECT` without a protocol has none), and the number of
/// fields, of which they bound only the bytes.
pub fn multiplexed(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() > FIELDS_MAX {
        return Err(Refusal::Fields);
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::ContentLength);
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        // h2 does not tell the scheme of a target that names no host.
        None if method == Method::CONNECT || uri.authority().is_none() => Ok(()),
        _ => Err(Refusal::Scheme),
    }
}

/// The host that a request is for, lower case, without a port and without a dot at its end.
///
/// The absolute form of a target (and `:authority` of HTTP/2) must agree with `Host` where both
/// are there.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::HostCount);
    }
    let line = match line {
        Some(value) => Some(split_host(value.to_str().map_err(|_| Refusal::HostForm)?)?),
        None => None,
    };
    let authority = match uri.authority() {
        Some(authority) => Some(split_host(authority.as_str())?),
        None => None,
    };
    match (line, authority) {
        (Some(line), Some(authority)) => {
            let default = match uri.scheme_str() {
                Some("http") => 80,
                _ => 443,
            };
            let same = line.0 == authority.0
                && line.1.unwrap_or(default) == authority.1.unwrap_or(default);
            if same { Ok(line.0) } else { Err(Refusal::HostDisagrees) }
        }
        (Some(one), None) | (None, Some(one)) => Ok(one.0),
        (None, None) => Err(Refusal::HostCount),
    }
}

/// Host and port of `uri-host [ ":" port ]` (RFC 9110 §7.2).
fn split_host(text: &str) -> Result<(String, Option<u16>), Refusal> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (v6, port) = rest.split_once(']').ok_or(Refusal::HostForm)?;
            let v6: std::net::Ipv6Addr = v6.parse().map_err(|_| Refusal::HostForm)?;
            (v6.to_string(), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            let name = name.strip_suffix('.').unwrap_or(name);
            let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
            let whole = !name.is_empty() && name.len() <= HOST_BYTES_MAX;
            if !whole || !name.bytes().all(fits) || name.split('.').any(str::is_empty) {
                return Err(Refusal::HostForm);
            }
            (name.to_ascii_lowercase(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Refusal::HostForm)?)
        }
        _ => return Err(Refusal::HostForm),
    };
    Ok((name, port))
}

/// Refuses a target whose path a service could read as another one, or which has none: `Uri` says `/`
/// for the path of `https://host?query`, and yet would write it as `?query`.
pub fn target(uri: &Uri) -> Result<(), Refusal> {
    if uri.path_and_query().is_some_and(|target| !target.as_str().starts_with('/')) {
        return Err(Refusal::Target);
    }
    path(uri.path())
}

/// Refuses a path that a service could read as another one. `%2F` is data and passes; it counts as
/// a slash only beside dots, where a service that decodes it would climb.
fn path(path: &str) -> Result<(), Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::Target);
    }
    if path.bytes().any(|c| c == b'\\' || c.is_ascii_control()) {
        return Err(Refusal::Character);
    }
    if !path.contains('%') {
        return dot_segments(path.as_bytes());
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if decoded.iter().any(|c| matches!(c, 0 | b'\\')) {
        return Err(Refusal::Character);
    }
    dot_segments(&decoded)
}

fn dot_segments(path: &[u8]) -> Result<(), Refusal> {
    // `;` starts parameters that some servers take off before they look for dots.
    let dots = path
        .split(|c| matches!(c, b'/' | b'\\'))
        .map(|segment| segment.split(|c| *c == b';').next().unwrap_or_default())
        .any(|segment| matches!(segment, b"." | b".."));
    if dots { Err(Refusal::DotSegment) } else { Ok(()) }
}

/// True for the paths that every service keeps to the inside, however they are written: encoded
/// (even twice), with slashes doubled or added.
pub fn is_internal(path: &str) -> bool {
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..3 {
        if !decoded.contains(&b'%') {
            break;
        }
        decoded = percent_encoding::percent_decode(&decoded).collect();
    }
    let end = decoded.iter().position(|c| matches!(c, b'?' | b'#')).unwrap_or(decoded.len());
    let mut segments = decoded[..end]
        .split(|c| matches!(c, b'/' | b'\\'))
        .map(bare)
        .filter(|segment| !segment.is_empty() && *segment != b".");
    let one = segments.next();
    segments.next().is_none()
        && one.is_some_and(|name| {
            name.eq_ignore_ascii_case(b"metrics") || name.eq_ignore_ascii_case(b"healthz")
        })
}

/// A segment without its parameters, and without blanks and control characters around it.
fn bare(segment: &[u8]) -> &[u8] {
    let name = segment.split(|c| *c == b';').next().unwrap_or_default();
    let blank = |c: &u8| c.is_ascii_whitespace() || c.is_ascii_control();
    let start = name.iter().position(|c| !blank(c)).unwrap_or(name.len());
    let end = name.iter().rposition(|c| !blank(c)).map_or(start, |last| last + 1);
    &name[start..end]
}

/// True when trailers hold a field that frames or directs a message, which nobody may add after its
/// head (RFC 9110 §6.5.1).
pub fn is_framed(trailers: &HeaderMap) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST]
        .iter()
        .any(|name| trailers.contains_key(name))
}

/// Refuses a method in lower case: methods are case-sensitive (RFC 9110 §9.1), and not every service
/// knows that.
pub fn method(method: &Method) -> Result<(), Refusal> {
    let fits = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'-';
    let name = method.as_str();
    let fits = name.len() <= METHOD_BYTES_MAX && name.bytes().all(fits);
    if fits { Ok(()) } else { Err(Refusal::Method) }
}

/// True when repeating the request does what sending it once does (RFC 9110 §9.2.2), so that a
/// proxy may send it again.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host_of(uri: &str, hosts: &[&str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for value in hosts {
            headers.append(header::HOST, value.parse().unwrap());
        }
        host(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn what_comes_over_http2_has_one_length_one_scheme_and_few_fields() {
        let judge = |method: Method, uri: &str, fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for name in fields {
                headers.append(name.parse::<header::HeaderName>().unwrap(), "1".parse().unwrap());
            }
            multiplexed(&method, &uri.parse().unwrap(), &headers)
        };
        let length = "content-length";
        for (method, uri, fields, expected) in [
            (Method::GET, "https://a/", &[][..], Ok(())),
            (Method::POST, "https://a/", &[length], Ok(())),
            (Method::POST, "https://a/", &[length, length], Err(Refusal::ContentLength)),
            (Method::GET, "https://a/", &["x"; 100], Ok(())),
            (Method::GET, "https://a/", &["x"; 101], Err(Refusal::Fields)),
            (Method::GET, "http://a/", &[], Err(Refusal::Scheme)),
            (Method::GET, "ftp://a/", &[], Err(Refusal::Scheme)),
            (Method::GET, "/", &[], Ok(())),
            (Method::CONNECT, "a:443", &[], Ok(())),
        ] {
            assert_eq!(judge(method, uri, fields), expected, "{uri} {}", fields.len());
        }
        assert_eq!((Refusal::Fields.status(), Refusal::Scheme.status()), (431, 400));
    }

    #[test]
    fn there_is_one_host_and_the_target_agrees_with_it() {
        for (uri, hosts, expected) in [
            ("/", &["localhost"][..], Ok("localhost")),
            ("/", &["LocalHost:8443"], Ok("localhost")),
            ("/", &["localhost."], Ok("localhost")),
            ("/", &["localhost:"], Ok("localhost")),
            ("/", &["[::1]:8443"], Ok("::1")),
            ("/", &["192.0.2.7"], Ok("192.0.2.7")),
            ("/", &[], Err(Refusal::HostCount)),
            ("/", &["a", "a"], Err(Refusal::HostCount)),
            ("/", &[""], Err(Refusal::HostForm)),
            ("/", &["a b"], Err(Refusal::HostForm)),
            ("/", &["a,b"], Err(Refusal::HostForm)),
            ("/", &["a/b"], Err(Refusal::HostForm)),
            ("/", &["user@a"], Err(Refusal::HostForm)),
            ("/", &["a..b"], Err(Refusal::HostForm)),
            ("/", &[".."], Err(Refusal::HostForm)),
            ("/", &["a:b"], Err(Refusal::HostForm)),
            ("/", &["a:1:2"], Err(Refusal::HostForm)),
            ("/", &["a:70000"], Err(Refusal::HostForm)),
            ("/", &["[::1"], Err(Refusal::HostForm)),
            ("/", &["[::1]x"], Err(Refusal::HostForm)),
            ("https://a/", &["a"], Ok("a")),
            ("https://a:443/", &["A"], Ok("a")),
            ("http://a/", &["a:80"], Ok("a")),
            ("https://a/", &[], Ok("a")),
            ("https://a/", &["b"], Err(Refusal::HostDisagrees)),
            ("https://a:444/", &["a"], Err(Refusal::HostDisagrees)),
            ("https://u@a/", &["a"], Err(Refusal::HostForm)),
        ] {
            assert_eq!(host_of(uri, hosts), expected.map(str::to_owned), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for wrong in [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a/.%2E",
            "/a/%2e",
            "/..%2fb",
            "/a%2f..%2fb",
            "/..;/b",
            "/.;x=1/b",
            "/%2e%2e%3b/b",
        ] {
            assert_eq!(path(wrong), Err(Refusal::DotSegment), "{wrong}");
        }
        for wrong in ["/a\\b", "/%00", "/a%00b", "/say/a%5Cb", "/a/..%5cb"] {
            assert_eq!(path(wrong), Err(Refusal::Character), "{wrong}");
        }
        for wrong in ["", "*", "a"] {
            assert_eq!(path(wrong), Err(Refusal::Target), "{wrong}");
        }
    }

    #[test]
    fn a_target_begins_with_its_path() {
        for (text, expected) in [
            ("/a?b", Ok(())),
            ("https://a/", Ok(())),
            ("https://a", Ok(())),
            ("https://a?b/c", Err(Refusal::Target)),
            ("a:443", Err(Refusal::Target)),
            ("*", Err(Refusal::Target)),
        ] {
            assert_eq!(target(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn data_passes() {
        for right in [
            "/",
            "//",
            "/a%2Fb",
            "/...",
            "/.well-known/x",
            "/a..b",
            "/say/one%20two",
            "/say/100%",
            "/a;b=c",
            "/é",
            "/say/%2e%2e%2e",
        ] {
            assert_eq!(path(right), Ok(()), "{right}");
        }
    }

    #[test]
    fn the_inside_stays_inside() {
        for inside in [
            "/metrics",
            "/healthz",
            "/%6Detrics",
            "//metrics",
            "/metrics/",
            "/metrics//",
            "/%6D%65trics%2F",
            "/%256Detrics",
            "/metrics%3Fx",
            "/Metrics",
            "/metrics;x=1",
            "/;x/metrics",
            "/%5Cmetrics",
            "/%252e/metrics",
            "/metrics%20",
            "/healthz%09",
            "/metrics%0a",
        ] {
            assert!(is_internal(inside), "{inside}");
        }
        for outside in ["/", "/metricsx", "/dice/metrics", "/say/metrics", "/metrics/x", "/x"] {
            assert!(!is_internal(outside), "{outside}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_passes_cannot_climb_once_decoded(text in "(/|%2[eEfF]|\\.|%5c|a|;){0,12}") {
            let text = format!("/{text}");
            if path(&text) == Ok(()) {
                let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
                let climbs = decoded.split(['/', '\\']).any(|segment| segment == "..");
                prop_assert!(!climbs, "{}", text);
            }
        }

        #[test]
        fn no_host_makes_it_panic(text in "\\PC{0,40}") {
            let _: Result<_, Refusal> = split_host(&text);
        }
    }
}
