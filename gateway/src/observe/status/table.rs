//! The status as text for a terminal of 80 columns.

use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::observe::status::Site;
use crate::observe::status::Status;

/// Width that running text is broken at.
const COLUMNS: usize = 79;

/// The tables, `now` being the time.
pub fn render(status: &Status, now: OffsetDateTime) -> String {
    let mut page = format!(
        "gateway {}: {} requests in flight, {} WebSockets open\n",
        status.version, status.requests_in_flight, status.tunnels_open
    );
    for warning in &status.warnings {
        paragraph(&mut page, "\nWARNING: ", warning);
    }
    let head = ["SITE", "CERTIFICATE", "ENDS", "RENEWED"].map(str::to_owned);
    let rows = status.sites.iter().map(|site| {
        let ends = site.not_after.as_deref();
        [
            site.name.clone(),
            certificate(site),
            ends.map_or_else(
                || "-".to_owned(),
                |at| format!("{} ({})", day(at), from_now(at, now)),
            ),
            site.renew_at.as_deref().map_or_else(|| "-".to_owned(), |at| from_now(at, now)),
        ]
    });
    table(&mut page, head, rows.collect());
    for site in status.sites.iter().filter(|site| site.last_error.is_some()) {
        let next = site.next_try.as_deref().map(|at| from_now(at, now));
        let next = next.map_or_else(String::new, |at| format!(" Next try {at}."));
        let error = site.last_error.as_deref().unwrap_or_default();
        paragraph(&mut page, &format!("\n{}: ", site.name), &format!("{error}{next}"));
    }
    let head = ["ROUTE", "UPSTREAM"].map(str::to_owned);
    let rows = status.routes.iter().map(|route| [route.route.clone(), route.upstream.clone()]);
    table(&mut page, head, rows.collect());
    let head = ["UPSTREAM", "REPLICA", "LOAD", "STATE"].map(str::to_owned);
    let mut rows = Vec::new();
    for upstream in &status.upstreams {
        if upstream.replicas.is_empty() {
            rows.push([&upstream.name, "none", "-", "no address is known"].map(str::to_owned));
        }
        for replica in &upstream.replicas {
            let load = replica.load.to_string();
            rows.push([
                upstream.name.clone(),
                replica.address.clone(),
                load,
                replica.state.clone(),
            ]);
        }
    }
    table(&mut page, head, rows);
    page
}

/// What is served, and what is wanted where that differs.
fn certificate(site: &Site) -> String {
    match site.source.as_deref() {
        Some(source) if source == site.mode => source.to_owned(),
        Some(source) => format!("{source}, until {}", site.mode),
        None => format!("none yet ({})", site.mode),
    }
}

/// Columns as wide as they must be; the last one's end is left as it is.
fn table<const N: usize>(page: &mut String, head: [String; N], rows: Vec<[String; N]>) {
    page.push('\n');
    let mut widths = [0; N];
    let rows: Vec<[String; N]> =
        std::iter::once(head).chain(rows).map(|row| row.map(|cell| plain(&cell))).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing into memory cannot fail.
            let _: std::fmt::Result = write!(line, "{cell:<width$}  ");
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
}

/// Running text after `head`, broken between words.
fn paragraph(page: &mut String, head: &str, text: &str) {
    let start = page.len() + head.len() - head.trim_start().len();
    page.push_str(head);
    let mut column = page[start..].chars().count();
    for (index, word) in plain(text).split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > COLUMNS {
            page.push_str("\n  ");
            column = 2;
        } else if index > 0 {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += length;
    }
    page.push('\n');
}

/// Errors hold what servers said; none of it drives a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The day of a moment.
fn day(at: &str) -> &str {
    at.split('T').next().unwrap_or(at)
}

/// How far off a moment is, in its largest unit.
fn from_now(at: &str, now: OffsetDateTime) -> String {
    let Ok(at) = OffsetDateTime::parse(at, &Rfc3339) else { return plain(at) };
    let seconds = (at - now).whole_seconds();
    let (count, unit) = match seconds.unsigned_abs() {
        s @ 172_800.. => (s / 86_400, "days"),
        s @ 7_200.. => (s / 3_600, "hours"),
        s @ 120.. => (s / 60, "minutes"),
        s => (s, "seconds"),
    };
    match seconds {
        0.. => format!("in {count} {unit}"),
        _ => format!("{count} {unit} ago"),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::observe::status::Replica;
    use crate::observe::status::Route;
    use crate::observe::status::Upstream;

    fn status() -> Status {
        let text = |text: &str| Some(text.to_owned());
        Status {
            version: "0.1.0".to_owned(),
            warnings: vec!["word ".repeat(30)],
            sites: vec![
                Site {
                    name: "localhost".to_owned(),
                    mode: "internal".to_owned(),
                    source: text("internal"),
                    not_after: text("2027-02-23T10:48:43Z"),
                    renew_at: text("2027-01-24T10:48:43Z"),
                    ..Site::default()
                },
                Site {
                    name: "example.org".to_owned(),
                    mode: "acme".to_owned(),
                    source: text("internal"),
                    not_after: text("2026-11-25T12:30:00Z"),
                    last_error: text("port 80 of\x1b[2J example.org does not answer."),
                    next_try: text("2026-11-25T12:05:00Z"),
                    ..Site::default()
                },
            ],
            routes: vec![Route { route: "/".to_owned(), upstream: "hub:8080".to_owned() }],
            upstreams: vec![
                Upstream {
                    name: "hub:8080".to_owned(),
                    replicas: vec![Replica {
                        address: "172.18.0.5:8080".to_owned(),
                        load: 3,
                        state: "well".to_owned(),
                    }],
                },
                Upstream { name: "say:8080".to_owned(), replicas: Vec::new() },
            ],
            requests_in_flight: 3,
            tunnels_open: 1,
        }
    }

    #[test]
    fn the_page_tells_it_all_in_80_columns() {
        let page = render(&status(), datetime!(2026-11-25 12:00 UTC));
        let expected = "\
gateway 0.1.0: 3 requests in flight, 1 WebSockets open

WARNING: word word word word word word word word word word word word word word
  word word word word word word word word word word word word word word word
  word

SITE         CERTIFICATE           ENDS                        RENEWED
localhost    internal              2027-02-23 (in 89 days)     in 59 days
example.org  internal, until acme  2026-11-25 (in 30 minutes)  -

example.org: port 80 of [2J example.org does not answer. Next try in 5 minutes.

ROUTE  UPSTREAM
/      hub:8080

UPSTREAM  REPLICA          LOAD  STATE
hub:8080  172.18.0.5:8080  3     well
say:8080  none             -     no address is known
";
        assert_eq!(page, expected);
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }

    #[test]
    fn moments_are_told_in_their_largest_unit() {
        let now = datetime!(2026-11-25 12:00 UTC);
        for (at, expected) in [
            ("2026-11-25T12:00:00Z", "in 0 seconds"),
            ("2026-11-25T11:58:01Z", "119 seconds ago"),
            ("2026-11-25T12:02:00Z", "in 2 minutes"),
            ("2026-11-25T09:00:00Z", "3 hours ago"),
            ("2026-12-25T12:00:00Z", "in 30 days"),
            ("soon", "soon"),
        ] {
            assert_eq!(from_now(at, now), expected);
        }
    }
}
