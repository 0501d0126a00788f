//! GetBucketLocation: empty for the default region.

use crate::{answer::Answer, call::Call, error::S3Result, xml::S3_NAMESPACE};

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    // As for HeadBucket: the bucket may have come from a cache.
    call.service.backend.versioning(call.bucket_name()).await?;
    let location = match call.bucket().location.as_str() {
        "us-east-1" => "",
        location => location,
    };
    // The one document whose root holds text.
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint xmlns=\"{S3_NAMESPACE}\">{}</LocationConstraint>",
        quick_xml::escape::escape(location)
    );
    Ok(Answer::document(document.into_bytes()))
}
