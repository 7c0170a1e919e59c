//! A connection that is handed over to a tunnel once its protocol was switched, whichever server
//! or client held it before.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// Bytes both ways, with nothing of HTTP left about them.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection after its upgrade; what its peer sent ahead comes first.
pub type Upgraded = Box<dyn Duplex>;

type Coming = Pin<Box<dyn Future<Output = io::Result<Upgraded>> + Send>>;

/// A connection to come, in the extensions of a request that may be upgraded or of the answer that
/// did it. Clones are one handle (extensions want them): the first to wait gets the connection.
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<Option<Coming>>>);

impl Upgrade {
    /// The connection that `coming` resolves to.
    pub fn new(coming: impl Future<Output = io::Result<Upgraded>> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(coming)))))
    }

    /// The connection, once it is handed over.
    ///
    /// # Errors
    ///
    /// When its holder ended without that, or another clone has it.
    pub async fn wait(self) -> io::Result<Upgraded> {
        // A panic under this lock ends only its connection.
        let coming = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        coming.ok_or_else(ended)?.await
    }
}

impl From<OnUpgrade> for Upgrade {
    fn from(upgrade: OnUpgrade) -> Self {
        Self::new(async {
            let upgraded = upgrade.await.map_err(io::Error::other)?;
            Ok(Box::new(TokioIo::new(upgraded)) as Upgraded)
        })
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Upgrade")
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection ended before its upgrade")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_connection_goes_to_the_first_who_waits() {
        let (mut near, far) = duplex(16);
        let upgrade = Upgrade::new(async { Ok(Box::new(far) as Upgraded) });
        let second = upgrade.clone();
        let mut got = upgrade.wait().await.unwrap();
        assert!(second.wait().await.is_err());
        near.write_all(b"hi").await.unwrap();
        let mut buffer = [0; 2];
        got.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hi");
    }
}
