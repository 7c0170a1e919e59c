//! Reads the head of a request, strictly: what two parsers could read differently is refused.
//!
//! Source: RFC 9112 §2.2 (lines), §3 (start line), §5 (fields), §6 (framing), §11.2 (smuggling). It
//! does no I/O, and what a head means beyond its own connection is judged in `rules`.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use http::Version;
use http::header;
use std::mem::MaybeUninit;

use crate::rules::hop;
use crate::rules::policy::FIELDS_MAX;
use crate::rules::policy::Refusal;

/// Longest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    Chunked,
}

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    pub request: Request<()>,
    pub framing: Framing,
    /// True when the client can use the connection again.
    pub keep_alive: bool,
    /// True when the client waits for a 100 before it sends the body.
    pub expects: bool,
    /// True when the client takes trailers.
    pub trailers: bool,
    /// True when the client would have the connection speak another protocol.
    pub upgrade: bool,
}

/// Why a head is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the target is too long: a head has at most {HEAD_BYTES_MAX} bytes")]
    Target,
    #[error("a head has at most {FIELDS_MAX} fields and {HEAD_BYTES_MAX} bytes")]
    Fields,
    #[error("this is an HTTP/1.1 server")]
    Version,
    #[error("the only expectation understood is `100-continue`, once")]
    Expectation,
    #[error("the head did not come in time")]
    Late,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            Self::Refused(_) => 400,
            Self::Late => 408,
            Self::Target => 414,
            Self::Expectation => 417,
            Self::Fields => 431,
            Self::Version => 505,
        }
    }
}

/// Looks for the end of a head whose bytes come piece by piece; looks at no byte twice.
#[derive(Debug, Default)]
pub struct Scan {
    /// Bytes looked at.
    at: usize,
    /// Where the line begins that holds the next byte.
    line: usize,
    lines: usize,
}

impl Scan {
    /// The length of the head that `bytes` begin with, once its empty line is there.
    ///
    /// # Errors
    ///
    /// When this cannot become a head.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        while let Some(length) = bytes[self.at..].iter().position(|c| *c == b'\n') {
            let end = self.at + length;
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(Refusal::BareLineFeed.into());
            }
            let empty = end == self.line + 1;
            self.at = end + 1;
            self.line = self.at;
            if self.at > HEAD_BYTES_MAX {
                return Err(self.too_long());
            }
            match (empty, self.lines) {
                (true, 0) => return Err(Refusal::StartLine.into()),
                (true, _) => return Ok(Some(self.at)),
                (false, lines) if lines > FIELDS_MAX => return Err(HeadError::Fields),
                (false, _) => self.lines += 1,
            }
        }
        self.at = bytes.len();
        if self.at >= HEAD_BYTES_MAX { Err(self.too_long()) } else { Ok(None) }
    }

    fn too_long(&self) -> HeadError {
        if self.lines == 0 { HeadError::Target } else { HeadError::Fields }
    }
}

/// Reads a whole head, its empty line included; the fields share its memory.
///
/// # Errors
///
/// When it is malformed, framed in two ways, or not for this server.
pub fn parse(head: &Bytes) -> Result<Head, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Fields),
        Err(httparse::Error::Version) if is_version(head) => return Err(HeadError::Version),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
            return Err(Refusal::FieldLine.into());
        }
        _ => return Err(Refusal::StartLine.into()),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::StartLine.into());
    };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Refusal::FieldLine.into()) };
        headers.append(name, value);
    }
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::StartLine)?;
    *request.uri_mut() = self::target(head.slice_ref(target.as_bytes()))?;
    *request.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    judge(request)
}

/// True when the start line is one, with a version of HTTP that we do not speak.
fn is_version(head: &[u8]) -> bool {
    let line = head.split(|c| *c == b'\r').next().unwrap_or_default();
    let mut words = line.split(|c| *c == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    [method, target].iter().all(|word| word.is_some_and(|word| !word.is_empty()))
        && words.next().is_none()
        && matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// RFC 9112 §3.2. A fragment is never sent (§3.2.1); `Uri` would drop it.
fn target(text: Bytes) -> Result<Uri, Refusal> {
    if text.contains(&b'#') {
        return Err(Refusal::Target);
    }
    let uri = Uri::from_maybe_shared(text).map_err(|_| Refusal::Target)?;
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(uri),
        Some(_) => Err(Refusal::Target),
    }
}

/// What the fields say about this connection.
fn judge(request: Request<()>) -> Result<Head, HeadError> {
    let headers = request.headers();
    let modern = request.version() == Version::HTTP_11;
    let upgrade = headers.contains_key(header::UPGRADE);
    let framing = framing(headers)?;
    if framing == Framing::Chunked && !modern {
        return Err(Refusal::TransferEncoding.into());
    }
    if framing != Framing::None && upgrade {
        return Err(Refusal::UpgradeBody.into());
    }
    let connection = |token| hop::has_token(headers, &header::CONNECTION, token);
    let named = headers.contains_key(header::CONNECTION);
    let keep_alive =
        if modern { !(named && connection("close")) } else { named && connection("keep-alive") };
    Ok(Head {
        framing,
        keep_alive,
        expects: modern && expects(headers)?,
        trailers: headers.contains_key(header::TE)
            && hop::has_token(headers, &header::TE, "trailers"),
        upgrade: modern && upgrade && named && connection("upgrade"),
        request,
    })
}

/// RFC 9112 §6, without the ways out that it leaves.
fn framing(headers: &HeaderMap) -> Result<Framing, Refusal> {
    let length = match one(headers, &header::CONTENT_LENGTH) {
        Ok(None) => None,
        Ok(Some(value)) => Some(length(value.as_bytes()).ok_or(Refusal::ContentLength)?),
        Err(()) => return Err(Refusal::ContentLength),
    };
    let chunked = match one(headers, &header::TRANSFER_ENCODING) {
        Ok(None) => false,
        Ok(Some(value)) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Refusal::TransferEncoding),
    };
    match (length, chunked) {
        (Some(_), true) => Err(Refusal::TwoFramings),
        (None, true) => Ok(Framing::Chunked),
        (None | Some(0), false) => Ok(Framing::None),
        (Some(length), false) => Ok(Framing::Length(length)),
    }
}

/// Decimal digits, without zeros in front, which some take for octal.
fn length(digits: &[u8]) -> Option<u64> {
    let plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]);
    let text = str::from_utf8(digits).ok().filter(|_| plain)?;
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// RFC 9110 §10.1.1.
fn expects(headers: &HeaderMap) -> Result<bool, HeadError> {
    match one(headers, &header::EXPECT) {
        Ok(None) => Ok(false),
        Ok(Some(value)) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(HeadError::Expectation),
    }
}

/// The only line of that name.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests;
