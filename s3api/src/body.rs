//! Request bodies: from what the connection delivers to what the client meant.
//!
//! Owns transfer decoding (plain and `aws-chunked`, signed, unsigned, with trailers), the declared length, the body's
//! SHA-256 and the idle limit. Does not compute checksums of objects: those are the data path's.
//! Invariants:
//!  - a stream ends without an error only if the whole body was received, has the declared length and matches every
//!    signature and digest that its [`PayloadMode`] promises; so whoever reads it acts only after its end;
//!  - bytes are passed on before that, as slices of what was received: memory does not grow with the body.

mod chunked;
mod framing;
mod plain;
mod stream;
mod trailer;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use crate::{
    auth::PayloadMode,
    error::{ErrorCode, S3Error},
};
use ashlar_runtime::Clock;
use ashlar_types::{BodyFrame, BodyStream};
use bytes::{Bytes, BytesMut};
use framing::Framing;
use futures_util::StreamExt;
use http::{HeaderMap, header};
use http_body::Body;
use std::{sync::Arc, time::Duration};

/// How long a body may make no progress while somebody waits for it.
pub const IDLE_MAX: Duration = Duration::from_secs(30);

/// Decodes a body; the second value is its decoded length, if it was declared. Nothing is read before the stream is
/// polled.
///
/// Refuses a body without a declared length (411) unless it comes in chunks of the transport, and headers that
/// contradict each other (400).
pub fn decode<B>(
    body: B,
    headers: &HeaderMap,
    payload: PayloadMode,
    clock: Arc<dyn Clock>,
    idle: Duration,
) -> Result<(BodyStream, Option<u64>), S3Error>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let framing = Framing::read(headers, payload, &body.size_hint())?;
    let len = framing.decoded_len();
    Ok((Box::pin(stream::Decoded::new(body, framing.into_decoder(), clock, idle)), len))
}

/// Reads a whole small body, such as an XML document. Trailers are verified and dropped.
pub async fn collect(stream: BodyStream, limit: usize) -> Result<Bytes, S3Error> {
    collect_with_trailers(stream, limit).await.map(|(body, _)| body)
}

/// As [`collect`], with the trailers.
pub async fn collect_with_trailers(
    mut stream: BodyStream,
    limit: usize,
) -> Result<(Bytes, Vec<(String, String)>), S3Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut trailers = Vec::new();
    while let Some(frame) = stream.next().await {
        match frame? {
            BodyFrame::Data(data) => {
                if data.len() > limit - first.len() - rest.len() {
                    return Err(S3Error::new(ErrorCode::MaxMessageLengthExceeded)
                        .element("MaxMessageLengthBytes", limit.to_string())
                        .closing());
                }
                if first.is_empty() {
                    first = data;
                } else {
                    rest.extend_from_slice(&data);
                }
            }
            BodyFrame::Trailers(fields) => trailers = fields,
        }
    }
    if rest.is_empty() {
        return Ok((first, trailers));
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok((whole.freeze(), trailers))
}

/// `Content-Encoding` as the object keeps it: `aws-chunked` was about the transfer. `None`: nothing is left.
pub fn content_encoding_without_aws_chunked(headers: &HeaderMap) -> Option<String> {
    let codings: Vec<&str> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim_ascii)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}
