//! XML of the S3 protocol: a writer for answers and a bounded reader for requests.
//!
//! Owns well-formedness, escaping and limits. Knows no S3 document: operations name their own elements.

mod read;
mod write;

pub use read::{Element, Limits, XmlError, parse};
pub use write::XmlWriter;

/// The namespace of S3's documents.
pub const S3_NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
