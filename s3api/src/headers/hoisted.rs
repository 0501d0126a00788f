//! Headers that a presigned URL carries in its query.
//!
//! SDKs move `x-amz-*` headers of a presigned request into its query (`x-amz-checksum-crc32`, `x-amz-acl`), where the V4
//! signature covers them. They mean what the header means, so they are read as headers; dropping them silently would
//! ignore what the signer asked for. Only V4 signs the whole query, so only there.

use crate::{
    error::{S3Error, S3Result},
    target::Query,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Parameters of the signature itself.
const OF_THE_SIGNATURE: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Adds the query's headers to `headers`. A header that is there in both places must say the same.
pub(crate) fn hoist(headers: &mut HeaderMap, query: &Query) -> S3Result<()> {
    if !query.has("X-Amz-Signature") {
        return Ok(());
    }
    for (parameter, text) in query.iter() {
        let name = parameter.to_ascii_lowercase();
        if !name.starts_with("x-amz-") || OF_THE_SIGNATURE.contains(&name.as_str()) {
            continue;
        }
        let invalid =
            || S3Error::invalid_argument(parameter, text, "The parameter does not stand for a header.");
        let name = HeaderName::try_from(name).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| invalid())?;
        match headers.get(&name) {
            None => {
                headers.insert(name, value);
            }
            Some(present) if *present == value => {}
            Some(_) => {
                return Err(S3Error::invalid_argument(
                    parameter,
                    text,
                    "The parameter and the header of the same name differ.",
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_query_stands_for_headers() {
        let query = Query::parse("X-Amz-Signature=s&X-Amz-Date=d&x-amz-acl=public-read&prefix=p").unwrap();
        let mut headers = HeaderMap::new();
        hoist(&mut headers, &query).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-amz-acl"], "public-read");
        headers.insert("x-amz-acl", "private".parse().unwrap());
        assert!(hoist(&mut headers, &query).is_err());
    }

    #[test]
    fn an_unsigned_query_stands_for_nothing() {
        let mut headers = HeaderMap::new();
        hoist(&mut headers, &Query::parse("x-amz-copy-source=a&Signature=s").unwrap()).unwrap();
        assert!(headers.is_empty());
    }
}
