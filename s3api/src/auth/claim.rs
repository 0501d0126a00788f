//! What a request says about its sender and its signature, before any of it is believed.

use super::{
    ALGORITHM, AMZ_CONTENT_SHA256, AMZ_SECURITY_TOKEN, AuthConfig, AuthMode, Regions, canonical,
    credential::{Credential, SERVICE, TERMINAL},
    header, hex,
    payload::ContentSha256,
    query,
};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    http_date,
};
use ashlar_types::Timestamp;
use http::{HeaderName, header as names, request::Parts};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) mode: AuthMode,
    pub(super) credential: Credential,
    /// Sorted, each once.
    pub(super) signed_headers: Vec<HeaderName>,
    pub(super) signature: [u8; 32],
    /// When it was signed, and the text of it that the signature covers.
    pub(super) time: Timestamp,
    pub(super) timestamp: String,
    /// Of presigned requests: how long after `time` they are good.
    pub(super) expires: Option<Duration>,
    /// The last line of the canonical request.
    pub(super) payload_line: String,
    pub(super) payload: ContentSha256,
}

impl Claim {
    pub(super) fn read(parts: &Parts) -> S3Result<Self> {
        let parameters = query::Parameters::read(parts.uri.query().unwrap_or_default())?;
        let mut authorizations = parts.headers.get_all(names::AUTHORIZATION).iter();
        let authorization = authorizations.next();
        if authorizations.next().is_some() || (authorization.is_some() && parameters.is_signed()) {
            return Err(S3Error::invalid_argument(
                "Authorization",
                "",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
            ));
        }
        if parts.headers.contains_key(AMZ_SECURITY_TOKEN) {
            return Err(S3Error::new(ErrorCode::InvalidToken));
        }
        let claim = match authorization.map(http::HeaderValue::to_str) {
            Some(Ok(text)) if !text.trim_ascii().is_empty() => header::read(parts, text.trim_ascii())?,
            Some(Err(_)) => return Err(header::malformed("it is not text")),
            None if parameters.is_signed() => query::read(parts, &parameters)?,
            Some(Ok(_)) | None => return Err(S3Error::new(ErrorCode::AccessDenied)),
        };
        claim.check_coverage(parts)?;
        Ok(claim)
    }

    pub(super) fn access_key_id(&self) -> &str {
        &self.credential.access_key_id
    }

    /// A header that means something to S3 and is not signed could have been added by anyone who saw the request.
    fn check_coverage(&self, parts: &Parts) -> S3Result<()> {
        let must_be_signed =
            |name: &HeaderName| name.as_str().starts_with("x-amz-") && *name != AMZ_CONTENT_SHA256;
        let mut missing: Vec<&str> = parts
            .headers
            .keys()
            .filter(|name| must_be_signed(name))
            .chain([&names::HOST])
            .filter(|name| {
                self.signed_headers.binary_search_by_key(&name.as_str(), HeaderName::as_str).is_err()
            })
            .map(HeaderName::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        Err(S3Error::new(ErrorCode::AccessDenied)
            .message("There were headers present in the request which were not signed")
            .element("HeadersNotSigned", missing.join(", ")))
    }

    pub(super) fn check_scope(&self, config: &AuthConfig) -> S3Result<()> {
        let Credential { date, region, service, terminal, .. } = &self.credential;
        if !self.timestamp.starts_with(date.as_str()) || date.len() != 8 {
            return Err(self.malformed(&format!(
                "Invalid credential date \"{date}\". This date is not the same as X-Amz-Date: \"{}\".",
                self.timestamp
            )));
        }
        if service != SERVICE {
            return Err(
                self.malformed(&format!("incorrect service \"{service}\". This endpoint belongs to \"s3\"."))
            );
        }
        if terminal != TERMINAL {
            return Err(self.malformed(&format!(
                "incorrect terminal \"{terminal}\". This endpoint uses \"aws4_request\"."
            )));
        }
        match &config.regions {
            regions if regions.accept(region) => Ok(()),
            Regions::Only(own) => Err(self
                .malformed(&format!("the region '{region}' is wrong; expecting '{own}'"))
                .element("Region", own)),
            Regions::Any => Ok(()),
        }
    }

    pub(super) fn check_time(&self, now: Timestamp, config: &AuthConfig) -> S3Result<()> {
        let skew_max = config.clock_skew_max;
        let Some(expires) = self.expires else {
            if self.time > now.plus(skew_max) || self.time.plus(skew_max) < now {
                return Err(S3Error::new(ErrorCode::RequestTimeTooSkewed)
                    .element("RequestTime", &self.timestamp)
                    .element("ServerTime", http_date::format_iso(now))
                    .element("MaxAllowedSkewMilliseconds", skew_max.as_millis().to_string()));
            }
            return Ok(());
        };
        if self.time > now.plus(skew_max) {
            return Err(S3Error::new(ErrorCode::AccessDenied)
                .message("Request is not valid yet")
                .element("X-Amz-Date", &self.timestamp)
                .element("ServerTime", http_date::format_iso(now)));
        }
        let end = self.time.plus(expires);
        if end < now {
            return Err(S3Error::new(ErrorCode::AccessDenied)
                .message("Request has expired")
                .element("X-Amz-Expires", expires.as_secs().to_string())
                .element("Expires", http_date::format_iso(end))
                .element("ServerTime", http_date::format_iso(now)));
        }
        Ok(())
    }

    pub(super) fn string_to_sign(&self, parts: &Parts) -> S3Result<String> {
        let digest = canonical::digest(&canonical::Signed {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            signed_headers: &self.signed_headers,
            payload: &self.payload_line,
        })?;
        Ok(string_to_sign(&self.timestamp, &self.credential.scope(), &digest))
    }

    fn malformed(&self, why: &str) -> S3Error {
        match self.mode {
            AuthMode::Header => header::malformed(why),
            AuthMode::Presigned => query::malformed(why),
        }
    }
}

pub(super) fn string_to_sign(timestamp: &str, scope: &str, canonical_digest: &[u8; 32]) -> String {
    format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", hex::encode(canonical_digest))
}

/// `host;x-amz-date`, in any order. `None`: not names in lower case, or one twice.
pub(super) fn parse_signed_headers(text: &str) -> Option<Vec<HeaderName>> {
    let parse = |name: &str| {
        let name = (!name.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(name)?;
        HeaderName::from_bytes(name.as_bytes()).ok()
    };
    let mut names: Vec<HeaderName> = text.split(';').map(parse).collect::<Option<_>>()?;
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.is_sorted_by(|a, b| a != b).then_some(names)
}

pub(super) fn parse_content_sha256(text: &str) -> S3Result<ContentSha256> {
    ContentSha256::parse(text).ok_or_else(|| {
        S3Error::invalid_argument(
            AMZ_CONTENT_SHA256.as_str(),
            text,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_headers_are_sorted_and_unique() {
        let names = parse_signed_headers("x-amz-date;host").unwrap();
        assert_eq!(names, ["host", "x-amz-date"].map(HeaderName::from_static));
        for text in ["", "host;", "host;host", "Host", "host;a b", "host,range"] {
            assert_eq!(parse_signed_headers(text), None, "{text}");
        }
    }
}
