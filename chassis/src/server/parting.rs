//! The first moment of a stop, in which clients are told to go elsewhere.
//!
//! A server that closes a kept connection may close it just when a request is on its way (RFC 9112
//! §9.5), and only a request that is safe to repeat can be sent again. So no connection is closed that a
//! client has not been told of: new ones are refused, and each answer says `Connection: close`. What
//! is still open after that moment is not in use.

use std::io;
use std::net::Shutdown;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use socket2::SockRef;
use tokio::sync::watch;

use crate::logs;

/// Long enough for a client under load to use each of its connections once more.
const PARTING_MAX: Duration = Duration::from_millis(500);

/// Longest time for the server to accept those who wait, in milliseconds.
const LET_IN_MAX_MS: u32 = 100;

/// What a server needs to part from its clients.
pub(super) struct Parting {
    /// The listening socket of the server, shared with it.
    door: TcpListener,
    open: Open,
}

/// How many connections are open.
#[derive(Clone)]
pub(super) struct Open(Arc<watch::Sender<usize>>);

/// One open connection.
pub(super) struct Counted(Open);

impl Open {
    /// Counts a connection for as long as the result lives.
    pub(super) fn count(&self) -> Counted {
        self.0.send_modify(|open| *open += 1);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

impl Parting {
    pub(super) fn new(listener: &TcpListener) -> io::Result<Self> {
        let door = listener.try_clone()?;
        Ok(Self { door, open: Open(Arc::new(watch::channel(0).0)) })
    }

    pub(super) fn open(&self) -> Open {
        self.open.clone()
    }

    /// Refuses new connections, throws the `switch`, and returns once all connections are closed,
    /// or after a moment (and no more than `drain`).
    pub(super) async fn part(self, switch: &watch::Sender<bool>, drain: Duration) {
        // First the door, as an answer that closes its connection is followed by a new one. Pausing the
        // server would leave connections waiting at the door, for nobody.
        self.let_in().await;
        logs::door_is_shut();
        if let Err(error) = SockRef::from(&self.door).shutdown(Shutdown::Both) {
            log::warn!("new connections are not refused: {error}");
        }
        switch.send_replace(true);
        let mut open = self.open.0.subscribe();
        let all_closed = open.wait_for(|open| *open == 0);
        // When time is up, what is left is the server's to end.
        let _: Result<_, tokio::time::error::Elapsed> =
            tokio::time::timeout(PARTING_MAX.min(drain), all_closed).await.map(|_| ());
    }

    /// Waits, for a moment at most, until nobody is at the door: shutting it resets whom the kernel has
    /// let in and the server not yet.
    async fn let_in(&self) {
        for _ in 0..LET_IN_MAX_MS {
            let mut door = [PollFd::new(self.door.as_fd(), PollFlags::POLLIN)];
            if poll(&mut door, PollTimeout::ZERO) != Ok(1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
