//! What the gateway tells of itself: metrics, the access log, the admin port.

pub mod access;
pub mod account;
pub mod admin;
pub mod clients;
pub mod counts;
pub mod exposition;
pub mod metrics;
pub mod negotiated;
pub mod scrape;
pub mod seldom;
pub mod series;
pub mod status;
pub mod trip;
