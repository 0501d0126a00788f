//! Signature Version 4 in the query: presigned requests, good until they expire.

use super::{
    ALGORITHM, AMZ_CONTENT_SHA256, AuthMode, PRESIGNED_EXPIRY_MAX, canonical,
    claim::{Claim, parse_content_sha256, parse_signed_headers},
    credential::Credential,
    header, hex,
    payload::{ContentSha256, UNSIGNED_PAYLOAD},
    single,
};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    http_date,
};
use http::request::Parts;
use std::time::Duration;

/// The parameters of a query that are about its signature, decoded.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    algorithm: Option<String>,
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    content_sha256: Option<String>,
    security_token: Option<String>,
    /// `AWSAccessKeyId` or `Signature` of version 2.
    version_2: bool,
}

impl Parameters {
    pub(super) fn read(query: &str) -> S3Result<Self> {
        let mut this = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match canonical::decode(name)?.as_slice() {
                b"X-Amz-Algorithm" => &mut this.algorithm,
                b"X-Amz-Credential" => &mut this.credential,
                b"X-Amz-Date" => &mut this.date,
                b"X-Amz-Expires" => &mut this.expires,
                b"X-Amz-SignedHeaders" => &mut this.signed_headers,
                b"X-Amz-Signature" => &mut this.signature,
                b"X-Amz-Content-Sha256" => &mut this.content_sha256,
                b"X-Amz-Security-Token" => &mut this.security_token,
                b"AWSAccessKeyId" | b"Signature" => {
                    this.version_2 = true;
                    continue;
                }
                _ => continue,
            };
            let value = String::from_utf8(canonical::decode(value)?)
                .map_err(|_| malformed("a parameter is not UTF-8."))?;
            if slot.replace(value).is_some() {
                return Err(malformed("a parameter is there more than once."));
            }
        }
        Ok(this)
    }

    /// Whether any parameter claims that the query is signed. Some of them only: malformed, not anonymous.
    pub(super) fn is_signed(&self) -> bool {
        self.version_2
            || [
                &self.algorithm,
                &self.credential,
                &self.signature,
                &self.signed_headers,
                &self.date,
                &self.expires,
            ]
            .iter()
            .any(|parameter| parameter.is_some())
    }
}

pub(super) fn read(parts: &Parts, parameters: &Parameters) -> S3Result<Claim> {
    if parameters.version_2 {
        return Err(header::version_2_is_not_supported());
    }
    let (Some(algorithm), Some(credential), Some(date), Some(expires), Some(signed_headers), Some(signature)) = (
        &parameters.algorithm,
        &parameters.credential,
        &parameters.date,
        &parameters.expires,
        &parameters.signed_headers,
        &parameters.signature,
    ) else {
        return Err(malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
             X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    };
    if parameters.security_token.is_some() {
        return Err(S3Error::new(ErrorCode::InvalidToken));
    }
    if algorithm != ALGORITHM {
        return Err(malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"."));
    }
    let credential = Credential::parse(credential).ok_or_else(|| {
        malformed(
            "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        )
    })?;
    let signed_headers = parse_signed_headers(signed_headers)
        .ok_or_else(|| malformed("X-Amz-SignedHeaders must be header names in lower case, each once."))?;
    let signature =
        hex::decode_32(signature.as_bytes()).ok_or_else(|| S3Error::new(ErrorCode::SignatureDoesNotMatch))?;
    let time = http_date::parse_amz(date).ok_or_else(|| {
        malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\".")
    })?;
    let expires = parse_expires(expires)?;
    let (payload_line, payload) = payload(parts, parameters, &signed_headers)?;
    Ok(Claim {
        mode: AuthMode::Presigned,
        credential,
        signed_headers,
        signature,
        time,
        timestamp: date.clone(),
        expires: Some(expires),
        payload_line,
        payload,
    })
}

pub(super) fn malformed(why: &str) -> S3Error {
    S3Error::new(ErrorCode::AuthorizationQueryParametersError).message(why)
}

/// 1 second to a week. AWS answers 400 out of that range; 403 is what the conformance tests and older releases of S3
/// agree on.
fn parse_expires(text: &str) -> S3Result<Duration> {
    let refuse = |why: &str| S3Error::new(ErrorCode::AccessDenied).message(why);
    let seconds: i64 = text.parse().map_err(|_| malformed("X-Amz-Expires should be a number."))?;
    match u64::try_from(seconds) {
        Err(_) | Ok(0) => Err(refuse("X-Amz-Expires must be positive.")),
        Ok(seconds) if seconds > PRESIGNED_EXPIRY_MAX.as_secs() => {
            Err(refuse("X-Amz-Expires must be less than a week (in seconds); that is, 604800 seconds."))
        }
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// The body of a presigned request is not signed unless its digest is, as a signed header or as a parameter. A header
/// that came unsigned proves nothing, but it still promises the body's digest.
fn payload(
    parts: &Parts,
    parameters: &Parameters,
    signed_headers: &[http::HeaderName],
) -> S3Result<(String, ContentSha256)> {
    let header = single(&parts.headers, &AMZ_CONTENT_SHA256)?;
    let line = match (header, parameters.content_sha256.as_deref()) {
        (Some(header), Some(parameter)) if header != parameter => {
            return Err(S3Error::invalid_argument(
                AMZ_CONTENT_SHA256.as_str(),
                header,
                "The header and the query parameter differ.",
            ));
        }
        (_, Some(parameter)) => parameter,
        (Some(header), None) if signed_headers.contains(&AMZ_CONTENT_SHA256) => header,
        (_, None) => UNSIGNED_PAYLOAD,
    };
    let payload = parse_content_sha256(header.unwrap_or(line))?;
    if payload.is_chunked() && (parse_content_sha256(line)? != payload || payload.has_signed_chunks()) {
        return Err(S3Error::new(ErrorCode::InvalidRequest).message(
            "A presigned request can have aws-chunked payload only if that is signed, and unsigned chunks.",
        ));
    }
    Ok((line.to_owned(), payload))
}
