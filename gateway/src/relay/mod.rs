//! One request in, one request out, one answer back; and tunnels.

pub mod answer;
pub mod body;
pub mod inbound;
pub mod proxy;
pub mod tunnel;
pub mod upgrade;
