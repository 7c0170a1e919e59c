//! What the gateway tells of itself: metrics, the access log, the admin port.

pub mod account;
pub mod admin;
pub mod exposition;
pub mod metrics;
pub mod scrape;
pub mod series;
