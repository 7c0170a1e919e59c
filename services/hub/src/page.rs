//! The front page: what runs here, and the farm as it is now.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use askama::Template;
use percent_encoding::percent_decode_str;

use crate::hub::{Hub, Overview};

/// Places that the page lists; all are at `/api/v1/places`.
const PLACES_MAX: usize = 200;

/// Something that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where, as it goes into the page.
    pub path: String,
    /// What it is called.
    pub title: String,
}

impl Link {
    /// Reads links as the operator writes them: `/dice=Roll_a_die /say/hello%20there=Hear_a_greeting`.
    ///
    /// # Errors
    /// When one has no title, or leads to another kind of address.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        let link = |word: &str| {
            // The title is behind the last sign: a path may have a query.
            let (path, title) =
                word.rsplit_once('=').ok_or_else(|| format!("`{word}` is not PATH=Title"))?;
            let leads = ["/", "https://", "http://"].iter().any(|start| path.starts_with(start));
            if !leads || path.starts_with("//") || title.is_empty() {
                return Err(format!("`{word}` is not PATH=Title with a path or an http address"));
            }
            Ok(Self { path: path.to_owned(), title: title.replace('_', " ") })
        };
        text.split_whitespace().map(link).collect()
    }

    /// The path as people read it.
    fn shown(&self) -> String {
        percent_decode_str(&self.path).decode_utf8_lossy().into_owned()
    }
}

#[derive(Template)]
#[template(path = "front.html")]
struct Front<'a> {
    links: &'a [Link],
    farm: Overview,
    nonce: &'a str,
    version: &'a str,
}

impl Front<'_> {
    fn more(&self) -> usize {
        self.farm.registered - self.farm.places.len()
    }

    fn free(&self) -> usize {
        self.farm.registered - self.farm.reserved
    }
}

/// The page. Its only script asks for the page again while somebody looks at it.
pub fn html(hub: &Hub, links: &[Link]) -> HttpResponse {
    let nonce = chassis::random_id();
    let farm = hub.overview(PLACES_MAX);
    let page = Front { links, farm, nonce: &nonce, version: env!("CARGO_PKG_VERSION") };
    match page.render() {
        Ok(page) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((CONTENT_SECURITY_POLICY, policy(&nonce)))
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((VARY, "Accept"))
            .insert_header(("x-content-type-options", "nosniff"))
            .insert_header(("referrer-policy", "no-referrer"))
            .body(page),
        Err(error) => {
            log::error!("the front page cannot be written: {error}");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Nothing but the page's own style and script, <https://www.w3.org/TR/CSP3/>.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The same for people who use `curl`.
pub fn text(links: &[Link]) -> HttpResponse {
    let mut text = String::from("Hubbub: many tiny services behind one address.\n\n");
    for link in links {
        text.push_str(&format!("{:<28} {}\n", link.path, link.title));
    }
    text.push_str(&format!("{:<28} {}\n", "/api/v1/places", "Boards of the farm, as JSON"));
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((VARY, "Accept"))
        .body(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Shown;

    #[test]
    fn links_are_read_as_the_operator_writes_them() {
        let links =
            Link::read("/dice=Roll_a_die\n /say/hello%20there?a=b=Hear_a_greeting ").unwrap();
        let expected = [("/dice", "Roll a die"), ("/say/hello%20there?a=b", "Hear a greeting")];
        let expected =
            expected.map(|(path, title)| Link { path: path.to_owned(), title: title.to_owned() });
        assert_eq!(links, expected);
        assert_eq!(links[1].shown(), "/say/hello there?a=b");
        for wrong in ["/dice", "dice=Dice", "//evil=x", "javascript:alert(1)=x", "/dice="] {
            assert!(Link::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let name = "<script>alert('x')</script>".to_owned();
        let place = Shown { name, tags: vec!["\"><i>".to_owned()], reserved: true };
        let farm = Overview { places: vec![place], registered: 3, reserved: 1, waiting: 2 };
        let links = Link::read("/dice=<Dice>").unwrap();
        let page = Front { links: &links, farm, nonce: "n", version: "v" }.render().unwrap();
        assert!(
            !page.contains("<script>alert") && !page.contains("<i>") && !page.contains("<Dice>"),
            "{page}"
        );
        assert!(page.contains("2 more"), "{page}");
    }
}
