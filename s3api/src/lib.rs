//! The S3 protocol: operation table, authentication, XML and errors.

mod access_log;
mod answer;
pub mod auth;
mod authorise;
pub mod backend;
pub mod body;
mod call;
pub mod error;
mod headers;
pub mod http_date;
mod incoming;
mod metrics;
pub mod operation;
pub mod response_body;
pub mod server;
pub mod service;
pub mod target;
pub mod xml;

pub use backend::Backend;
pub use response_body::ResponseBody;
pub use service::{ConnectionLimits, S3Config, S3Service};
