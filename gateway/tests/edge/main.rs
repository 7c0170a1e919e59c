//! The real gateway binary, asked by clients that are not ours, in front of upstreams of the
//! tests' own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod access_log;
mod answers;
mod certificates;
mod clients;
mod drain;
mod extended;
mod files;
mod framing;
mod http3;
mod misbehaving;
mod reload;
mod replaced;
mod replicas;
mod resumption;
mod scrape;
mod slow;
mod status;
mod streams;
mod support;
mod trust;
mod tunnels;
mod upstreams;
mod volume;
