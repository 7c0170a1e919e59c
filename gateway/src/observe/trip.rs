//! What happened to a request between the gateway and its upstream; for the access log.

use std::sync::Arc;
use std::time::Duration;

use crate::upstream::replica::Replica;

/// One request's way to an upstream and back. Times of several tries are added up.
#[derive(Debug, Default)]
pub struct Trip {
    /// The replica that was tried last.
    pub replica: Option<Arc<Replica>>,
    /// How often the request was sent.
    pub tries: u32,
    /// Waiting for a live replica.
    pub held: Duration,
    /// Making connections; zero when one was there.
    pub connect: Duration,
    /// From sending the request to the head of the answer.
    pub first_byte: Duration,
}
