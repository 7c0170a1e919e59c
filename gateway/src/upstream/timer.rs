//! A time limit that is set often and hardly ever reached.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::Sleep;

/// One of a connection, for one limit at a time. A later limit costs nothing but a look at the
/// clock: the runtime's timer stays where it is, and goes on to the limit when it is reached.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Timer {
    /// Over after `limit`.
    pub fn new(limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        Self { sleep: Box::pin(tokio::time::sleep_until(deadline)), deadline }
    }

    /// Over after `limit` from now.
    pub fn set(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
        if self.deadline < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(self.deadline);
        }
    }

    /// Ready once it is over.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if self.sleep.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long `timer` takes from now.
    async fn runs(timer: &mut Timer) -> Duration {
        let begun = Instant::now();
        std::future::poll_fn(|context| timer.poll(context)).await;
        begun.elapsed()
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn the_last_limit_counts() {
        let second = Duration::from_secs(1);
        let mut timer = Timer::new(second * 5);
        timer.set(second * 9);
        assert_eq!(runs(&mut timer).await, second * 9);
        timer.set(second * 2);
        assert_eq!(runs(&mut timer).await, second * 2);
        timer.set(second * 8);
        timer.set(second);
        assert_eq!(runs(&mut timer).await, second);
    }
}
