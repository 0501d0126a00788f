//! The S3 protocol: operation table, authentication, XML and errors.

pub mod auth;
pub mod backend;
pub mod body;
pub mod error;
pub mod http_date;
pub mod xml;
