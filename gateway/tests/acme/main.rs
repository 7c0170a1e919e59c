//! The real gateway and the real ACME server `pebble`; and where pebble has no such thing (renewal
//! windows, profiles, addresses, rate limits), a small ACME server of our own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod accounts;
mod backoff;
mod full;
mod issue;
mod limits;
mod preflight;
mod profiles;
mod renewal;
mod revocation;
mod settings;
mod sharing;
mod sites;
mod staging;
mod support;
mod windows;
