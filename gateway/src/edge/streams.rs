//! A task for each request of HTTP/2, which can be ended alone: hyper resets the stream of one that is
//! dropped, and the others of its connection go on.

use futures_util::future::AbortHandle;
use futures_util::future::abortable;
use hyper::rt::Executor;

tokio::task_local! {
    static CURRENT: AbortHandle;
}

/// Runs hyper's tasks.
#[derive(Clone, Copy, Debug)]
pub struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let (task, handle) = abortable(future);
        tokio::spawn(CURRENT.scope(handle, task));
    }
}

/// Ends the stream whose task this is; `None` outside of one.
pub fn current() -> Option<AbortHandle> {
    CURRENT.try_with(AbortHandle::clone).ok()
}
