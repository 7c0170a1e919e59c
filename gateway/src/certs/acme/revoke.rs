//! `gateway revoke NAME --reason R`: tells the ACME server that a certificate is not to be trusted
//! any more (RFC 8555 §7.6), and sets it aside, so that the running gateway gets a new one.

use std::sync::Arc;

use chassis::Fatal;
use instant_acme::RevocationReason;
use instant_acme::RevocationRequest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certs::acme::challenges::Challenges;
use crate::certs::acme::engine::Engine;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::kind;
use crate::certs::acme::failure::with_nonces;
use crate::certs::acme::volume::Volume;
use crate::certs::leaf::Pems;
use crate::certs::sites;
use crate::certs::sites::Mode;
use crate::config::Config;
use crate::live::sources;

/// The reasons by the names of RFC 5280 §5.3.1; which of them it takes, the server says.
const REASONS: [(&str, RevocationReason); 10] = [
    ("unspecified", RevocationReason::Unspecified),
    ("keyCompromise", RevocationReason::KeyCompromise),
    ("cACompromise", RevocationReason::CaCompromise),
    ("affiliationChanged", RevocationReason::AffiliationChanged),
    ("superseded", RevocationReason::Superseded),
    ("cessationOfOperation", RevocationReason::CessationOfOperation),
    ("certificateHold", RevocationReason::CertificateHold),
    ("removeFromCRL", RevocationReason::RemoveFromCrl),
    ("privilegeWithdrawn", RevocationReason::PrivilegeWithdrawn),
    ("aACompromise", RevocationReason::AaCompromise),
];

/// Revokes the certificate of a site.
///
/// # Errors
///
/// When the arguments are wrong, there is no such certificate, or the server refuses.
pub fn run(config: &Config, arguments: &[String]) -> Result<(), Fatal> {
    let (name, word, reason) = parse(arguments).map_err(Fatal::settings)?;
    let whole = sources::whole(config.clone()).map_err(Fatal::settings)?;
    let sites = sites::configured(&whole).map_err(Fatal::settings)?;
    let site = sites.iter().find(|site| site.names.contains(&name));
    let site = site.filter(|site| site.mode == Mode::Acme).ok_or_else(|| {
        let names = sites.iter().filter(|site| site.mode == Mode::Acme);
        let names: Vec<&str> = names.map(|site| site.name.as_str()).collect();
        let those = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
        Fatal::settings(format!("revoke: {name} is no site with a certificate by ACME: {those}"))
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let engine = Engine::new(config, &provider, Challenges::default()).map_err(Fatal::settings)?;
    let volume = Volume::new(&engine, site);
    let chain = volume.files.chain();
    let pems = volume
        .files
        .read()?
        .ok_or_else(|| Fatal::new("revoke", format!("there is no {}", chain.display())))?
        .map_err(|unfit| Fatal::new(format!("revoke: {}", chain.display()), unfit))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime
        .block_on(tell(&engine, &pems, reason))
        .map_err(|failure| Fatal::new(format!("revoke: {name} is not revoked"), failure))?;
    volume
        .set_revoked_aside(word)
        .map_err(|error| Fatal::new(format!("{told}, but {}", chain.display()), error))?;
    chassis::print(&format!("{name}: {told}; a running gateway gets a new certificate\n"))
}

fn parse(arguments: &[String]) -> Result<(String, &'static str, RevocationReason), String> {
    let (mut name, mut word) = (None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--reason" => {
                word = Some(rest.next().ok_or("revoke: --reason needs a reason")?.clone())
            }
            option if option.starts_with('-') => {
                return Err(format!("revoke: unknown option {option}"));
            }
            _ if name.is_some() => return Err(format!("revoke: one name, not also {argument}")),
            site => name = Some(site.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
    let name = name.ok_or("revoke: which site? gateway revoke NAME --reason REASON")?;
    let known = || REASONS.map(|(word, _)| word).join(", ");
    let word = word.ok_or_else(|| format!("revoke: --reason is one of {}", known()))?;
    let found = REASONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&word));
    let (word, reason) =
        found.ok_or_else(|| format!("revoke: `{word}` is no reason; there are {}", known()))?;
    Ok((name, word, reason))
}

async fn tell(
    engine: &Engine,
    pems: &Pems,
    reason: RevocationReason,
) -> Result<&'static str, Failure> {
    use crate::certs::acme::failure::Outcome;
    let client = engine.client();
    let account = engine.main.accounts.existing(&client).await?.ok_or_else(|| {
        let path = engine.main.folder.join("account.json");
        let text = format!("there is no account in {}", path.display());
        Failure::new(Outcome::Rejected, text)
    })?;
    let certificate = CertificateDer::from_pem_slice(pems.certificate.as_bytes())
        .map_err(|error| Failure::new(Outcome::Rejected, format!("the certificate: {error}")))?;
    let request = RevocationRequest { certificate: &certificate, reason: Some(reason) };
    match with_nonces!(account.revoke(&request)) {
        Ok(()) => Ok("revoked"),
        Err(error) if kind(&error) == "alreadyRevoked" => Ok("it was revoked before"),
        Err(error) => Err(Failure::server("revokeCert", &error, &client)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(String, &'static str), String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        parse(&arguments).map(|(name, word, _)| (name, word))
    }

    #[test]
    fn a_name_and_a_reason_are_needed() {
        let expected = Ok(("farm.net".to_owned(), "keyCompromise"));
        assert_eq!(parsed(&["farm.net", "--reason", "keyCompromise"]), expected);
        assert_eq!(parsed(&["--reason", "KEYCOMPROMISE", "Farm.net."]), expected);
        for (wrong, part) in [
            (&[][..], "which site"),
            (&["farm.net"], "unspecified"),
            (&["farm.net", "--reason"], "needs a reason"),
            (&["farm.net", "--reason", "spite"], "superseded"),
            (&["farm.net", "b.net", "--reason", "superseded"], "one name"),
            (&["--force", "farm.net"], "unknown option"),
        ] {
            let why = parsed(wrong).unwrap_err();
            assert!(why.contains(part), "{wrong:?}: {why}");
        }
    }
}
