//! ListBuckets: the caller's buckets, by name.

use super::page::person;
use crate::{
    answer::Answer,
    call::Call,
    error::{S3Error, S3Result},
    headers::number,
    http_date,
    xml::XmlWriter,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const MAX_BUCKETS: usize = 10_000;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let max = match query.filled("max-buckets") {
        None => MAX_BUCKETS,
        Some(value) => match number::<usize>("max-buckets", value)? {
            max @ 1..=MAX_BUCKETS => max,
            _ => {
                return Err(S3Error::invalid_argument(
                    "max-buckets",
                    value,
                    "max-buckets is between 1 and 10000",
                ));
            }
        },
    };
    let after = match query.filled("continuation-token") {
        None => String::new(),
        Some(token) => {
            URL_SAFE_NO_PAD.decode(token).ok().and_then(|name| String::from_utf8(name).ok()).ok_or_else(
                || {
                    S3Error::invalid_argument(
                        "continuation-token",
                        token,
                        "The continuation token provided is incorrect",
                    )
                },
            )?
        }
    };
    let prefix = query.filled("prefix").unwrap_or_default();
    let region = query.filled("bucket-region");

    let owner = &call.identity.user.id;
    let buckets = call.service.backend.list_buckets(owner).await?;
    let mut rest = buckets.iter().filter(|bucket| {
        bucket.name.as_str() > after.as_str()
            && bucket.name.as_str().starts_with(prefix)
            && region.is_none_or(|region| region == call.service.region_of(bucket))
    });

    let mut xml = XmlWriter::new("ListAllMyBucketsResult");
    person(&mut xml, "Owner", &call, owner);
    xml.open("Buckets");
    let mut last = None;
    for bucket in rest.by_ref().take(max) {
        xml.open("Bucket")
            .element("Name", &bucket.name)
            .element("CreationDate", http_date::format_iso(bucket.created))
            .element("BucketRegion", call.service.region_of(bucket))
            .close();
        last = Some(bucket);
    }
    xml.close();
    if let (Some(last), Some(_)) = (last, rest.next()) {
        xml.element("ContinuationToken", URL_SAFE_NO_PAD.encode(last.name.as_str()));
    }
    xml.optional("Prefix", query.filled("prefix"));
    Ok(Answer::xml(xml))
}
