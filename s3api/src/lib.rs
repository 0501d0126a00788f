//! The S3 protocol: operation table, authentication, XML and errors.

pub mod backend;
