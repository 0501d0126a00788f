//! DeleteBucket: only when it is empty.

use crate::{
    answer::Answer,
    call::Call,
    error::{S3Error, S3Result},
};
use http::StatusCode;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let name = call.bucket_name();
    match call.service.backend.delete_bucket(name).await {
        Ok(()) => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        Err(error) => Err(S3Error::from(error).element("BucketName", name.as_str())),
    }
}
