//! Bodies on their way in and out.

use bytes::Bytes;
use futures_core::Stream;
use std::pin::Pin;

/// A piece of a request body, already decoded from its transfer coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFrame {
    Data(Bytes),
    /// At most one, the last: trailing headers, names in lower case, verified if they were signed.
    Trailers(Vec<(String, String)>),
}

/// Why a request body ended before it was whole. The write that reads it must leave nothing visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body ended before its declared length")]
    Incomplete,
    #[error("the body is longer than declared")]
    TooLong,
    #[error("the body's chunk framing is malformed")]
    Malformed,
    #[error("a chunk or trailer signature does not match")]
    Signature,
    #[error("the body does not match x-amz-content-sha256")]
    ContentSha256,
    #[error("no bytes of the body arrived in time")]
    Timeout,
    #[error("the client went away")]
    Disconnected,
}

/// An error item ends the stream.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<BodyFrame, BodyError>> + Send>>;

/// Bytes of an object on their way to a client. An error item ends the stream, and the connection must be aborted:
/// what was sent is not the object.
pub type ReadStream = Pin<Box<dyn Stream<Item = Result<Bytes, crate::ObjectError>> + Send>>;
