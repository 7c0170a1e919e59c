//! A gateway, an upstream and clients.

mod authority;
mod client;
mod gateway;
mod h3;
mod load;
mod upstream;

use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

pub use authority::Authority;
pub use client::Answer;
pub use client::Client;
pub use client::H2;
pub use client::exchange;
pub use client::h2;
pub use client::h2_client;
pub use client::on_h2;
pub use client::read_answer;
pub use client::tls;
pub use gateway::Gateway;
pub use load::Ask;
pub use load::Clients;
pub use load::Load;
pub use load::under_load;
pub use upstream::Call;
pub use upstream::Upstream;

/// Longest that a test waits for anything.
pub const LONG: Duration = Duration::from_secs(20);

/// Waits until `done` gives something; for events that only asking again can show.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let (_never, pause) = mpsc::channel::<()>();
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < LONG, "{what}: not within {} s", LONG.as_secs());
        let _: Result<(), mpsc::RecvTimeoutError> = pause.recv_timeout(Duration::from_millis(20));
    }
}
