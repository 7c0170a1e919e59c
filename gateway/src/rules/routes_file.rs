//! The routes file: routes as tables of TOML, strict to the letter.
//!
//! ```toml
//! [[route]]
//! at = "/coin"               # [HOST]/PREFIX
//! to = "http://coin:8080"    # as in the setting `routes`
//! body_bytes_max = 1000000   # may be left out, like all that follows
//! check = "/healthz"
//! answer_s = 60
//! idle_s = 120
//!
//! [[site]]                   # a certificate of your own, as in the setting `sites`; or, instead of
//!                            # the files, `mode = "acme"` or `mode = "internal"`
//! names = ["coin.example"]
//! chain = "/etc/hubbub/coin.pem"
//! key = "/etc/hubbub/coin.key"
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::certs::sites::given::GivenSite;
use crate::rules::route::Route;
use crate::rules::route::RouteError;
use crate::rules::table::Routes;

/// Largest file that is read.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The largest limit on a body that can be set: beyond all sense, and with room above it.
pub const BODY_BYTES_MAX: u64 = 1 << 50;

/// Longest time that a route can give, in seconds.
const TIME_S_MAX: u64 = 86_400;

/// Longest path of a check.
const CHECK_BYTES_MAX: usize = 1024;

/// Longest text of an error.
const WHY_CHARACTERS_MAX: usize = 300;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutesFile {
    /// In the order of the file.
    pub routes: Vec<Route>,
    /// Which names share a certificate, and where that comes from.
    pub sites: Vec<GivenSite>,
    /// The line on which each route begins.
    lines: Vec<usize>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{why}", key.map_or_else(String::new, |key| format!("{key}: ")))]
pub struct RoutesFileError {
    /// From 1.
    pub line: usize,
    /// The key that it is about; syntax has none, and of an unknown one `why` tells the name.
    pub key: Option<&'static str>,
    /// For people, on one line.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    route: Vec<Spanned<Table>>,
    #[serde(default)]
    site: Vec<GivenSite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    at: Spanned<String>,
    to: Spanned<String>,
    body_bytes_max: Option<Spanned<u64>>,
    check: Option<Spanned<String>>,
    answer_s: Option<Spanned<u64>>,
    idle_s: Option<Spanned<u64>>,
}

/// Reads a file.
///
/// # Errors
///
/// The first thing that is wrong with it. An empty file is a good one.
pub fn parse(text: &str) -> Result<RoutesFile, RoutesFileError> {
    let at = |span: &Range<usize>, key, why: String| RoutesFileError {
        line: line(text, span.start),
        key: Some(key),
        why: one_line(&why),
    };
    if text.len() > FILE_BYTES_MAX {
        let why = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        return Err(RoutesFileError { line: 1, key: None, why });
    }
    let file: File = toml::from_str(text).map_err(|error| RoutesFileError {
        line: line(text, error.span().map_or(0, |span| span.start)),
        key: None,
        why: one_line(error.message()),
    })?;
    let mut found = RoutesFile { sites: file.site, ..RoutesFile::default() };
    let mut taken = BTreeMap::new();
    for table in file.route {
        let begin = line(text, table.span().start);
        let Table { at: from, to, body_bytes_max, check, answer_s, idle_s } = table.into_inner();
        let mut route = Route::new(from.get_ref(), to.get_ref()).map_err(|error| match error {
            RouteError::Upstream(_) => at(&to.span(), "to", error.to_string()),
            _ => at(&from.span(), "at", error.to_string()),
        })?;
        if let Some(other) = taken.insert(route.to_string(), begin) {
            let why = format!("`{route}` is the place of the route on line {other} already");
            return Err(at(&from.span(), "at", why));
        }
        let bounded = |value: Option<Spanned<u64>>, key, least, most| match value {
            Some(value) if *value.get_ref() < least || *value.get_ref() > most => {
                let why = format!("{} is not from {least} to {most}", value.get_ref());
                Err(at(&value.span(), key, why))
            }
            value => Ok(value.map(Spanned::into_inner)),
        };
        route.limits.body_bytes_max = bounded(body_bytes_max, "body_bytes_max", 0, BODY_BYTES_MAX)?;
        let answer_s = bounded(answer_s, "answer_s", 1, TIME_S_MAX)?;
        route.limits.answer = answer_s.map(Duration::from_secs);
        route.limits.idle = bounded(idle_s, "idle_s", 1, TIME_S_MAX)?.map(Duration::from_secs);
        if let Some(check) = check {
            if !is_path(check.get_ref()) {
                let why = format!("`{}` is not a path such as /healthz", check.get_ref());
                return Err(at(&check.span(), "check", why));
            }
            route.check = Some(check.into_inner());
        }
        found.routes.push(route);
        found.lines.push(begin);
    }
    Ok(found)
}

impl RoutesFile {
    /// The table of the routes of the settings and of this file.
    ///
    /// # Errors
    ///
    /// When a route of the file claims what one of the settings has, or does not fit the others.
    pub fn over(&self, settings: &Routes) -> Result<Routes, RoutesFileError> {
        settings.with(&self.routes).map_err(|error| {
            let (name, why) = match &error {
                RouteError::Twice(name) => {
                    let why = format!("`{name}` is a route of the setting `routes` already");
                    (name.as_str(), why)
                }
                RouteError::Checks(name) => (name.as_str(), error.to_string()),
                _ => ("", error.to_string()),
            };
            let index = self.routes.iter().position(|route| route.to_string() == name);
            let key = if matches!(error, RouteError::Checks(_)) { "check" } else { "at" };
            RoutesFileError { line: index.map_or(1, |n| self.lines[n]), key: Some(key), why }
        })
    }
}

/// `text` as one line of a log, however long and whatever is in it.
fn one_line(text: &str) -> String {
    let shown = text.trim().chars().take(WHY_CHARACTERS_MAX);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A target that fits the head of a request as it is.
fn is_path(text: &str) -> bool {
    text.len() <= CHECK_BYTES_MAX
        && text.starts_with('/')
        && text.bytes().all(|c| c.is_ascii_graphic() && c != b'#')
}

/// The number of the line that `offset` is on, from 1.
fn line(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_read_with_all_that_it_may_say() {
        let text = "# ours\n[[route]]\nat = \"coin.example/\"\nto = \"http://coin:8080,coin2:8080\"\n\
                    body_bytes_max = 0\ncheck = \"/healthz?full\"\nanswer_s = 5\nidle_s = 6\n\
                    [[route]]\nat = '/x/'\nto = 'http://[::1]:1'\n";
        let file = parse(text).unwrap();
        assert_eq!(file.lines, [2, 9]);
        let [coin, x] = &file.routes[..] else { panic!("{file:?}") };
        assert_eq!((coin.to_string(), coin.to.len()), ("coin.example/".to_owned(), 2));
        assert_eq!(coin.check.as_deref(), Some("/healthz?full"));
        assert_eq!(coin.limits.body_bytes_max, Some(0));
        assert_eq!(coin.limits.answer, Some(Duration::from_secs(5)));
        assert_eq!(coin.limits.idle, Some(Duration::from_secs(6)));
        assert_eq!((x.to_string(), x.limits.body_bytes_max), ("/x".to_owned(), None));
        assert_eq!(parse(""), Ok(RoutesFile::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_key() {
        let route = "[[route]]\nat = '/a'\nto = 'http://a:1'\n";
        for (text, expected) in [
            ("[[route]]\nat = '/a'\n", "line 1: missing field `to`"),
            ("\n[[rout]]\n", "line 2: unknown field `rout`"),
            ("x", "line 1: "),
            ("[[route]]\nat = '/a'\nto = ", "line 3: "),
            (
                "[[route]]\nat = '/a'\nto = 'dice:8080'\n",
                "line 3: to: `dice:8080`: the upstream is",
            ),
            ("[[route]]\nat = 'a'\nto = 'http://a:1'\n", "line 2: at: `a`: a route is written"),
            ("[[route]]\nat = 7\nto = 'http://a:1'\n", "line 2: invalid type: integer"),
            (&format!("{route}{route}"), "line 5: at: `/a` is the place of the route on line 1"),
            (&format!("{route}at = '/b'\n"), "line 4: duplicate key"),
            (&format!("{route}colour = 1\n"), "line 4: unknown field `colour`"),
            (&format!("{route}body_bytes_max = -1\n"), "line 4: "),
            (&format!("{route}idle_s = 0\n"), "line 4: idle_s: 0 is not from 1"),
            (&format!("{route}answer_s = 99999\n"), "line 4: answer_s: 99999 is not from 1"),
            (&format!("{route}check = 'healthz'\n"), "line 4: check: `healthz` is not a path"),
            (&format!("{route}check = \"/a\\r\\nX: y\"\n"), "line 4: check: "),
            (&"#".repeat(FILE_BYTES_MAX + 1), "line 1: the file is larger"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:.80}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_settings_routes_stay_and_none_is_claimed_twice() {
        let settings: Routes = "/=http://hub:1".parse().unwrap();
        let file = |text: &str| parse(text).unwrap();
        let coin = file("\n\n[[route]]\nat = '/coin'\nto = 'http://coin:1'\n");
        assert_eq!(coin.over(&settings).unwrap().iter().count(), 2);
        let taken = file("\n\n[[route]]\nat = '/'\nto = 'http://coin:1'\n");
        let error = taken.over(&settings).unwrap_err().to_string();
        assert_eq!(error, "line 3: at: `/` is a route of the setting `routes` already");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _: Result<RoutesFile, RoutesFileError> = parse(&text);
        }

        #[test]
        fn half_a_file_is_refused_or_says_less(cut in 0usize..200) {
            let whole = "[[route]]\nat = '/a'\nto = 'http://a:1'\ncheck = '/é'\n\
                         [[route]]\nat = '/b'\nto = 'http://b:1'\nbody_bytes_max = 1_000\n"
                .replace('é', "ok");
            let part = &whole[..cut.min(whole.len())];
            if let Ok(file) = parse(part) {
                prop_assert!(file.routes.len() <= 2);
                for route in &file.routes {
                    let line = format!("at = '{route}'");
                    prop_assert!(whole.contains(&line));
                }
            }
        }
    }
}
