//! One request as a line of the access log.

use std::time::Duration;
use std::time::SystemTime;

use crate::observe::access::escape;
use crate::observe::access::stamp;
use crate::observe::negotiated::Negotiated;

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line, for collectors.
    Json,
    /// For a person at a terminal.
    Text,
}

/// A request that has ended. What it does not have is left out of the line.
pub struct Entry<'a> {
    /// When it ended.
    pub at: SystemTime,
    pub request_id: &'a str,
    pub trace_id: Option<&'a str>,
    pub client: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub status: u16,
    /// As in the settings, if it has one.
    pub route: Option<&'a str>,
    /// As in the settings.
    pub upstream: Option<&'a str>,
    /// The address that was asked last.
    pub replica: Option<&'a str>,
    /// How often the request was sent.
    pub tries: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub took: Duration,
    pub held: Duration,
    pub connect: Duration,
    pub first_byte: Duration,
    pub negotiated: Negotiated,
    /// Why the answer is not whole.
    pub broken: Option<&'a str>,
}

impl Entry<'_> {
    /// Appends the line, with its end.
    pub fn write(&self, line: &mut Vec<u8>, form: Form) {
        match form {
            Form::Json => {
                line.extend_from_slice(b"{\"time\":\"");
                stamp::push(line, self.at);
                line.extend_from_slice(b"\",\"target\":\"access\"");
                self.fields(&mut Fields { line, form });
                line.extend_from_slice(b"}\n");
            }
            Form::Text => {
                stamp::push(line, self.at);
                self.fields(&mut Fields { line, form });
                line.push(b'\n');
            }
        }
    }

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.number("status", self.status.into());
        fields.text("method", self.method);
        fields.text("host", self.host);
        fields.text("path", self.path);
        fields.maybe("query", self.query);
        fields.time("ms", self.took);
        fields.number("bytes_in", self.bytes_in);
        fields.number("bytes_out", self.bytes_out);
        fields.text("client", self.client);
        fields.maybe("user_agent", self.user_agent);
        fields.maybe("route", self.route);
        fields.maybe("upstream", self.upstream);
        if let Some(replica) = self.replica {
            fields.text("replica", replica);
            fields.time("connect_ms", self.connect);
            fields.time("first_byte_ms", self.first_byte);
        }
        if self.tries > 1 {
            fields.number("tries", self.tries.into());
        }
        if !self.held.is_zero() {
            fields.time("held_ms", self.held);
        }
        fields.text("protocol", self.negotiated.protocol().as_str());
        fields.text("tls", self.negotiated.tls);
        fields.text("key_exchange", self.negotiated.key_exchange);
        fields.text("request_id", self.request_id);
        fields.maybe("trace_id", self.trace_id);
        fields.maybe("broken", self.broken);
    }
}

/// The fields of one line, in either form. Writing into memory cannot fail.
struct Fields<'a> {
    line: &'a mut Vec<u8>,
    form: Form,
}

impl Fields<'_> {
    fn key(&mut self, key: &'static str) {
        match self.form {
            Form::Json => {
                self.line.extend_from_slice(b",\"");
                self.line.extend_from_slice(key.as_bytes());
                self.line.extend_from_slice(b"\":");
            }
            Form::Text => {
                self.line.push(b' ');
                self.line.extend_from_slice(key.as_bytes());
                self.line.push(b'=');
            }
        }
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        match self.form {
            Form::Json => escape::json(self.line, text),
            Form::Text => escape::word(self.line, text),
        }
    }

    fn maybe(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        self.digits(number);
    }

    /// In milliseconds, to the microsecond.
    fn time(&mut self, key: &'static str, time: Duration) {
        self.key(key);
        self.digits(time.as_millis());
        let part = time.subsec_micros() % 1000;
        self.line.push(b'.');
        self.line.extend_from_slice(&stamp::thousandths(part));
    }

    fn digits(&mut self, number: impl itoa::Integer) {
        self.line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            at: SystemTime::UNIX_EPOCH,
            request_id: "abc",
            trace_id: Some("0af7651916cd43dd8448eb211c80319c"),
            client: "192.0.2.1",
            method: "GET",
            host: "localhost",
            path: "/a\"b\n",
            query: None,
            user_agent: None,
            status: 200,
            route: Some("/a"),
            upstream: Some("a:80"),
            replica: Some("192.0.2.7:80"),
            tries: 1,
            bytes_in: 0,
            bytes_out: 12,
            took: Duration::from_micros(1234),
            held: Duration::ZERO,
            connect: Duration::ZERO,
            first_byte: Duration::from_micros(1001),
            negotiated: Negotiated { tls: "1.3", alpn: "h2", key_exchange: "X25519MLKEM768" },
            broken: None,
        }
    }

    fn written(entry: &Entry<'_>, form: Form) -> String {
        let mut line = Vec::new();
        entry.write(&mut line, form);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object() {
        let expected = concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","target":"access","status":200,"method":"GET","#,
            r#""host":"localhost","path":"/a\"b\u000a","ms":1.234,"bytes_in":0,"bytes_out":12,"#,
            r#""client":"192.0.2.1","route":"/a","upstream":"a:80","replica":"192.0.2.7:80","#,
            r#""connect_ms":0.000,"first_byte_ms":1.001,"protocol":"h2","tls":"1.3","#,
            r#""key_exchange":"X25519MLKEM768","request_id":"abc","#,
            r#""trace_id":"0af7651916cd43dd8448eb211c80319c"}"#,
            "\n"
        );
        assert_eq!(written(&entry(), Form::Json), expected);
    }

    #[test]
    fn what_only_some_requests_have_is_there_for_those() {
        let entry = Entry {
            query: Some("a=b"),
            user_agent: Some("x y"),
            tries: 2,
            held: Duration::from_millis(7),
            broken: Some("the client went away"),
            ..entry()
        };
        let line: serde_json::Value = serde_json::from_str(&written(&entry, Form::Json)).unwrap();
        for (key, expected) in
            [("query", "a=b"), ("user_agent", "x y"), ("broken", "the client went away")]
        {
            assert_eq!(line[key], expected);
        }
        assert_eq!((line["tries"].as_u64(), line["held_ms"].as_f64()), (Some(2), Some(7.0)));
        let text = written(&entry, Form::Text);
        let begins = r#"1970-01-01T00:00:00.000Z status=200 method=GET host=localhost path="/a\"b\u000a" query="a=b" ms=1.234"#;
        assert!(text.starts_with(begins) && text.lines().count() == 1, "{text}");
        assert!(text.ends_with(" broken=\"the client went away\"\n"), "{text}");
    }
}
