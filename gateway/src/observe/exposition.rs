//! Puts the metrics of several services into one page, each sample told apart by two labels.
//!
//! Source: the text format, <https://prometheus.io/docs/instrumenting/exposition_formats/>: one
//! `HELP` and `TYPE` a family, and all lines of a family together.

use std::collections::BTreeMap;

/// Families on one page; what comes after them is left out.
const FAMILIES_MAX: usize = 10_000;

/// One page made of many.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<String, Family>,
}

#[derive(Debug, Default)]
struct Family {
    help: Option<String>,
    kind: Option<String>,
    samples: String,
}

impl Page {
    /// Adds the samples in `text`, each with `service` and `instance`. Labels of those names that a
    /// sample already has are kept as `exported_…`, as Prometheus does. Lines that are no
    /// samples are left out.
    pub fn add(&mut self, text: &str, service: &str, instance: &str) {
        let labels = format!("service=\"{}\",instance=\"{}\"", escape(service), escape(instance));
        // The family that the last TYPE line opened: `x_bucket` belongs to histogram `x`.
        let mut open: Option<(String, String)> = None;
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                if let Some(family) = self.family(name) {
                    family.help.get_or_insert_with(|| help.to_owned());
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                if let Some(family) = self.family(name) {
                    let known = family.kind.get_or_insert_with(|| kind.to_owned());
                    if known != kind {
                        // Two services disagree: no type is right for both.
                        "untyped".clone_into(known);
                    }
                }
                open = Some((name.to_owned(), kind.to_owned()));
            } else if !line.starts_with('#')
                && let Some(sample) = Sample::parse(line)
            {
                let name = family_of(sample.name, open.as_ref());
                if let Some(family) = self.family(name) {
                    sample.write(&labels, &mut family.samples);
                }
            }
        }
    }

    /// The page as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut page = String::new();
        for (name, family) in self.families.iter().filter(|(_, f)| !f.samples.is_empty()) {
            if let Some(help) = &family.help {
                page.push_str(&format!("# HELP {name} {help}\n"));
            }
            if let Some(kind) = &family.kind {
                page.push_str(&format!("# TYPE {name} {kind}\n"));
            }
            page.push_str(&family.samples);
        }
        page
    }

    fn family(&mut self, name: &str) -> Option<&mut Family> {
        let room = self.families.len() < FAMILIES_MAX || self.families.contains_key(name);
        (room && is_name(name)).then(|| self.families.entry(name.to_owned()).or_default())
    }
}

/// The family of a sample: itself, or the histogram or summary that it is a part of.
fn family_of<'a>(sample: &'a str, open: Option<&'a (String, String)>) -> &'a str {
    let Some((name, kind)) = open else { return sample };
    let part = sample.strip_prefix(name.as_str());
    match (kind.as_str(), part) {
        ("histogram", Some("_bucket" | "_sum" | "_count"))
        | ("summary", Some("_sum" | "_count")) => name,
        _ => sample,
    }
}

/// `name{labels} value [timestamp]`, cut but not decoded.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    rest: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' ', '\t'])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside.trim_start();
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once('=')?;
                let quoted = after.trim_start().strip_prefix('"')?;
                let length = closing_quote(quoted)?;
                if !is_name(label.trim()) {
                    return None;
                }
                labels.push((label.trim(), &quoted[..length]));
                rest = quoted[length + 1..].trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            rest = &rest[1..];
        }
        let rest = rest.trim();
        let value = rest.split_whitespace().next()?;
        let number = value.parse::<f64>().is_ok() || matches!(value, "+Inf" | "-Inf" | "NaN");
        let words = rest.split_whitespace().count();
        (is_name(name) && number && words <= 2).then_some(Self { name, labels, rest })
    }

    fn write(&self, own: &str, page: &mut String) {
        page.push_str(self.name);
        page.push('{');
        page.push_str(own);
        for (name, value) in &self.labels {
            page.push(',');
            if matches!(*name, "service" | "instance") {
                page.push_str("exported_");
            }
            page.push_str(name);
            page.push_str("=\"");
            page.push_str(value);
            page.push('"');
        }
        page.push_str("} ");
        page.push_str(self.rest);
        page.push('\n');
    }
}

/// Where the quote is that ends a label's value, whose `\"` and `\\` are data.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|c| {
        let end = c == b'"' && !escaped;
        escaped = c == b'\\' && !escaped;
        end
    })
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_' || c == b':')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':')
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_of_two_services_become_one() {
        let mut page = Page::default();
        page.add(
            "# HELP up Is it.\n# TYPE up gauge\nup 1\n\
             # HELP s Time.\n# TYPE s histogram\ns_bucket{le=\"+Inf\"} 2\ns_sum 0.5\ns_count 2\n",
            "dice",
            "10.0.0.1:8080",
        );
        page.add("# HELP up Other.\n# TYPE up gauge\nup{a=\"b\"} 0 1700000000000\n", "say", "x");
        let expected = "\
# HELP s Time.
# TYPE s histogram
s_bucket{service=\"dice\",instance=\"10.0.0.1:8080\",le=\"+Inf\"} 2
s_sum{service=\"dice\",instance=\"10.0.0.1:8080\"} 0.5
s_count{service=\"dice\",instance=\"10.0.0.1:8080\"} 2
# HELP up Is it.
# TYPE up gauge
up{service=\"dice\",instance=\"10.0.0.1:8080\"} 1
up{service=\"say\",instance=\"x\",a=\"b\"} 0 1700000000000
";
        assert_eq!(page.render(), expected);
    }

    #[test]
    fn labels_of_our_names_are_kept_under_another() {
        let mut page = Page::default();
        page.add("m{service=\"a\",instance=\"b\\\"}\",x=\"1\",} 1\n", "s", "i");
        let expected = "m{service=\"s\",instance=\"i\",exported_service=\"a\",\
                        exported_instance=\"b\\\"}\",x=\"1\"} 1\n";
        assert_eq!(page.render(), expected);
    }

    #[test]
    fn two_types_for_one_name_are_no_type() {
        let mut page = Page::default();
        page.add("# TYPE m counter\nm 1\n", "a", "1");
        page.add("# TYPE m gauge\nm 1\n", "b", "2");
        assert!(page.render().starts_with("# TYPE m untyped\n"));
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        let mut page = Page::default();
        let text = "<html>\nm\nm x\nm{a} 1\nm{a=\"b} 1\nm{a=\"b\" 1\n1m 1\nm 1 2 3\n# EOF\n\n";
        page.add(text, "s", "i");
        assert_eq!(page.render(), "");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[\\n{}\"\\\\=, m1])*") {
            let mut page = Page::default();
            page.add(&text, "s", "i");
            page.render();
        }

        #[test]
        fn every_sample_is_there_once(values in prop::collection::vec(0u32..1000, 0..30)) {
            let text: String =
                values.iter().enumerate().map(|(n, v)| format!("m{n} {v}\n")).collect();
            let mut page = Page::default();
            page.add(&text, "s", "i");
            prop_assert_eq!(page.render().lines().count(), values.len());
        }
    }
}
