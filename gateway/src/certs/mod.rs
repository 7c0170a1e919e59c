//! Certificates: which sites there are, the private CA, ACME, and what is kept of all of them on disk.

pub mod acme;
pub mod board;
pub mod ca;
pub mod files;
pub mod folder;
pub mod keeper;
pub mod leaf;
pub mod office;
pub mod permitted;
pub mod root;
pub mod sites;
pub mod source;
pub mod store;
pub mod trust;
