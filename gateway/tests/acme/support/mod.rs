//! An ACME server, a gateway in front of it, and clients.

mod authority;
mod gateway;
mod pebble;
mod place;
mod stub;
pub mod upstream;

use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

pub use gateway::Gateway;
pub use gateway::Plan;
pub use gateway::is_private;
pub use gateway::serial;
pub use pebble::Pebble;
pub use place::Place;
pub use stub::Behaviour;
pub use stub::Ordered;
pub use stub::Stub;

/// Longest that a test waits for anything.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until `done` gives something; for events that only asking again can show.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < LONG, "{what}: not within {} s", LONG.as_secs());
        pause();
    }
}

/// Between two looks.
pub fn pause() {
    let (_never, pause) = mpsc::channel::<()>();
    let _: Result<(), mpsc::RecvTimeoutError> = pause.recv_timeout(Duration::from_millis(20));
}
