//! AbortMultipartUpload.

use crate::{answer::Answer, call::Call, error::S3Result};
use http::StatusCode;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let upload = call.upload()?;
    call.service
        .backend
        .abort_upload(call.bucket_name(), call.key(), upload)
        .await
        .map_err(|error| call.about_upload(error))?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}
