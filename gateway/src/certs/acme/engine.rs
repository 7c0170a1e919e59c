//! What the sites of one process share: the servers, the accounts with them, and the bounds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use rustls::crypto::CryptoProvider;
use tokio::sync::Semaphore;

use crate::certs::acme::account::Accounts;
use crate::certs::acme::account::blocking;
use crate::certs::acme::challenges::Challenges;
use crate::certs::acme::client::Client;
use crate::certs::acme::client::Trust;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::Outcome;
use crate::certs::acme::order::Tools;
use crate::certs::acme::order::Wanted;
use crate::certs::acme::settings::Directory;
use crate::certs::acme::settings::Kind;
use crate::certs::acme::settings::Settings;
use crate::certs::acme::state;
use crate::certs::leaf::Pems;
use crate::certs::store;
use crate::config::Config;

/// Orders at once. One that the server lets wait must not hold up all others.
const ORDERS_MAX: usize = 8;

/// The profile for addresses, the only one in which Let's Encrypt certifies them.
const PROFILE_OF_ADDRESSES: &str = "shortlived";

/// One a process.
pub struct Engine {
    pub settings: Settings,
    pub certs: PathBuf,
    /// Who may read the certificates and keys besides us.
    pub group: Option<u32>,
    pub provider: Arc<CryptoProvider>,
    pub challenges: Challenges,
    pub main: Server,
    pub staging: Option<Server>,
    /// This process among those on the volume.
    pub holder: String,
    trust: Trust,
    orders: Semaphore,
}

/// An ACME server, and what is kept of it.
pub struct Server {
    pub directory: Directory,
    pub folder: PathBuf,
    pub accounts: Accounts,
}

impl Engine {
    /// The engine for these settings, with its files below `certs`.
    ///
    /// # Errors
    ///
    /// The setting that is wrong, or when the file of the extra root cannot be used.
    pub fn new(
        config: &Config,
        provider: &Arc<CryptoProvider>,
        challenges: Challenges,
    ) -> Result<Self, String> {
        let (settings, certs) = (Settings::new(config)?, &config.certs);
        let trust = Trust::new(settings.root.as_deref(), Arc::clone(provider))?;
        let holder = chassis::random_id();
        let server = |directory: &Directory, eab| {
            let folder = state::folder(certs, directory.uri());
            let accounts = Accounts::new(directory, settings.email.clone(), eab, &folder, &holder);
            Server { directory: directory.clone(), folder, accounts }
        };
        Ok(Self {
            main: server(&settings.directory, settings.eab.clone()),
            // The key of the one owner is none of the other's.
            staging: settings.staging.as_ref().map(|directory| server(directory, None)),
            certs: certs.clone(),
            group: config.certs_group,
            provider: Arc::clone(provider),
            challenges,
            trust,
            orders: Semaphore::new(ORDERS_MAX),
            settings,
            holder,
        })
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Client {
        Client::new(&self.trust)
    }

    /// Makes the servers' folders.
    ///
    /// # Errors
    ///
    /// What the volume said.
    pub async fn folders(&self) -> Result<(), Failure> {
        let folders = [self.certs.clone(), self.certs.join("sites")];
        let mut closed = vec![self.certs.join("acme"), self.main.folder.clone()];
        closed.extend(self.staging.iter().map(|staging| staging.folder.clone()));
        blocking(move || -> io::Result<()> {
            for folder in folders {
                store::folder(&folder, 0o755)?;
            }
            for folder in closed {
                store::folder(&folder, 0o700)?;
            }
            Ok(())
        })
        .await
    }

    /// A certificate for `names` from `server`.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn order(
        &self,
        server: &Server,
        names: &[String],
        replaces: Option<CertificateIdentifier<'static>>,
        kind: Kind,
    ) -> Result<Pems, Failure> {
        let closed = |_| Failure::new(Outcome::Unreachable, "the process stops");
        let _place = self.orders.acquire().await.map_err(closed)?;
        let mut registered_anew = false;
        loop {
            let client = self.client();
            let account = server.accounts.open(&client).await?;
            let offered: Vec<&str> = account.profiles().map(|profile| profile.name).collect();
            let profile = profile(self.settings.profile.as_deref(), names, &offered)?;
            let tools = Tools {
                account: &account,
                client: &client,
                challenges: &self.challenges,
                provider: &self.provider,
            };
            let wanted = Wanted { names, replaces: replaces.clone(), profile, kind };
            match tools.order(&wanted).await {
                Err(failure) if failure.no_account && !registered_anew => {
                    log::warn!("the ACME account is not known any more: {failure}");
                    server.accounts.forget(account.id()).await?;
                    registered_anew = true;
                }
                done => return done,
            }
        }
    }
}

/// The profile to ask for: the one that is set; for addresses, when the server has one for them, that.
fn profile(
    set: Option<&str>,
    names: &[String],
    offered: &[&str],
) -> Result<Option<String>, Failure> {
    if let Some(set) = set {
        return match offered.contains(&set) {
            true => Ok(Some(set.to_owned())),
            false => {
                let mut offered = offered.to_vec();
                offered.sort_unstable();
                let offered = match offered.is_empty() {
                    true => "none".to_owned(),
                    false => offered.join(", "),
                };
                let text = format!("acme_profile: the server has no `{set}`; it has {offered}");
                Err(Failure::new(Outcome::Rejected, text))
            }
        };
    }
    let address = names.iter().any(|name| name.parse::<std::net::IpAddr>().is_ok());
    let known = offered.contains(&PROFILE_OF_ADDRESSES);
    Ok((address && known).then(|| PROFILE_OF_ADDRESSES.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_the_short_profile_by_itself() {
        for (set, name, offered, expected) in [
            (None, "farm.net", &["classic", "shortlived"][..], Ok(None)),
            (None, "203.0.113.7", &["classic", "shortlived"], Ok(Some("shortlived"))),
            (None, "2001:db8::1", &["shortlived"], Ok(Some("shortlived"))),
            (None, "203.0.113.7", &[], Ok(None)),
            (Some("tlsserver"), "203.0.113.7", &["tlsserver", "shortlived"], Ok(Some("tlsserver"))),
            (Some("tls"), "farm.net", &["b", "a"], Err("it has a, b")),
            (Some("tls"), "farm.net", &[], Err("it has none")),
        ] {
            match (profile(set, &[name.to_owned()], offered), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected),
                (Err(failure), Err(part)) => assert!(failure.text.contains(part), "{failure}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
