//! A WebSocket once it is open: bytes, both ways, until one side ends. The gateway does not look
//! into them, and sets no time limit on silence: the kernel's keep-alive finds peers that are gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::observe::account::Account;
use crate::relay::upgrade::Upgrade;
use crate::relay::upgrade::Upgraded;
use crate::shared::Connection;
use crate::upstream::replica::Load;

/// What is copied at once, each way.
const BUFFER_BYTES: usize = 16 * 1024;

/// Time for the other direction once one has ended.
const LINGER: Duration = Duration::from_secs(10);

/// Time for a connection to be handed over after its 101.
const UPGRADE: Duration = Duration::from_secs(10);

/// Two connections that have said 101 to each other.
pub struct Tunnel {
    pub client: Upgrade,
    pub upstream: Upgraded,
    /// The upstream's share of the load.
    pub load: Load,
}

impl Tunnel {
    /// Copies until both directions have ended, or the process does.
    pub async fn run(self, connection: Arc<Connection>, mut account: Account) {
        let shared = Arc::clone(connection.shared());
        let _load = self.load;
        let client = match tokio::time::timeout(UPGRADE, self.client.wait()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return account.broke(error),
            Err(_) => return account.broke("the upgrade was not finished in time"),
        };
        let _open = Count::new(&shared.metrics.tunnels);
        let (up, down) = (Arc::<AtomicU64>::default(), AtomicU64::new(0));
        account.received = Some(Arc::clone(&up));
        let relay = relay(client, self.upstream, &up, &down);
        tokio::select! {
            result = relay => {
                if let Err(error) = result {
                    account.broke(error);
                }
            }
            () = shared.ending.wait() => account.broke("the gateway ended"),
        }
        account.sent(usize::try_from(down.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    }
}

/// Copies both ways; `up` and `down` count the bytes from and towards the client.
async fn relay(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    up: &AtomicU64,
    down: &AtomicU64,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let upward = copy(client_read, upstream_write, up);
    let downward = copy(upstream_read, client_write, down);
    tokio::pin!(upward, downward);
    // A side that broke ends both at once; one that only ended leaves the other its time.
    let other = tokio::select! {
        result = &mut upward => {
            result?;
            tokio::time::timeout(LINGER, downward).await
        }
        result = &mut downward => {
            result?;
            tokio::time::timeout(LINGER, upward).await
        }
    };
    // Who does not end in time is cut off; that is not an error of the tunnel.
    other.unwrap_or(Ok(()))
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Counts one open tunnel.
struct Count(IntGauge);

impl Count {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn bytes_go_both_ways_until_both_have_ended() {
        let (mut client, client_far) = duplex(64);
        let (mut service, service_far) = duplex(64);
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let talk = async move {
            client.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            service.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
            service.write_all(b"pong!").await.unwrap();
            service.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"pong!");
            client.write_all(b"last").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            service.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"last");
        };
        let (relayed, ()) = tokio::join!(relay(client_far, service_far, &up, &down), talk);
        relayed.unwrap();
        assert_eq!((up.into_inner(), down.into_inner()), (8, 5));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_side_that_does_not_end_is_cut_off() {
        let (client, client_far) = duplex(64);
        let (service, service_far) = duplex(64);
        drop(service);
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let relay = relay(client_far, service_far, &up, &down);
        let ended = tokio::time::timeout(LINGER * 2, relay).await;
        assert!(ended.is_ok());
        drop(client);
    }
}
