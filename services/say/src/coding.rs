//! Whether an answer is compressed.
//!
//! Source: RFC 9110 §12.5.3, <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3>. A client that
//! sends no `Accept-Encoding` takes anything, and gets gzip.

use actix_web::http::header::AcceptEncoding;
use actix_web::http::header::ContentEncoding;
use actix_web::http::header::Encoding;
use actix_web::http::header::Preference;
use actix_web::http::header::Quality;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
}

/// The coding for a client that accepts `accepted`; `None` when it does not say.
///
/// Gzip, unless the client refuses it or would rather have no coding. A client that refuses
/// everything gets the identity.
#[must_use]
pub fn choose(accepted: Option<&AcceptEncoding>) -> Coding {
    let Some(accepted) = accepted else { return Coding::Gzip };
    let weight = |is: fn(&Encoding) -> bool| {
        accepted.iter().find_map(|entry| match &entry.item {
            Preference::Specific(coding) if is(coding) => Some(entry.quality),
            _ => None,
        })
    };
    let any =
        accepted.iter().find(|entry| entry.item == Preference::Any).map(|entry| entry.quality);
    let gzip = weight(is_gzip).or(any).unwrap_or(Quality::ZERO);
    let identity = weight(is_identity).unwrap_or(Quality::ZERO);
    if gzip > Quality::ZERO && gzip >= identity { Coding::Gzip } else { Coding::Identity }
}

fn is_gzip(coding: &Encoding) -> bool {
    match coding {
        Encoding::Known(known) => *known == ContentEncoding::Gzip,
        Encoding::Unknown(name) => {
            name.eq_ignore_ascii_case("x-gzip") || name.eq_ignore_ascii_case("gzip")
        }
    }
}

fn is_identity(coding: &Encoding) -> bool {
    match coding {
        Encoding::Known(known) => *known == ContentEncoding::Identity,
        Encoding::Unknown(name) => name.eq_ignore_ascii_case("identity"),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::Header;
    use actix_web::test::TestRequest;

    use super::*;

    fn chosen(accept: &str) -> Coding {
        let request =
            TestRequest::default().insert_header(("accept-encoding", accept)).to_http_request();
        choose(Some(&AcceptEncoding::parse(&request).unwrap()))
    }

    #[test]
    fn who_does_not_say_gets_gzip() {
        assert_eq!(choose(None), Coding::Gzip);
    }

    #[test]
    fn who_accepts_gzip_gets_it() {
        for accept in [
            "gzip",
            "GZIP",
            "x-gzip",
            "deflate, gzip, br, zstd",
            "*",
            "gzip;q=0.1",
            "identity;q=0.2, gzip;q=0.5",
            "br;q=1.0, *;q=0.1",
            "identity;q=0, gzip",
            "gzip, identity",
        ] {
            assert_eq!(chosen(accept), Coding::Gzip, "{accept}");
        }
    }

    #[test]
    fn who_refuses_gzip_does_not_get_it() {
        for accept in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip; q=0, *",
            "*;q=0",
            "identity, *;q=0",
            "deflate, br",
            "identity, gzip;q=0.5",
            "gzip;q=0, identity;q=0",
        ] {
            assert_eq!(chosen(accept), Coding::Identity, "{accept:?}");
        }
    }
}
