//! Certificates: which sites there are, the private CA, and what is kept of all of them on disk.

pub mod board;
pub mod ca;
pub mod keeper;
pub mod sites;
pub mod source;
pub mod store;
