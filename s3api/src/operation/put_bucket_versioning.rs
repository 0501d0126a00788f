//! PutBucketVersioning.

use crate::{
    answer::Answer,
    call::{Call, Digest},
    error::{ErrorCode, S3Error, S3Result},
};
use ashlar_types::Versioning;
use http::StatusCode;

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let root = call.xml("VersioningConfiguration", Digest::Optional).await?;
    let mfa_delete = root.child("MfaDelete").or_else(|| root.child("MFADelete"));
    if mfa_delete.is_some_and(|mfa_delete| mfa_delete.trimmed() != "Disabled") {
        return Err(S3Error::new(ErrorCode::NotImplemented).element("Element", "MfaDelete"));
    }
    let versioning = match root.child("Status").map(|status| status.trimmed()) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        Some(_) | None => return Err(S3Error::new(ErrorCode::MalformedXML)),
    };
    call.service.backend.set_versioning(call.bucket_name(), versioning).await?;
    Ok(Answer::empty(StatusCode::OK))
}
