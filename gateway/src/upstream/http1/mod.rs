//! HTTP/1.1 towards services, without a task or a channel: who serves the client's request writes
//! to the service's connection and reads from it.

pub mod answer;
pub mod call;
pub mod head;
pub mod request;
pub mod send;
