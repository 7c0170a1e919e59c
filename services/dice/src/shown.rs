//! One face in the form that its client wants: text, a page, or JSON.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::header;
use actix_web::http::header::Accept;
use actix_web::http::header::Header;
use actix_web::http::header::Quality;
use askama::Template;

use crate::face::Face;

/// The page may load nothing and run nothing; its style is its own.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Page,
    Text,
}

#[derive(Template)]
#[template(path = "die.html")]
struct Page {
    face: Face,
}

/// Answers `face` as the request's `Accept` asks; text to who does not care.
pub fn shown(face: Face, request: &HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::VARY, "Accept"));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    match form(Accept::parse(request).ok().as_ref()) {
        Form::Json => response.json(serde_json::json!({ "face": face.number() })),
        Form::Page => page(&mut response, face),
        Form::Text => response.content_type("text/plain; charset=utf-8").body(face.art()),
    }
}

fn page(response: &mut HttpResponseBuilder, face: Face) -> HttpResponse {
    response.insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    match (Page { face }).render() {
        Ok(page) => response.content_type("text/html; charset=utf-8").body(page),
        Err(error) => chassis::Problem::new(500, error.to_string()).into(),
    }
}

/// The best of what the client takes, RFC 9110 §12.5.1.
fn form(accept: Option<&Accept>) -> Form {
    let taken = accept.into_iter().flat_map(|accept| accept.iter());
    let taken = taken.filter(|range| range.quality > Quality::ZERO).cloned().collect();
    let ranked = Accept(taken).ranked();
    let forms = ranked.iter().filter_map(|range| {
        match (range.type_().as_str(), range.subtype().as_str()) {
            ("text", "html") => Some(Form::Page),
            ("application", "json") => Some(Form::Json),
            ("text", "plain") | ("*" | "text", "*") => Some(Form::Text),
            _ => None,
        }
    });
    forms.into_iter().next().unwrap_or(Form::Text)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_form_follows_accept() {
        for (accept, expected) in [
            ("*/*", Form::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Page),
            ("application/json", Form::Json),
            ("text/html;q=0.1, application/json", Form::Json),
            ("text/plain, text/html;q=0.5", Form::Text),
            ("image/png", Form::Text),
            ("application/json;q=0", Form::Text),
            ("text/html;q=0, */*", Form::Text),
            ("nonsense", Form::Text),
        ] {
            let request = TestRequest::default().insert_header(("accept", accept));
            let accept_field = Accept::parse(&request.to_http_request()).ok();
            assert_eq!(form(accept_field.as_ref()), expected, "{accept}");
        }
        assert_eq!(form(None), Form::Text);
    }
}
