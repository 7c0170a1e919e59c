//! One order, from the names to the certificate (RFC 8555 §7.4). Every wait has an end.

use std::time::Duration;

use instant_acme::Account;
use instant_acme::AuthorizationStatus;
use instant_acme::CertificateIdentifier;
use instant_acme::ChallengeType;
use instant_acme::Error;
use instant_acme::Identifier;
use instant_acme::NewOrder;
use instant_acme::Order;
use instant_acme::OrderStatus;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;
use tokio::time::Instant;

use crate::certs::acme::challenges::Challenges;
use crate::certs::acme::challenges::Out;
use crate::certs::acme::client::Client;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::NONCE_ROUNDS_MAX;
use crate::certs::acme::failure::Outcome;
use crate::certs::acme::failure::kind;
use crate::certs::acme::failure::with_nonces;
use crate::certs::acme::settings::Kind;
use crate::certs::leaf::Pems;

/// For the server to look at our answers, and then to sign.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at an order, unless the server says otherwise.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// The longest that the server may make us wait between two looks.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(30);

/// What is ordered.
pub struct Wanted<'a> {
    pub names: &'a [String],
    /// The certificate that this one replaces (RFC 9773 §5).
    pub replaces: Option<CertificateIdentifier<'static>>,
    pub profile: Option<String>,
    pub kind: Kind,
}

/// With what an order is carried out.
pub struct Tools<'a> {
    pub account: &'a Account,
    pub client: &'a Client,
    pub challenges: &'a Challenges,
    pub provider: &'a CryptoProvider,
}

impl Tools<'_> {
    /// Orders, proves that the names are ours, and gets the certificate.
    ///
    /// # Errors
    ///
    /// What the server said, and to which name.
    pub async fn order(&self, wanted: &Wanted<'_>) -> Result<Pems, Failure> {
        let mut order = self.new_order(wanted).await?;
        // The answers are out as long as this lives.
        let answers = self.answer(&mut order, wanted.kind).await?;
        self.until(&mut order, OrderStatus::Ready).await?;
        drop(answers);
        let (csr, key) = request(wanted.names)?;
        with_nonces!(order.finalize_csr(&csr)).map_err(|error| self.failure("finalize", &error))?;
        self.until(&mut order, OrderStatus::Valid).await?;
        let chain = with_nonces!(order.certificate())
            .map_err(|error| self.failure("the certificate", &error))?
            .ok_or_else(|| Failure::new(Outcome::Rejected, "the order has no certificate"))?;
        Ok(Pems { certificate: chain, key })
    }

    async fn new_order(&self, wanted: &Wanted<'_>) -> Result<Order, Failure> {
        let identifiers: Vec<Identifier> = wanted
            .names
            .iter()
            .map(|name| name.parse().map_or_else(|_| Identifier::Dns(name.clone()), Identifier::Ip))
            .collect();
        let plain = || {
            let order = NewOrder::new(&identifiers);
            match &wanted.profile {
                Some(profile) => order.profile(profile),
                None => order,
            }
        };
        let ordered = match &wanted.replaces {
            None => with_nonces!(self.account.new_order(&plain())),
            Some(replaces) => {
                let order = plain().replaces(replaces.clone());
                match with_nonces!(self.account.new_order(&order)) {
                    Err(error) if is_about_replaces(&error) => {
                        log::debug!("the order replaces nothing: {error}");
                        with_nonces!(self.account.new_order(&plain()))
                    }
                    ordered => ordered,
                }
            }
        };
        ordered.map_err(|error| {
            let mut failure = self.failure("newOrder", &error);
            // Only here is it about the account itself.
            failure.no_account = matches!(kind(&error), "accountDoesNotExist" | "unauthorized");
            failure
        })
    }

    /// Puts an answer out for every name that the server has not seen proof of, and tells it.
    async fn answer(&self, order: &mut Order, first: Kind) -> Result<Vec<Out>, Failure> {
        let mut answers = Vec::new();
        let mut done = 0;
        let mut rounds = 0;
        // An error loses the place in instant-acme's list, not what was fetched of it.
        'again: loop {
            let mut authorizations = order.authorizations();
            let mut index = 0;
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = match authorization {
                    Err(error) if kind(&error) == "badNonce" && rounds < NONCE_ROUNDS_MAX => {
                        rounds += 1;
                        continue 'again;
                    }
                    Err(error) => return Err(self.failure("an authorization", &error)),
                    Ok(authorization) => authorization,
                };
                index += 1;
                if index <= done {
                    continue;
                }
                let name = authorization.identifier().to_string();
                match authorization.status {
                    AuthorizationStatus::Valid => {
                        done = index;
                        continue;
                    }
                    AuthorizationStatus::Pending => {}
                    status => {
                        let text = format!("{name}: the authorization is {status:?}");
                        return Err(Failure::new(Outcome::Rejected, text));
                    }
                }
                let offered = |kind: Kind| {
                    authorization.challenges.iter().any(|c| c.r#type == challenge_type(kind))
                };
                let other = match first {
                    Kind::Http01 => Kind::TlsAlpn01,
                    Kind::TlsAlpn01 => Kind::Http01,
                };
                let kind = [first, other].into_iter().find(|kind| offered(*kind));
                let Some(kind) = kind else {
                    let text = format!("{name}: the server offers neither {first} nor {other}");
                    return Err(Failure::new(Outcome::Rejected, text));
                };
                let challenge = authorization.challenge(challenge_type(kind));
                let mut challenge = challenge.expect("it is among those that are offered");
                let authorized = challenge.key_authorization();
                log::info!("{name}: answers {kind}");
                answers.push(match kind {
                    Kind::Http01 => self.challenges.put_text(&challenge.token, authorized.as_str()),
                    Kind::TlsAlpn01 => self
                        .challenges
                        .put_certificate(&name, authorized.digest().as_ref(), self.provider)
                        .map_err(|why| Failure::new(Outcome::Rejected, why))?,
                });
                let ready = with_nonces!(challenge.set_ready());
                ready.map_err(|error| self.failure(&format!("{name}: {kind}"), &error))?;
                done = index;
            }
            return Ok(answers);
        }
    }

    /// Looks at the order until it is as `wanted`.
    async fn until(&self, order: &mut Order, wanted: OrderStatus) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        let mut pause = LOOK_MIN;
        loop {
            let status = order.state().status;
            if status == wanted {
                return Ok(());
            }
            if status == OrderStatus::Invalid {
                return Err(self.invalid(order).await);
            }
            if Instant::now() > end {
                let text = format!("the order is still {status:?} after {} s", PATIENCE.as_secs());
                return Err(Failure::new(Outcome::Rejected, text));
            }
            let asked = self.client.ask_again_in().unwrap_or_default();
            tokio::time::sleep(pause.max(asked.min(LOOK_AGAIN_MAX))).await;
            pause = (pause * 2).min(LOOK_MAX);
            with_nonces!(look(order)).map_err(|error| self.failure("the order", &error))?;
        }
    }

    /// Why the order came to nothing, as the server tells for each name.
    async fn invalid(&self, order: &mut Order) -> Failure {
        let mut reasons = Vec::new();
        for _ in 0..NONCE_ROUNDS_MAX {
            reasons.clear();
            if let Some(problem) = &order.state().error {
                reasons.push(problem.to_string());
            }
            match told(order, &mut reasons).await {
                Err(error) if kind(&error) == "badNonce" => {}
                _ => break,
            }
        }
        if reasons.is_empty() {
            reasons.push("the order is invalid, and the server does not say why".to_owned());
        }
        let mut failure = Failure::new(Outcome::Rejected, reasons.join("; "));
        failure.retry_after = self.client.refused_for();
        failure
    }

    fn failure(&self, what: &str, error: &Error) -> Failure {
        Failure::server(what, error, self.client)
    }
}

async fn look(order: &mut Order) -> Result<(), Error> {
    order.refresh().await.map(|_| ())
}

/// Adds what went wrong with each name; the states were fetched anew with the order.
async fn told(order: &mut Order, reasons: &mut Vec<String>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let authorization = authorization?;
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|c| c.error.as_ref());
        reasons.extend(problems.map(|problem| format!("{name}: {problem}")));
    }
    Ok(())
}

/// The server does not take our word for what the order replaces: it has been replaced, it is not
/// the server's, or the server knows no such field. The order itself may be fine.
fn is_about_replaces(error: &Error) -> bool {
    match error {
        Error::Unsupported(_) => true,
        Error::Other(cause) => cause.to_string().starts_with("replaces field"),
        error => matches!(kind(error), "alreadyReplaced" | "malformed" | "unauthorized"),
    }
}

fn challenge_type(kind: Kind) -> ChallengeType {
    match kind {
        Kind::Http01 => ChallengeType::Http01,
        Kind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// The request for `names` in DER, and its new key in PEM.
fn request(names: &[String]) -> Result<(Vec<u8>, String), Failure> {
    let make = || {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key)?;
        Ok((csr.der().to_vec(), key.serialize_pem()))
    };
    make().map_err(|error: rcgen::Error| Failure::new(Outcome::Rejected, error))
}
