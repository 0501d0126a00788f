//! Signature Version 4 in the `Authorization` header:
//! `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`.

use super::{
    ALGORITHM, AMZ_CONTENT_SHA256, AMZ_DATE, AuthMode,
    claim::{Claim, parse_content_sha256, parse_signed_headers},
    credential::Credential,
    hex, single,
};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    http_date,
};
use http::{header, request::Parts};

pub(super) fn read(parts: &Parts, authorization: &str) -> S3Result<Claim> {
    let (algorithm, fields) = authorization.split_once(' ').unwrap_or((authorization, ""));
    match algorithm {
        ALGORITHM => {}
        "AWS" => return Err(version_2_is_not_supported()),
        _ => return Err(S3Error::invalid_argument("Authorization", "", "Unsupported Authorization Type")),
    }
    let Fields { credential, signed_headers, signature } = Fields::read(fields)?;
    let credential = Credential::parse(credential).ok_or_else(|| {
        malformed(
            "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        )
    })?;
    let signed_headers = parse_signed_headers(signed_headers)
        .ok_or_else(|| malformed("SignedHeaders must be header names in lower case, each once."))?;
    // A signature of another form is no signature of this request, rather than a malformed header.
    let signature =
        hex::decode_32(signature.as_bytes()).ok_or_else(|| S3Error::new(ErrorCode::SignatureDoesNotMatch))?;
    let time = match single(&parts.headers, &AMZ_DATE)? {
        Some(date) => Some(date),
        None => single(&parts.headers, &header::DATE)?,
    };
    let time = time.and_then(|date| http_date::parse_amz(date).or_else(|| http_date::parse_http(date)));
    let time = time.ok_or_else(|| {
        S3Error::new(ErrorCode::AccessDenied)
            .message("AWS authentication requires a valid Date or x-amz-date header")
    })?;
    let payload_line = single(&parts.headers, &AMZ_CONTENT_SHA256)?.ok_or_else(|| {
        S3Error::new(ErrorCode::InvalidRequest)
            .message("Missing required header for this request: x-amz-content-sha256")
    })?;
    Ok(Claim {
        mode: AuthMode::Header,
        credential,
        signed_headers,
        signature,
        time,
        timestamp: http_date::format_amz(time),
        expires: None,
        payload_line: payload_line.to_owned(),
        payload: parse_content_sha256(payload_line)?,
    })
}

pub(super) fn malformed(why: &str) -> S3Error {
    S3Error::new(ErrorCode::AuthorizationHeaderMalformed)
        .message(format!("The authorization header is malformed; {why}"))
}

pub(super) fn version_2_is_not_supported() -> S3Error {
    S3Error::new(ErrorCode::InvalidRequest).message(
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    /// Each exactly once, in any order.
    fn read(text: &'a str) -> S3Result<Self> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) =
                field.trim_ascii().split_once('=').ok_or_else(|| malformed("a field has no value."))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has an unknown field.")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("a field is there more than once."));
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) => {
                Ok(Self { credential, signed_headers, signature })
            }
            _ => Err(malformed("it needs the fields Credential, SignedHeaders and Signature.")),
        }
    }
}
