//! The end of a process: SIGTERM, and who needs to hear of it.

use std::io;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

/// Ends on SIGTERM (which `docker stop` sends) or SIGINT. The handlers are set before this
/// returns, so call it before announcing the address: no signal is lost in between.
///
/// # Errors
///
/// When the handlers cannot be set.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Tells what is long-lived (sockets, background tasks) that the process is stopping.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// The switch and what hears of it. Dropping the switch counts as throwing it.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (switch, stopping) = watch::channel(false);
        (switch, Self(stopping))
    }

    /// Returns once the process is stopping; at once when it already is.
    pub async fn wait(&self) {
        let _: Result<_, watch::error::RecvError> =
            self.0.clone().wait_for(|stopping| *stopping).await.map(|_| ());
    }

    /// True once the process is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}
