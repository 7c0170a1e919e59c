//! Why there is no new certificate.

use std::io;
use std::time::Duration;

use crate::certs::acme::client::Client;
use crate::certs::acme::client::ClientError;

/// How a try ended; the label `outcome` of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new certificate is in use.
    Issued,
    /// The staging server made one.
    Rehearsed,
    /// Our own check found that the server would not reach us; it was not asked.
    Preflight,
    /// The server could not be reached, or did not answer as an ACME server does.
    Unreachable,
    /// The server said that we ask too often.
    RateLimited,
    /// The server refused, or did not find at a name what we put there.
    Rejected,
    /// The volume cannot be written, so that a certificate would be lost.
    Volume,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Issued,
        Self::Rehearsed,
        Self::Preflight,
        Self::Unreachable,
        Self::RateLimited,
        Self::Rejected,
        Self::Volume,
    ];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Rehearsed => "rehearsed",
            Self::Preflight => "preflight",
            Self::Unreachable => "unreachable",
            Self::RateLimited => "rate_limited",
            Self::Rejected => "rejected",
            Self::Volume => "volume",
        }
    }
}

/// Why a try failed, in words for whoever runs the gateway.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub outcome: Outcome,
    pub text: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The server does not know our account (any more).
    pub no_account: bool,
}

impl Failure {
    /// A failure without further consequences.
    pub fn new(outcome: Outcome, text: impl ToString) -> Self {
        Self { outcome, text: text.to_string(), retry_after: None, no_account: false }
    }

    /// The volume said no.
    pub fn volume(what: &str, error: &io::Error) -> Self {
        Self::new(Outcome::Volume, format!("{what}: {error}; without it nothing is ordered"))
    }

    /// What the server, or the way to it, said to `what`.
    pub fn server(what: &str, error: &instant_acme::Error, client: &Client) -> Self {
        let kind = kind(error);
        let outcome = match error {
            instant_acme::Error::Api(_) if kind == "rateLimited" => Outcome::RateLimited,
            instant_acme::Error::Api(_) => Outcome::Rejected,
            instant_acme::Error::Other(cause) if cause.is::<ClientError>() => Outcome::Unreachable,
            instant_acme::Error::Json(_) => Outcome::Unreachable,
            _ => Outcome::Rejected,
        };
        let remedy = match kind {
            "externalAccountRequired" => "; set acme_eab_kid and acme_eab_key",
            "invalidContact" | "unsupportedContact" => "; look at acme_email",
            "invalidProfile" => "; look at acme_profile",
            _ if outcome == Outcome::Unreachable => "; look at acme_directory and acme_root",
            _ => "",
        };
        // instant-acme's own words for a JSON error say nothing of where it comes from.
        let error = match error {
            instant_acme::Error::Json(_) => "the answer is not ACME's".to_owned(),
            error => error.to_string(),
        };
        Self {
            outcome,
            text: format!("{what}: {error}{remedy}"),
            retry_after: client.refused_for(),
            no_account: false,
        }
    }
}

/// The last word of the problem's type, such as `badNonce` (RFC 8555 §6.7).
pub fn kind(error: &instant_acme::Error) -> &str {
    let instant_acme::Error::Api(problem) = error else { return "" };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default()
}

/// Asks again when the server does not like our nonce: instant-acme gives up after three times,
/// and a server under load, or behind several doors, says so more often. The expression is a future
/// of instant-acme's; a macro, as a closure that borrows could not be sent between threads.
macro_rules! with_nonces {
    ($ask:expr) => {{
        let mut rounds = 1;
        loop {
            match $ask.await {
                Err(error)
                    if rounds < $crate::certs::acme::failure::NONCE_ROUNDS_MAX
                        && $crate::certs::acme::failure::kind(&error) == "badNonce" =>
                {
                    rounds += 1;
                }
                done => break done,
            }
        }
    }};
}
pub(crate) use with_nonces;

/// How often [`with_nonces!`] asks, each time with three nonces.
pub const NONCE_ROUNDS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use std::future::Ready;
    use std::future::ready;

    use instant_acme::Error;

    use super::*;

    fn problem(kind: &str) -> Error {
        let text = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}}"#);
        Error::Api(serde_json::from_str(&text).unwrap())
    }

    #[tokio::test]
    async fn a_nonce_is_asked_for_again_and_not_forever() {
        fn ask(asked: &mut usize, kind: &str, until: usize) -> Ready<Result<(), Error>> {
            *asked += 1;
            ready(if *asked < until { Err(problem(kind)) } else { Ok(()) })
        }
        for (refusal, until, expected) in
            [("badNonce", 10, 10), ("badNonce", usize::MAX, NONCE_ROUNDS_MAX), ("malformed", 10, 1)]
        {
            let mut asked = 0;
            let answered = with_nonces!(ask(&mut asked, refusal, until));
            assert_eq!((asked, answered.is_ok()), (expected, expected == until));
        }
    }

    #[test]
    fn the_server_s_words_are_kept_and_a_remedy_is_added() {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = crate::certs::acme::client::Trust::new(None, provider).unwrap();
        let client = Client::new(&trust);
        for (kind, outcome, expected) in [
            ("rateLimited", Outcome::RateLimited, "no"),
            ("externalAccountRequired", Outcome::Rejected, "acme_eab_kid"),
            ("invalidContact", Outcome::Rejected, "acme_email"),
        ] {
            let failure = Failure::server("newOrder", &problem(kind), &client);
            assert_eq!(failure.outcome, outcome);
            assert!(failure.text.contains(expected) && failure.text.contains(kind), "{failure}");
        }
    }
}
