//! The client's side of Signature Version 4: signs requests that [`super::verify`] accepts.
//!
//! For tools and tests. It shares the canonical form with the verifier; the published examples of AWS pin both.

use super::{
    ALGORITHM, AMZ_CONTENT_SHA256, AMZ_DATE, ChunkSigner, canonical,
    claim::string_to_sign,
    credential::{SERVICE, SigningKey, TERMINAL},
    hex, payload,
};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    http_date,
};
use ashlar_types::Timestamp;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use sha2::{Digest, Sha256};
use std::{fmt, time::Duration};

/// Headers that hops change or that say nothing to S3.
const NEVER_SIGNED: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::EXPECT,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
];

/// Who signs.
#[derive(Clone)]
pub struct SigV4Signer {
    access_key_id: String,
    secret: String,
    region: String,
}

/// What to say about the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedPayload {
    Sha256([u8; 32]),
    Unsigned,
    ChunkedSigned,
    ChunkedSignedTrailer,
    ChunkedUnsignedTrailer,
}

impl SignedPayload {
    pub fn of(body: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(body).into())
    }

    fn line(&self) -> String {
        match self {
            Self::Sha256(digest) => hex::encode(digest),
            Self::Unsigned => payload::UNSIGNED_PAYLOAD.to_owned(),
            Self::ChunkedSigned => payload::CHUNKED.to_owned(),
            Self::ChunkedSignedTrailer => payload::CHUNKED_TRAILER.to_owned(),
            Self::ChunkedUnsignedTrailer => payload::CHUNKED_UNSIGNED_TRAILER.to_owned(),
        }
    }
}

impl fmt::Debug for SigV4Signer {
    /// The secret is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigV4Signer").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl SigV4Signer {
    pub fn new(
        access_key_id: impl Into<String>,
        secret: impl Into<String>,
        region: impl Into<String>,
    ) -> Self {
        Self { access_key_id: access_key_id.into(), secret: secret.into(), region: region.into() }
    }

    /// Signs with the `Authorization` header and returns what signs the chunks of an `aws-chunked` body. Sets
    /// `x-amz-date` and `x-amz-content-sha256`, and `Host` if the URI has an authority; signs all headers there are
    /// but those that hops change. The URI and the headers must be as they are sent.
    ///
    /// Refuses a path or query that is not percent-encoded, and what a header or URI cannot carry.
    pub fn sign<B>(
        &self,
        request: &mut Request<B>,
        now: Timestamp,
        payload: &SignedPayload,
    ) -> S3Result<ChunkSigner> {
        let timestamp = http_date::format_amz(now);
        let line = payload.line();
        set_host(request)?;
        request.headers_mut().insert(AMZ_DATE, value(&timestamp)?);
        request.headers_mut().insert(AMZ_CONTENT_SHA256, value(&line)?);
        let names = signed_headers(request);
        let (scope, key) = self.scope(&timestamp);
        let signature = signature(request, &names, &line, &timestamp, &scope, &key)?;
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            canonical::signed_headers_text(&names),
            hex::encode(&signature)
        );
        request.headers_mut().insert(header::AUTHORIZATION, value(&authorization)?);
        Ok(ChunkSigner::new(key, timestamp, scope, signature))
    }

    /// Signs in the query: whoever has the URI (and sends the headers there are now) may send the request for the
    /// given time.
    pub fn presign<B>(&self, request: &mut Request<B>, now: Timestamp, expires: Duration) -> S3Result<()> {
        let timestamp = http_date::format_amz(now);
        set_host(request)?;
        let names = signed_headers(request);
        let (scope, key) = self.scope(&timestamp);
        let credential = canonical::encode(format!("{}/{scope}", self.access_key_id).as_bytes());
        let signed = canonical::encode(canonical::signed_headers_text(&names).as_bytes());
        append_query(
            request,
            &format!(
                "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={timestamp}\
                 &X-Amz-Expires={}&X-Amz-SignedHeaders={signed}",
                expires.as_secs()
            ),
        )?;
        let signature = signature(request, &names, payload::UNSIGNED_PAYLOAD, &timestamp, &scope, &key)?;
        append_query(request, &format!("{}={}", canonical::SIGNATURE_PARAMETER, hex::encode(&signature)))
    }

    fn scope(&self, timestamp: &str) -> (String, SigningKey) {
        let date = timestamp.split('T').next().unwrap_or_default();
        let scope = format!("{date}/{}/{SERVICE}/{TERMINAL}", self.region);
        (scope, SigningKey::derive(&self.secret, date, &self.region, SERVICE))
    }
}

/// Frames a whole body as `aws-chunked` with signatures. With `trailer`, the request was signed for a signed trailer.
pub fn encode_signed_chunks(
    body: &[u8],
    chunk_len: usize,
    mut signer: ChunkSigner,
    trailer: Option<&[(&str, &str)]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / chunk_len.max(1) * 96 + 512);
    for chunk in body.chunks(chunk_len.max(1)) {
        let signature = hex::encode(&signer.sign_chunk(&Sha256::digest(chunk).into()));
        out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    let signature = hex::encode(&signer.sign_chunk(&Sha256::digest(b"").into()));
    out.extend_from_slice(format!("0;chunk-signature={signature}\r\n").as_bytes());
    if let Some(fields) = trailer {
        let mut canonical = String::new();
        for (name, value) in fields {
            out.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
            canonical += &format!("{name}:{value}\n");
        }
        let signature = hex::encode(&signer.sign_trailer(&Sha256::digest(canonical).into()));
        out.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Frames a whole body as `aws-chunked` with an unsigned trailer.
pub fn encode_unsigned_chunks(body: &[u8], chunk_len: usize, trailer: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 512);
    for chunk in body.chunks(chunk_len.max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailer {
        out.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn signature<B>(
    request: &Request<B>,
    names: &[HeaderName],
    payload: &str,
    timestamp: &str,
    scope: &str,
    key: &SigningKey,
) -> S3Result<[u8; 32]> {
    let digest = canonical::digest(&canonical::Signed {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        signed_headers: names,
        payload,
    })?;
    Ok(key.sign(string_to_sign(timestamp, scope, &digest).as_bytes()))
}

fn signed_headers<B>(request: &Request<B>) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> =
        request.headers().keys().filter(|name| !NEVER_SIGNED.contains(name)).cloned().collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names
}

fn set_host<B>(request: &mut Request<B>) -> S3Result<()> {
    if let Some(authority) = request.uri().authority() {
        let authority = value(authority.as_str())?;
        request.headers_mut().entry(header::HOST).or_insert(authority);
    }
    Ok(())
}

fn append_query<B>(request: &mut Request<B>, parameters: &str) -> S3Result<()> {
    let uri = request.uri();
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let origin = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
        _ => String::new(),
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let signed = format!("{origin}{}{query}{separator}{parameters}", uri.path());
    *request.uri_mut() = Uri::try_from(signed).map_err(|_| S3Error::new(ErrorCode::InvalidURI))?;
    Ok(())
}

/// Fails for a key id or region that no header can carry.
fn value(text: &str) -> S3Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(|_| {
        S3Error::new(ErrorCode::InvalidArgument)
            .message("The key id or the region cannot be put into a header.")
    })
}
