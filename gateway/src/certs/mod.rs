//! Certificates: the private CA, and what is kept of all of them on disk.

pub mod ca;
pub mod keeper;
pub mod store;
