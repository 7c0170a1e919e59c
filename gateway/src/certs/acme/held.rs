//! A lease while a task has it.

use time::OffsetDateTime;

use crate::certs::acme::account::blocking;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::lease;
use crate::certs::acme::lease::Lease;

/// A lease that is ours, also where the task ends in the middle: whoever comes next need not wait.
pub struct Held(Option<Lease>);

impl Held {
    /// Of a lease that was just taken.
    pub fn new(lease: &Lease) -> Self {
        Self(Some(lease.clone()))
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// What the volume said.
    pub async fn release(mut self) -> Result<(), Failure> {
        match self.0.take() {
            Some(lease) => blocking(move || lease.give_back()).await,
            None => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.0.take()
            && let Err(error) = lease.give_back()
        {
            log::debug!("a lease is left to end by itself: {error}");
        }
    }
}

/// Keeps the lease while a try takes long.
pub async fn renew(lease: Lease) {
    loop {
        tokio::time::sleep(lease::RENEWAL).await;
        let lease = lease.clone();
        if let Err(failure) = blocking(move || lease.take(OffsetDateTime::now_utc())).await {
            log::warn!("the lease of a site is not renewed: {failure}");
        }
    }
}
