//! Authentication: who sent a request, proved by AWS Signature Version 4 in the `Authorization` header or in a
//! presigned query (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>).
//!
//! Owns the signature, the clock-skew and expiry rules and the choice of the [`PayloadMode`]. Does not decide what
//! the sender may do, and does not read the body: `body` checks it against the mode.
//! Invariants:
//!  - a [`Verified`] is made by [`verify`] only, so holding one proves that the request was authenticated;
//!  - the canonical request is a function of the decoded path and query and of every header that means something to
//!    S3, so what is handled is what was signed;
//!  - secrets and what is derived from them appear in no error and no `Debug` output, and are compared in constant
//!    time.

mod canonical;
mod chunk;
mod claim;
mod credential;
mod header;
mod hex;
mod payload;
mod query;
pub mod sign;

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use chunk::ChunkSigner;
pub(crate) use hex::decode_32 as decode_signature;
pub use payload::{PayloadMode, Trailer};

use crate::{
    backend::Identities,
    error::{ErrorCode, S3Error, S3Result},
};
use ashlar_runtime::Clock;
use ashlar_types::service::User;
use claim::Claim;
use http::{HeaderMap, HeaderName, request::Parts};
use std::time::Duration;
use subtle::ConstantTimeEq;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The longest life of a presigned request.
pub const PRESIGNED_EXPIRY_MAX: Duration = Duration::from_hours(7 * 24);

/// Settings of authentication.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    pub regions: Regions,
    /// How far a signature's time may be from the server's, either way. S3 says 15 minutes.
    pub clock_skew_max: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { regions: Regions::Any, clock_skew_max: Duration::from_mins(15) }
    }
}

/// Regions that a credential scope may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// The scope's region means nothing here, so all are accepted.
    Any,
    /// This one, or an alias that clients without a configured region send: `auto`, `us-east-1` or none.
    Only(String),
}

impl Regions {
    fn accept(&self, region: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(own) => region == own || matches!(region, "" | "auto" | "us-east-1"),
        }
    }
}

/// How the signature came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    Header,
    Presigned,
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: User,
    pub access_key_id: String,
    pub mode: AuthMode,
}

/// A request whose signature was verified.
#[derive(Debug)]
pub struct Verified<T> {
    inner: T,
    identity: Identity,
    payload: PayloadMode,
}

impl<T> Verified<T> {
    pub fn request(&self) -> &T {
        &self.inner
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn payload(&self) -> &PayloadMode {
        &self.payload
    }

    pub fn into_parts(self) -> (T, Identity, PayloadMode) {
        (self.inner, self.identity, self.payload)
    }
}

/// Authenticates a request by its head alone; the body is untouched. `inner` is what the caller made of the request.
///
/// Cancel-safe: nothing is changed.
pub async fn verify<T>(
    parts: &Parts,
    inner: T,
    identities: &dyn Identities,
    clock: &dyn Clock,
    config: &AuthConfig,
) -> Result<Verified<T>, S3Error> {
    let claim = Claim::read(parts)?;
    claim.check_scope(config)?;
    claim.check_time(clock.wall(), config)?;
    let access_key = identities.access_key(claim.access_key_id()).await?.ok_or_else(|| {
        S3Error::new(ErrorCode::InvalidAccessKeyId).element("AWSAccessKeyId", claim.access_key_id())
    })?;
    let key = claim.credential.signing_key(&access_key.secret);
    let string_to_sign = claim.string_to_sign(parts)?;
    let signature = key.sign(string_to_sign.as_bytes());
    if !bool::from(signature.ct_eq(&claim.signature)) {
        // The canonical request is kept out: it can hold the keys of customer-provided encryption.
        return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)
            .element("AWSAccessKeyId", access_key.id)
            .element("StringToSign", string_to_sign)
            .element("SignatureProvided", hex::encode(&claim.signature)));
    }
    let identity = Identity { user: access_key.user, access_key_id: access_key.id, mode: claim.mode };
    let scope = claim.credential.scope();
    let payload = claim.payload.into_mode(|| ChunkSigner::new(key, claim.timestamp, scope, signature));
    Ok(Verified { inner, identity, payload })
}

/// The one value of a header; more than one could be read differently by two readers.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> S3Result<Option<&'a str>> {
    let refuse = |why: &str| S3Error::invalid_argument(name.as_str(), "", why);
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refuse("The header is there more than once."));
    }
    value.to_str().map(|value| Some(value.trim_ascii())).map_err(|_| refuse("The header is not text."))
}
