//! Our account with one ACME server: made once, kept on the volume, and used for every site.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::Account;
use instant_acme::AccountCredentials;
use instant_acme::ExternalAccountKey;
use instant_acme::NewAccount;
use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::certs::acme::client::Client;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::Outcome;
use crate::certs::acme::failure::kind;
use crate::certs::acme::failure::with_nonces;
use crate::certs::acme::lease::Lease;
use crate::certs::acme::settings::Directory;
use crate::certs::acme::settings::Eab;
use crate::certs::store;

/// How long another gateway on the volume may take to make the account.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// What is on the volume.
#[derive(Deserialize)]
struct Kept {
    directory: String,
    email: Option<String>,
    credentials: AccountCredentials,
}

/// The same, to be written.
#[derive(Serialize)]
struct Keeping<'a> {
    directory: &'a str,
    email: Option<&'a str>,
    credentials: &'a AccountCredentials,
}

/// One server's account, for all tasks of the process.
pub struct Accounts {
    directory: Directory,
    email: Option<String>,
    eab: Option<Eab>,
    path: PathBuf,
    lease: Lease,
    /// One task at a time makes or repairs the account.
    turn: tokio::sync::Mutex<()>,
}

impl Accounts {
    /// The account kept in `folder`.
    pub fn new(
        directory: &Directory,
        email: Option<String>,
        eab: Option<Eab>,
        folder: &Path,
        holder: &str,
    ) -> Self {
        Self {
            directory: directory.clone(),
            email,
            eab,
            path: folder.join("account.json"),
            // No host name begins with a dot, so no site has that lease.
            lease: Lease::new(folder, ".account", holder),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The account, made when there is none yet.
    ///
    /// # Errors
    ///
    /// What the server or the volume said.
    pub async fn open(&self, client: &Client) -> Result<Account, Failure> {
        let _turn = self.turn.lock().await;
        if let Some(account) = self.kept(client).await? {
            return Ok(account);
        }
        self.take_lease().await?;
        // Another gateway may have made it while we waited.
        let account = match self.kept(client).await {
            Ok(None) => self.make(client).await,
            Ok(Some(account)) => Ok(account),
            Err(failure) => Err(failure),
        };
        let lease = self.lease.clone();
        // What cannot be given back ends by itself.
        let _: Result<_, _> = blocking(move || lease.give_back()).await;
        account
    }

    /// The account, when there is one already.
    ///
    /// # Errors
    ///
    /// What the server or the volume said.
    pub async fn existing(&self, client: &Client) -> Result<Option<Account>, Failure> {
        let _turn = self.turn.lock().await;
        self.kept(client).await
    }

    /// Sets the account aside when it still is the one that the server does not know.
    ///
    /// # Errors
    ///
    /// What the volume said.
    pub async fn forget(&self, unknown: &str) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let path = self.path.clone();
        let text = blocking(move || store::read(&path)).await?.unwrap_or_default();
        let same = serde_json::from_str::<serde_json::Value>(&text)
            .is_ok_and(|kept| kept["credentials"]["id"] == unknown);
        if same {
            self.set_aside("the server does not know it any more").await?;
        }
        Ok(())
    }

    async fn kept(&self, client: &Client) -> Result<Option<Account>, Failure> {
        let path = self.path.clone();
        let text = match blocking(move || Ok(store::read(&path))).await? {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => text,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(self.volume(&error)),
        };
        let kept = match serde_json::from_str::<Kept>(&text) {
            Ok(kept) if kept.directory == self.directory.url() => kept,
            Ok(kept) => {
                self.set_aside(&format!("it is for {}", kept.directory)).await?;
                return Ok(None);
            }
            Err(error) => {
                self.set_aside(&error.to_string()).await?;
                return Ok(None);
            }
        };
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let opened = builder.from_credentials(kept.credentials).await;
        let account = match opened {
            Ok(account) => account,
            Err(instant_acme::Error::KeyRejected) => {
                self.set_aside("the key cannot be used").await?;
                return Ok(None);
            }
            Err(error) => return Err(Failure::server("the directory", &error, client)),
        };
        if kept.email != self.email {
            self.change_email(&account, text).await;
        }
        Ok(Some(account))
    }

    /// Tells the server the new address. When that fails, the old one does for now.
    async fn change_email(&self, account: &Account, text: String) {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        if let Err(error) = with_nonces!(account.update_contacts(&contact)) {
            log::warn!("the ACME account keeps its old email address: {error}");
            return;
        }
        let Ok(mut kept) = serde_json::from_str::<serde_json::Value>(&text) else { return };
        kept["email"] = self.email.clone().into();
        let (path, text) = (self.path.clone(), kept.to_string());
        if let Err(failure) = blocking(move || store::write(&path, &text, 0o600)).await {
            log::warn!("the ACME account: {failure}");
        }
    }

    async fn make(&self, client: &Client) -> Result<Account, Failure> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let eab = self.eab.as_ref().map(|eab| ExternalAccountKey::new(eab.kid.clone(), &eab.key));
        let builder = || Account::builder_with_http(Box::new(client.clone()));
        let made = with_nonces!(builder().create(&wanted, self.directory.url(), eab.as_ref()));
        let (account, credentials) = made.map_err(|error| {
            let mut failure = Failure::server("newAccount", &error, client);
            if self.eab.is_some() && kind(&error) == "unauthorized" {
                failure.text.push_str("; look at acme_eab_kid and acme_eab_key");
            }
            failure
        })?;
        let directory = self.directory.url();
        let keeping = Keeping {
            directory: &directory,
            email: self.email.as_deref(),
            credentials: &credentials,
        };
        let text = serde_json::to_string_pretty(&keeping)
            .map_err(|error| Failure::new(Outcome::Volume, error))?;
        let path = self.path.clone();
        blocking(move || store::write(&path, &text, 0o600)).await?;
        log::info!("made the account {} with {directory}", account.id());
        Ok(account)
    }

    fn contact(&self) -> Vec<String> {
        self.email.iter().map(|email| format!("mailto:{email}")).collect()
    }

    async fn take_lease(&self) -> Result<(), Failure> {
        let start = tokio::time::Instant::now();
        loop {
            let lease = self.lease.clone();
            if blocking(move || lease.take(OffsetDateTime::now_utc())).await? {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let text = "another gateway makes the ACME account, and does not finish";
                return Err(Failure::new(Outcome::Volume, text));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn set_aside(&self, why: &str) -> Result<(), Failure> {
        let path = self.path.clone();
        if let Some(aside) = blocking(move || store::set_aside(&path, "damaged")).await? {
            let (path, aside) = (self.path.display(), aside.display());
            log::warn!("the ACME account in {path} is not used ({why}): now {aside}");
        }
        Ok(())
    }

    fn volume(&self, error: &std::io::Error) -> Failure {
        Failure::volume(&self.path.display().to_string(), error)
    }
}

/// Runs what asks the disk on a thread of its own: one that hangs must not hold up the others.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    done.map_err(|error| Failure::volume("the volume of certificates", &error))
}
