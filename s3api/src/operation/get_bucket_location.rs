//! GetBucketLocation: empty for the default region.

use crate::{answer::Answer, call::Call, error::S3Result, xml::S3_NAMESPACE};

pub(super) fn handle(call: &Call<'_>) -> S3Result<Answer> {
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
