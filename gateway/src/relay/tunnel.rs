//! A WebSocket once it is open: bytes, both ways, until one side ends. The gateway follows its frames
//! only to know where one ends, and sets no time limit on silence: the kernel's keep-alive finds peers
//! that are gone. When the process ends, both sides are told with a close frame of ours.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chassis::Stopping;
use prometheus::IntGauge;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::observe::account::Account;
use crate::relay::upgrade::Upgrade;
use crate::relay::upgrade::Upgraded;
use crate::rules::ws_frames;
use crate::rules::ws_frames::Frames;
use crate::shared::Connection;
use crate::upstream::replica::Load;

/// What is copied at once, each way.
const BUFFER_BYTES: usize = 16 * 1024;

/// Time for the other direction once one has ended.
const LINGER: Duration = Duration::from_secs(10);

/// Time to say goodbye: for the frames that are on their way, and for the peers' answers to ours.
const GOODBYE: Duration = Duration::from_millis(300);

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
        let relay = relay(client, self.upstream, (&up, &down), &shared.ending);
        tokio::select! {
            result = relay => {
                if let Err(error) = result {
                    account.broke(error);
                }
            }
            () = over(&shared.ending) => {}
        }
        if shared.ending.is_stopping() {
            account.broke("the gateway ended");
        }
        account.sent(usize::try_from(down.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    }
}

/// Waits until the time for goodbyes is over.
async fn over(ending: &Stopping) {
    ending.wait().await;
    tokio::time::sleep(GOODBYE).await;
}

/// Copies both ways; `up` and `down` count the bytes from and towards the client.
async fn relay(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    (up, down): (&AtomicU64, &AtomicU64),
    ending: &Stopping,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let upward = copy(client_read, upstream_write, up, ending, Some(rand::random()));
    let downward = copy(upstream_read, client_write, down, ending, None);
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

/// Copies until `from` ends, or `ending` comes and a frame has ended; then a close frame follows it,
/// masked by `mask` towards a service, and what comes after is thrown away.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
    ending: &Stopping,
    mask: Option<[u8; 4]>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut frames = Frames::default();
    let mut ended = pin!(ending.wait());
    let mut last = false;
    while !(last && frames.at_boundary()) {
        let length = tokio::select! {
            biased;
            () = &mut ended, if !last => {
                last = true;
                continue;
            }
            length = from.read(&mut buffer) => length?,
        };
        if length == 0 {
            return to.shutdown().await;
        }
        let mut bytes = &buffer[..length];
        if last {
            bytes = &bytes[..frames.finish_frame(bytes)];
        } else {
            frames.follow(bytes);
        }
        to.write_all(bytes).await?;
        to.flush().await?;
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    if !frames.is_closed() {
        to.write_all(&ws_frames::restart(mask)).await?;
    }
    to.shutdown().await?;
    // A connection that is dropped with bytes unread is reset, and our last frame with it.
    while from.read(&mut buffer).await? > 0 {}
    Ok(())
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
    use tokio::io::DuplexStream;
    use tokio::io::duplex;
    use tokio::sync::watch;

    use super::*;

    /// A message of three bytes.
    const FRAME: [u8; 5] = [0x82, 3, 1, 2, 3];

    /// The far ends of a tunnel's client and service, and the end of all.
    async fn through<Talk: Future<Output = ()>>(
        talk: impl FnOnce(DuplexStream, DuplexStream, watch::Sender<bool>) -> Talk,
    ) -> (io::Result<()>, u64) {
        let (client, client_far) = duplex(64);
        let (service, service_far) = duplex(64);
        let (end, ending) = Stopping::channel();
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let relay = relay(client_far, service_far, (&up, &down), &ending);
        let (relayed, ()) = tokio::join!(relay, talk(client, service, end));
        (relayed, down.into_inner())
    }

    async fn rest(mut from: DuplexStream) -> Vec<u8> {
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.unwrap();
        rest
    }

    #[tokio::test(flavor = "current_thread")]
    async fn bytes_go_both_ways_until_both_have_ended() {
        let (relayed, down) = through(async |mut client, mut service, end| {
            client.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            service.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
            service.write_all(b"pong!").await.unwrap();
            service.shutdown().await.unwrap();
            let mut heard = [0; 5];
            client.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"pong!");
            client.write_all(b"last").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(rest(service).await, b"last");
            assert!(rest(client).await.is_empty());
            drop(end);
        })
        .await;
        relayed.unwrap();
        assert_eq!(down, 5);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_side_that_does_not_end_is_cut_off() {
        let begun = tokio::time::Instant::now();
        let (relayed, _) = through(async |client, service, end| {
            drop(service);
            tokio::time::sleep(LINGER * 2).await;
            drop((client, end));
        })
        .await;
        relayed.unwrap();
        assert!(begun.elapsed() <= LINGER * 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_frame_is_whole_and_ours_comes_after_it() {
        let (relayed, down) = through(async |mut client, mut service, end| {
            service.write_all(&FRAME[..2]).await.unwrap();
            let mut begun = [0; 2];
            client.read_exact(&mut begun).await.unwrap();
            end.send_replace(true);
            // Upwards nothing is on its way: the close frame comes at once, masked.
            let mut closed = [0; 8];
            service.read_exact(&mut closed).await.unwrap();
            let mask: [u8; 4] = closed[2..6].try_into().unwrap();
            assert_eq!(closed[..], ws_frames::restart(Some(mask)));
            // The rest, and a frame too much.
            service.write_all(&FRAME[2..]).await.unwrap();
            service.write_all(&FRAME).await.unwrap();
            drop(service);
            assert_eq!(rest(client).await, [&FRAME[2..], &ws_frames::restart(None)].concat());
        })
        .await;
        relayed.unwrap();
        assert_eq!(down, 5);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_follows_a_close_frame() {
        let (relayed, _) = through(async |mut client, mut service, end| {
            service.write_all(&[0x88, 0]).await.unwrap();
            let mut closed = [0; 2];
            client.read_exact(&mut closed).await.unwrap();
            end.send_replace(true);
            assert!(rest(client).await.is_empty());
            // Towards the service nothing was closed yet.
            let mut closed = [0; 8];
            service.read_exact(&mut closed).await.unwrap();
        })
        .await;
        relayed.unwrap();
    }
}
