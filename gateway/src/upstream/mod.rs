//! The side of the services: which replicas there are, and connections to them.

pub mod answer;
pub mod check;
pub mod endpoint;
pub mod exchange;
pub mod health;
pub mod hold;
pub mod http1;
pub mod http2;
pub mod pool;
pub mod replica;
pub mod resolve;
pub mod stream;
pub mod timer;
